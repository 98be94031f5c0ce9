"""`signal`: handlers are recorded in the simulated process that sets them, and signals that it sends itself,
or that its timer sends it, reach them.

The real handlers stay, so Ctrl-C still interrupts a campaign. A signal to another process, or one whose
default action would end the process, escapes.
"""

from __future__ import annotations

import _thread
import errno
import functools
import math
import os
import signal as _signal
import sys
from typing import Any

from simloop.kernel.clock import SECOND
from simloop.kernel.errors import fail
from simloop.kernel.process import Process
from simloop.kernel.processes import IGNORED, INIT_PID, meant
from simloop.kernel.threads import later
from simloop.network.world import World
from simloop.shims import active

_real_signal = _signal.signal
_real_getsignal = _signal.getsignal
_real_set_wakeup_fd = _signal.set_wakeup_fd
_real_siginterrupt = _signal.siginterrupt
_real_alarm = _signal.alarm
_real_setitimer = _signal.setitimer
_real_getitimer = _signal.getitimer
_real_raise_signal = _signal.raise_signal
_real_interrupt_main = _thread.interrupt_main
_real_kill = os.kill
_real_killpg = os.killpg


def signal(signalnum: int, handler: Any) -> Any:
    world = active.world()
    if world is None:
        return _real_signal(signalnum, handler)
    number = _number(signalnum)
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
    number = _number(signalnum)
    default: Any = _signal.default_int_handler if number == _signal.SIGINT else _signal.SIG_DFL
    return world.current.signal_handlers.get(number, default)


def _number(signalnum: int) -> int:
    # Real-time signals between SIGRTMIN and SIGRTMAX have no member in the enumeration.
    if not 0 < signalnum < _signal.NSIG:
        raise ValueError("signal number out of range")
    return int(signalnum)


def raise_signal(signalnum: int, /) -> None:
    world = active.world()
    if world is None:
        _real_raise_signal(signalnum)
    else:
        _deliver(world, _number(signalnum))


def interrupt_main(signum: int = _signal.SIGINT, /) -> None:
    world = active.world()
    if world is None:
        _real_interrupt_main(_signal.Signals(signum))
    elif callable(getsignal(signum)):  # otherwise nothing happens, as documented
        _deliver(world, _number(signum))


def kill(pid: int, sig: int, /) -> None:
    world = active.world()
    if world is None:
        _real_kill(pid, sig)
        return
    if pid == INIT_PID:
        return  # it gets only signals that it has handlers for (kill(2))
    targets = meant(world.processes, world.current, pid)
    if not 0 <= sig < _signal.NSIG:
        raise fail(errno.EINVAL)
    if sig == 0:
        return  # a check whether the process is there
    for process in targets:
        if process is world.current:
            _deliver(world, sig)
        else:
            send(world, process, sig)


def killpg(pgid: int, sig: int, /) -> None:
    world = active.world()
    if world is None:
        _real_killpg(pgid, sig)
    else:
        kill(-pgid if pgid else 0, sig)


def send(world: World, process: Process, number: int) -> None:
    """A signal to another process, which gets it when it comes to that."""
    if process.ended:
        return  # a zombie takes everything

    def arrive() -> None:
        if process.ended or process.dead:
            return
        previous, world.current = world.current, process
        try:
            _take(world, process, number)
        finally:
            world.current = previous

    later(process, world.scheduler, "signal", f"{process.name} {_signal.Signals(number).name}", process, arrive)


def _take(world: World, process: Process, number: int) -> None:
    handler = process.signal_handlers.get(number, _signal.SIG_DFL)
    if number == _signal.SIGKILL or (handler == _signal.SIG_DFL and number not in IGNORED):
        if process is world.root:
            raise active.escape(
                f"{_signal.Signals(number).name} without a handler, which would end the test", "set a handler for it"
            )
        world.kill(process, number)
    elif callable(handler):
        loop: Any = process.loop
        if loop is not None and number in getattr(loop, "_signal_handlers", ()):
            loop.call_soon_threadsafe(loop._handle_signal, number)
        elif loop is not None:
            # Between two instructions of its main thread: before it goes on with anything else.
            loop.call_soon_threadsafe(handler, number, None)


def _deliver(world: World, number: int) -> None:
    """A signal to the current process, from itself. CPython calls a handler between two instructions of
    the main thread, and the one who sends himself a signal is interrupted before the next."""
    handler = getsignal(number)
    if handler == _signal.SIG_IGN or (handler == _signal.SIG_DFL and number in IGNORED):
        return
    if not callable(handler):
        name = _signal.Signals(number).name
        raise active.escape(f"{name} without a handler, which would end the process", "set a handler for it")
    for loop in world.scheduler.loops:
        if loop.process is world.current and number in getattr(loop, "_signal_handlers", ()):
            # asyncio's own way: the number goes through the self-pipe, which the next poll finds readable.
            handle = functools.partial(loop._handle_signal, number)  # type: ignore[attr-defined]
            world.scheduler.at(world.scheduler.clock.now, handle)
    if world.threads.get(_thread.get_ident()) is None:
        handler(number, sys._getframe(2))
    else:
        # Handlers run in the main thread, whoever sent the signal.
        world.scheduler.at(world.scheduler.clock.now, lambda: handler(number, None))


def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    world = active.world()
    if world is None:
        return _real_set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)
    before, world.current.wakeup_fd = world.current.wakeup_fd, fd
    return before


def siginterrupt(signalnum: int, flag: bool, /) -> None:
    if active.world() is None:
        _real_siginterrupt(signalnum, flag)


class _Timer:
    """The interval timer of a process, ITIMER_REAL, which sends it SIGALRM."""

    def __init__(self, world: World, process: Process, seconds: float, interval: float) -> None:
        self._world = world
        self._process = process
        self._interval_ns = round(interval * SECOND)
        self._due_ns = world.scheduler.clock.now + round(seconds * SECOND)
        self._armed = False
        if seconds > 0:
            self._arm()

    def _arm(self) -> None:
        self._armed = True
        self._world.scheduler.at(self._due_ns, self._fire)

    def _fire(self) -> None:
        if not self._armed:
            return
        self._armed = False
        if self._interval_ns:
            self._due_ns += self._interval_ns
            self._arm()
        previous, self._world.current = self._world.current, self._process
        try:
            _deliver(self._world, _signal.SIGALRM)
        finally:
            self._world.current = previous

    def disarm(self) -> None:
        self._armed = False

    def left(self) -> tuple[float, float]:
        """Seconds until it fires, and its interval."""
        left = max(self._due_ns - self._world.scheduler.clock.now, 1_000) if self._armed else 0
        return left / SECOND, self._interval_ns / SECOND if self._armed else 0.0


def alarm(seconds: int, /) -> int:
    if active.world() is None:
        return _real_alarm(seconds)
    left: float = setitimer(_signal.ITIMER_REAL, seconds)[0]
    return math.ceil(left)


def setitimer(which: int, seconds: float, interval: float = 0.0, /) -> Any:
    world = active.world()
    if world is None:
        return _real_setitimer(which, seconds, interval)
    before = getitimer(which)
    if seconds < 0 or interval < 0:
        raise _signal.ItimerError(errno.EINVAL, os.strerror(errno.EINVAL))
    if world.current.timer is not None:
        world.current.timer.disarm()
    world.current.timer = _Timer(world, world.current, seconds, interval)
    return before


def getitimer(which: int, /) -> Any:
    world = active.world()
    if world is None:
        return _real_getitimer(which)
    if which != _signal.ITIMER_REAL:
        raise active.escape("a timer of CPU time", "use signal.ITIMER_REAL, loop.call_later or asyncio.timeout")
    timer: _Timer | None = world.current.timer
    return timer.left() if timer is not None else (0.0, 0.0)


REPLACEMENTS: list[tuple[object, str, object]] = [
    *(
        (_signal, function.__name__, function)
        for function in (
            signal,
            getsignal,
            set_wakeup_fd,
            siginterrupt,
            alarm,
            setitimer,
            getitimer,
            raise_signal,
        )
    ),
    (_thread, "interrupt_main", interrupt_main),
    (os, "kill", kill),
    (os, "killpg", killpg),
]
