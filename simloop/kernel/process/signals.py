"""Generation and delivery of signals (signal(7)): default actions, masks, and calls of handlers.

A signal is delivered at once, or stays pending while it is masked or its process is stopped. A signal that has a
handler is *caught*: the handler is called when the main thread of the process next has a turn, or within its blocking
call.
"""

from __future__ import annotations

import signal as _signal  # constants only
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from simloop.kernel.process.process import Process, State

if TYPE_CHECKING:
    from simloop.kernel.scheduler import Scheduler

#: Signals whose default action is to be ignored or (SIGCONT) to continue the process.
IGNORED = (_signal.SIGCHLD, _signal.SIGCONT, _signal.SIGURG, _signal.SIGWINCH)
#: Signals whose default action is to stop the process.
STOPPING = (_signal.SIGSTOP, _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU)
#: Dispositions that Python sets when it starts (init_signals in Python/pylifecycle.c, Modules/signalmodule.c).
_PYTHONS: dict[int, Any] = {
    _signal.SIGINT: _signal.default_int_handler,
    _signal.SIGPIPE: _signal.SIG_IGN,
    _signal.SIGXFSZ: _signal.SIG_IGN,
}


class Effects(NamedTuple):
    """Functions that carry out the action of a signal on a process: `end`, `stop` or `resume` it, or have its handler
    called (`catch`)."""

    end: Callable[[Process, int], None]
    stop: Callable[[Process, int], None]
    resume: Callable[[Process], None]
    catch: Callable[[Process, int], None]


def name_of(number: int) -> str:
    """Return the name of a signal, such as "SIGTERM"."""
    try:
        return _signal.Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"


def disposition(process: Process, number: int) -> Any:
    """Return the disposition of a signal: its handler, `SIG_IGN` or `SIG_DFL`."""
    default = _PYTHONS.get(number, _signal.SIG_DFL)
    return process.signal_handlers.get(number, default)


def generate(process: Process, number: int, scheduler: Scheduler, effects: Effects) -> None:
    """Generate a signal for `process`, as at the end of kill(2). See prepare_signal() in kernel/signal.c of Linux."""
    if not process.alive:
        return  # a zombie takes everything
    if number == _signal.SIGCONT:
        process.pending = tuple(other for other in process.pending if other not in STOPPING)
        if process.stopped and not process.host.paused:
            process.enter(State.RUNNING)
            effects.resume(process)
            deliver_pending(process, scheduler, effects)
    elif number in STOPPING:
        process.pending = tuple(other for other in process.pending if other != _signal.SIGCONT)
    if number == _signal.SIGKILL:
        effects.end(process, number)
    elif number == _signal.SIGSTOP:
        effects.stop(process, number)
    elif number in process.masked or (process.stopped and not _is_ignored(process, number)):
        # "Standard signals do not queue."
        if number not in process.pending:
            process.pending += (number,)
    else:
        _act(process, number, scheduler, effects)


def _act(process: Process, number: int, scheduler: Scheduler, effects: Effects) -> None:
    if _is_ignored(process, number):
        return
    if disposition(process, number) == _signal.SIG_DFL:
        (effects.stop if number in STOPPING else effects.end)(process, number)
    elif not _merges(process, number, scheduler):
        process.caught_ns = scheduler.clock.now
        effects.catch(process, number)


def _merges(process: Process, number: int, scheduler: Scheduler) -> bool:
    """Return True if a signal is dropped, because the same signal was generated a moment ago and is not handled yet,
    and the environment chooses to merge the two."""
    return (
        number in process.signals
        and scheduler.clock.now - process.caught_ns <= scheduler.max_stall_ns
        and scheduler.choices.choose(f"{process.name} {name_of(number)}", "signal.merge", 2, process) == 1
    )


def _is_ignored(process: Process, number: int) -> bool:
    handler = disposition(process, number)
    return bool(handler == _signal.SIG_IGN or (handler == _signal.SIG_DFL and number in IGNORED))


def deliver_pending(process: Process, scheduler: Scheduler, effects: Effects) -> None:
    """Deliver the pending signals that are not masked, the lowest number first (dequeue_signal() in
    kernel/signal.c)."""
    while process.state is State.RUNNING:
        number = next((number for number in sorted(process.pending) if number not in process.masked), None)
        if number is None:
            return
        process.pending = tuple(other for other in process.pending if other != number)
        _act(process, number, scheduler, effects)


def set_mask(process: Process, masked: frozenset[int], scheduler: Scheduler, effects: Effects) -> None:
    """Set the signal mask, as sigprocmask(2) does, and deliver pending signals that are no longer masked."""
    process.masked = masked - {_signal.SIGKILL, _signal.SIGSTOP}
    deliver_pending(process, scheduler, effects)
