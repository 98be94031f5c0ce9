"""Shims of `signal`: each simulated process has signal handlers of its own, which are called for signals that simulated
processes send.

The real handlers stay, so Ctrl-C still interrupts a campaign. A signal that would end or stop the test itself raises
`EscapedSimulationError`.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import functools
import math
import os
import signal as _signal
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from simloop.kernel.clock import SECOND
from simloop.kernel.errors import fail
from simloop.kernel.ipc.pipes import End
from simloop.kernel.net.sockets import Socket
from simloop.kernel.process.delays import SEEN, schedule_delayed
from simloop.kernel.process.exits import INIT_PID, signal_targets
from simloop.kernel.process.process import Process, State
from simloop.kernel.process.signals import Effects, deliver_pending, disposition, generate, name_of, set_mask
from simloop.shims.late import real
from simloop.sources import calling_frame
from simloop.world import active, lives

if TYPE_CHECKING:
    from simloop.world.world import World

_real = {**real(__name__, _signal), **real(__name__, _thread), **real(__name__)}


def signal(signalnum: int, handler: Any) -> Any:
    world = active.world()
    if world is None:
        return _real["signal"](signalnum, handler)
    if world.threads.get(_thread.get_ident()) is not None:
        raise ValueError("signal only works in main thread of the main interpreter")
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
        return _real["getsignal"](signalnum)
    return _handler(world.current, _number(signalnum))


def _handler(process: Process, number: int) -> Any:
    """Return the disposition of a signal in a process: the handler that the program has set, or the default. For SIGINT
    the default is the handler of `asyncio.run`, which runs each main function (Lib/asyncio/runners.py)."""
    loop: Any = process.loop
    if (
        number == _signal.SIGINT
        and number not in process.signal_handlers
        and getattr(loop, "main_task", None) is not None
    ):
        return loop.interrupt
    return disposition(process, number)


def _number(signalnum: int) -> int:
    # Real-time signals between SIGRTMIN and SIGRTMAX have no member in the enumeration.
    if not 0 < signalnum < _signal.NSIG:
        raise ValueError("signal number out of range")
    return int(signalnum)


# --- sending --------------------------------------------------------------------------------------------


def raise_signal(signalnum: int, /) -> None:
    world = active.world()
    if world is None:
        _real["raise_signal"](signalnum)
    else:
        send(world, world.current, _number(signalnum))
        _deliver_to_self(world)


def pthread_kill(thread_id: int, signalnum: int, /) -> None:
    # Handlers run in the main thread, whichever thread is meant.
    if active.world() is None:
        _real["pthread_kill"](thread_id, signalnum)
    elif signalnum:
        raise_signal(signalnum)


def interrupt_main(signum: int = _signal.SIGINT, /) -> None:
    world = active.world()
    if world is None:
        _real["interrupt_main"](_signal.Signals(signum))
    elif callable(getsignal(signum)):  # otherwise nothing happens, as documented
        raise_signal(signum)


def kill(pid: int, sig: int, /) -> None:
    world = active.world()
    if world is None:
        _real["kill"](pid, sig)
        return
    if pid == INIT_PID:
        return  # it gets only signals that it has handlers for (kill(2))
    targets = signal_targets(world.current, pid)
    if not 0 <= sig < _signal.NSIG:
        raise fail(errno.EINVAL)
    if sig == 0:
        return  # a check whether the process is there
    # "at least one signal is delivered to the sending thread before kill() returns": the sender is the last to get it,
    # since it may not live to send it to the others.
    for process in sorted(targets, key=lambda process: process is world.current):
        send(world, process, sig)
    _deliver_to_self(world)


def killpg(pgid: int, sig: int, /) -> None:
    world = active.world()
    if world is None:
        _real["killpg"](pgid, sig)
    elif pgid < 0:
        raise fail(errno.EINVAL)
    else:
        kill(-pgid if pgid else 0, sig)


def send(world: World, process: Process, number: int) -> None:
    """Deliver a signal to `process` at once."""
    generate(process, number, world.scheduler, _effects(world))


def send_later(world: World, process: Process, number: int) -> None:
    """Send a signal to `process` from outside of the world, at a time that a choice point decides."""
    who = f"{process.name} {name_of(number)}"
    schedule_delayed(process, world.scheduler, "signal", who, process, lambda: send(world, process, number))


def go_on(world: World, process: Process) -> None:
    """Resume a process of a host that was paused, and deliver the signals sent to it meanwhile."""
    if process.loop is not None:
        world.scheduler.run_queue.look_at(process.loop)
    deliver_pending(process, world.scheduler, _effects(world))


def _effects(world: World) -> Effects:
    def end(process: Process, number: int) -> None:
        _keep_test(world, process, number, "end")
        lives.kill(world, process, number)

    def stop(process: Process, number: int) -> None:
        _keep_test(world, process, number, "stop")
        if process.state is State.RUNNING:
            process.enter(State.STOPPED)
        look_at_loop(process)
        tell_parent(process)

    def tell_parent(process: Process) -> None:
        if process.parent is not None:
            send(world, process.parent, _signal.SIGCHLD)

    def catch(process: Process, number: int) -> None:
        _catch(process, number)
        look_at_loop(process)

    def look_at_loop(process: Process) -> None:
        if process.loop is not None:
            world.scheduler.run_queue.look_at(process.loop)

    return Effects(end, stop, tell_parent, catch)


def _keep_test(world: World, process: Process, number: int, what: str) -> None:
    if process is world.root:
        remedy = (
            "set a handler for it" if number not in (_signal.SIGKILL, _signal.SIGSTOP) else "send it to another one"
        )
        raise active.escape(f"{name_of(number)} without a handler, which would {what} the test", remedy)


def _catch(process: Process, number: int) -> None:
    """Record a signal, so that its handler is called later, as CPython's handler in C does (trip_signal in
    Modules/signalmodule.c)."""
    process.signals += (number,)
    file = process.files.get(process.wakeup_fd)
    if isinstance(file, (End, Socket)):
        with contextlib.suppress(OSError):  # it may be full, or nobody may read it
            file.write(memoryview(bytes([number])))


def _deliver_to_self(world: World) -> None:
    """Handle signals that the current process may have just sent to itself: CPython handles them before its next
    instruction."""
    process = world.current
    if not process.alive:
        world.stop()
    if process.stopped:
        world.block(lambda: True)
    if process.signals and world.threads.get(_thread.get_ident()) is None:
        handle(world, process, at_poll=False)


# --- handlers -------------------------------------------------------------------------------------------


def handle(world: World, process: Process, at_poll: bool) -> None:
    """Call the handlers of recorded signals in the main thread of `process`. Handlers added by
    `loop.add_signal_handler` are called by the event loop, and so only if `at_poll`."""
    kept: tuple[int, ...] = ()
    try:
        while process.signals:
            number, process.signals = process.signals[0], process.signals[1:]
            loop = _loop_for(world, process, number)
            if loop is None:
                _call(world, process, number)
            elif at_poll:
                _notify_loop(world, process, loop, number)
            else:
                kept += (number,)
    finally:
        process.signals = kept + process.signals


def interrupts(world: World, process: Process) -> bool:
    """Return True if a recorded signal interrupts a blocking call of `process`."""
    return any(_loop_for(world, process, number) is None for number in process.signals)


def _loop_for(world: World, process: Process, number: int) -> Any:
    """Return the event loop that handles the signal by `loop.add_signal_handler`; None if there is none."""
    for loop in world.scheduler.loops:
        if loop.process is process and number in getattr(loop, "_signal_handlers", ()):
            return loop
    return None


def _call(world: World, process: Process, number: int) -> None:
    world.choices.fold(f"signal {name_of(number)} {process.name}", process.steps)
    handler = _handler(process, number)
    process.handled += 1
    try:
        if callable(handler):
            handler(number, calling_frame())
    except BaseException as error:
        process.broken_by = error
        raise


def _notify_loop(world: World, process: Process, loop: Any, number: int) -> None:
    # What asyncio does when it reads the number from its self-pipe, out of which they come in order.
    act = functools.partial(loop._handle_signal, number)
    scheduler = world.scheduler
    turns = SEEN[world.choices.choose(f"{process.name} {name_of(number)}", "signal.seen", len(SEEN), process)]
    process.signals_until = until = max(scheduler.turn + turns, process.signals_until)
    if until > scheduler.turn:
        scheduler.after_turns(until - scheduler.turn, lambda: None if not process.alive or loop.is_closed() else act())
    else:
        act()


# --- masks and waiting ----------------------------------------------------------------------------------


def pthread_sigmask(how: int, mask: Iterable[int], /) -> set[Any]:
    world = active.world()
    if world is None:
        return _real["pthread_sigmask"](how, mask)  # type: ignore[no-any-return]
    process = world.current
    given = frozenset(_number(number) for number in mask)
    masks: dict[int, frozenset[int]] = {
        _signal.SIG_BLOCK: process.masked | given,
        _signal.SIG_UNBLOCK: process.masked - given,
        _signal.SIG_SETMASK: given,
    }
    if how not in masks:
        raise fail(errno.EINVAL)
    before = process.masked
    set_mask(process, masks[how], world.scheduler, _effects(world))
    _deliver_to_self(world)
    return _as_signals(before)


def sigpending() -> set[Any]:
    world = active.world()
    return _real["sigpending"]() if world is None else _as_signals(world.current.pending)


def _as_signals(numbers: Iterable[int]) -> set[Any]:
    return {_signal.Signals(number) if number in set(_signal.Signals) else number for number in sorted(numbers)}


def sigwait(sigset: Iterable[int], /) -> Any:
    world = active.world()
    if world is None:
        return _real["sigwait"](sigset)
    return _signal.Signals(_wait_for(world, sigset, None) or 0)


def sigwaitinfo(sigset: Iterable[int], /) -> Any:
    world = active.world()
    if world is None:
        return _real["sigwaitinfo"](sigset)
    return _info(_wait_for(world, sigset, None))


def sigtimedwait(sigset: Iterable[int], timeout: float, /) -> Any:
    world = active.world()
    if world is None:
        return _real["sigtimedwait"](sigset, timeout)
    if timeout < 0:
        raise ValueError("timeout must be non-negative")
    return _info(_wait_for(world, sigset, timeout))


def _info(number: int | None) -> Any:
    return None if number is None else _signal.struct_siginfo((number, 0, 0, 0, 0, 0, 0))


def _wait_for(world: World, sigset: Iterable[int], timeout: float | None) -> int | None:
    """Wait until one of the signals of a set is pending, and remove it from the pending ones. Return its number, or
    None after `timeout` seconds."""
    process = world.current
    wanted = frozenset(_number(number) for number in sigset)

    def first() -> int | None:
        return next((number for number in sorted(process.pending) if number in wanted), None)

    if first() is None and not world.block(lambda: first() is not None, timeout):
        return None
    found = first()
    process.pending = tuple(number for number in process.pending if number != found)
    return found


def pause() -> None:
    world = active.world()
    if world is None:
        _real["pause"]()
        return
    process = world.current
    handled = process.handled
    world.block(lambda: process.handled != handled)


# --- timers ---------------------------------------------------------------------------------------------


def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    world = active.world()
    if world is None:
        return _real["set_wakeup_fd"](fd, warn_on_full_buffer=warn_on_full_buffer)  # type: ignore[no-any-return]
    before, world.current.wakeup_fd = world.current.wakeup_fd, fd
    return before


def siginterrupt(signalnum: int, flag: bool, /) -> None:
    if active.world() is None:
        _real["siginterrupt"](signalnum, flag)


class _Timer:
    """Interval timer of a process (ITIMER_REAL), which sends it SIGALRM when it expires."""

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
        send(self._world, self._process, _signal.SIGALRM)

    def disarm(self) -> None:
        self._armed = False

    def remaining(self) -> tuple[float, float]:
        """Return the seconds until the timer expires, and its interval in seconds."""
        remaining = max(self._due_ns - self._world.scheduler.clock.now, 1_000) if self._armed else 0
        return remaining / SECOND, self._interval_ns / SECOND if self._armed else 0.0


def alarm(seconds: int, /) -> int:
    if active.world() is None:
        return _real["alarm"](seconds)  # type: ignore[no-any-return]
    remaining: float = setitimer(_signal.ITIMER_REAL, seconds)[0]
    return math.ceil(remaining)


def setitimer(which: int, seconds: float, interval: float = 0.0, /) -> Any:
    world = active.world()
    if world is None:
        return _real["setitimer"](which, seconds, interval)
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
        return _real["getitimer"](which)
    if which != _signal.ITIMER_REAL:
        raise active.escape("a timer of CPU time", "use signal.ITIMER_REAL, loop.call_later or asyncio.timeout")
    timer: _Timer | None = world.current.timer
    return timer.remaining() if timer is not None else (0.0, 0.0)


REPLACEMENTS: list[tuple[object, str, object]] = [
    *((_signal, name, globals()[name]) for name in real(__name__, _signal)),
    (_thread, "interrupt_main", interrupt_main),
    (os, "kill", kill),
    (os, "killpg", killpg),
]
