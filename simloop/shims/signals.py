"""`signal`: handlers are recorded in the simulated process that sets them.

The real handlers stay, so Ctrl-C still interrupts a campaign. Nothing delivers a simulated signal yet.
"""

from __future__ import annotations

import signal as _signal
from typing import Any

from simloop.shims import active

_real_signal = _signal.signal
_real_getsignal = _signal.getsignal
_real_set_wakeup_fd = _signal.set_wakeup_fd
_real_siginterrupt = _signal.siginterrupt
_real_alarm = _signal.alarm
_real_setitimer = _signal.setitimer


def signal(signalnum: int, handler: Any) -> Any:
    world = active.world()
    if world is None:
        return _real_signal(signalnum, handler)
    number = _signal.Signals(signalnum)
    if number in (_signal.SIGKILL, _signal.SIGSTOP):
        raise OSError(22, "Invalid argument")
    if not callable(handler) and handler not in (_signal.SIG_DFL, _signal.SIG_IGN):
        raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
    before = getsignal(number)
    world.current.signal_handlers[number] = handler
    return before


def getsignal(signalnum: int) -> Any:
    world = active.world()
    if world is None:
        return _real_getsignal(signalnum)
    number = _signal.Signals(signalnum)
    default: Any = _signal.default_int_handler if number == _signal.SIGINT else _signal.SIG_DFL
    return world.current.signal_handlers.get(number, default)


def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    world = active.world()
    if world is None:
        return _real_set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)
    before, world.current.wakeup_fd = world.current.wakeup_fd, fd
    return before


def siginterrupt(signalnum: int, flag: bool, /) -> None:
    if active.world() is None:
        _real_siginterrupt(signalnum, flag)


def alarm(seconds: int, /) -> int:
    if active.world() is not None:
        raise active.escape("signal.alarm", "use loop.call_later or asyncio.timeout")
    return _real_alarm(seconds)


def setitimer(which: int, seconds: float, interval: float = 0.0, /) -> Any:
    if active.world() is not None:
        raise active.escape("signal.setitimer", "use loop.call_later or asyncio.timeout")
    return _real_setitimer(which, seconds, interval)


REPLACEMENTS: list[tuple[object, str, object]] = [
    (_signal, function.__name__, function)
    for function in (signal, getsignal, set_wakeup_fd, siginterrupt, alarm, setitimer)
]
