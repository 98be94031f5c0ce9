"""Choice points on delays: how late a thread, a signal or a new process acts, which the environment chooses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from simloop.kernel.clock import MICROSECOND, MILLISECOND
from simloop.kernel.turn_taking import TIME_SLICES

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.kernel.process.process import Process
    from simloop.kernel.scheduler import Scheduler

# What the answers at a thread point mean: how much later than usual it happens.
DELAYS = (
    "at once",
    "one turn later",
    "two turns later",
    "three turns later",
    "1 ms later",
    "20 ms later",
    "five turns later",
    "eight turns later",
    "thirteen turns later",
    "twenty-one turns later",
)
_DELAYS_TURNS = (0, 1, 2, 3, 0, 0, 5, 8, 13, 21)
_DELAYS_NS = (0, 0, 0, 0, MILLISECOND, 20 * MILLISECOND, 0, 0, 0, 0)
# Thread creation and hand-over, as order of magnitude on Linux.
_SWITCH_NS = 20 * MICROSECOND
# How late a thread may be for a timer's sake: as late as it may be at all.
RACE_NS = 20 * MILLISECOND

# Number of calls that a thread or process makes in a time slice, as long as it does not wait: then others go first.
CALLS_MAX = 200
# What the answers at `thread.switch`, `thread.line` and `process.switch` mean: for how long others go first, before a
# thread or process makes its next call, or goes on with its next line. A time slice of Linux is of a few milliseconds.
SWITCHES = ("not at all", "for a turn", "for three turns", "for 1 ms", "for 4 ms", "for 20 ms")
_SWITCHES_TURNS = (0, 1, 3, 0, 0, 0)
_SWITCHES_NS = (0, 0, 0, MILLISECOND, 4 * MILLISECOND, 20 * MILLISECOND)

# What the answers at `process.start` mean: when a program begins after it was started. Those after the first run so
# many turns in a row, as `turn_taking.TIME_SLICES` has them.
STARTS = (
    "as usual",
    "at once",
    *(f"at once, and ran {turns} turns in a row" for turns in TIME_SLICES[1:]),
    *DELAYS[1:],
)
# What the answers at `signal.seen` mean: how many turns after it came a loop may see a signal for which it has a
# handler of its own (the number goes through its self-pipe, and a poll need not see that at once).
SEEN = (0, 1, 2, 3, 5, 8)


def schedule_delayed(
    process: Process,
    scheduler: Scheduler,
    kind: str,
    who: str,
    subject: object,
    act: Callable[[], None],
    usual_ns: int | None = _SWITCH_NS,
) -> bool:
    """Schedule ``act()``, an action of a thread of `process`, for `usual_ns` from now, or for as much later as the
    environment chooses.

    The choice point is of the kind `kind`, at the thread or process named `who`, about `subject`, the object that
    reports describe. If `usual_ns` is None and the environment chooses no delay, nothing is scheduled, and False is
    returned: the caller acts at once.
    """
    action = partial(_act, process, scheduler.choices, f"{kind} {who}", act)
    answer = scheduler.choices.choose(who, kind, len(DELAYS), subject)
    due = scheduler.clock.now + (usual_ns or 0) + _DELAYS_NS[answer]
    raced = None
    if scheduler.any_timers():
        raced = scheduler.timer_race(f"{who} ", int(kind == "thread.finish"), "thread.race", due, RACE_NS, subject)
    if raced is not None:
        scheduler.at(raced, action)
    elif usual_ns is None and not answer:
        return False
    else:
        delay(scheduler, answer, usual_ns or 0, action)
    return True


def schedule_switch(
    process: Process, scheduler: Scheduler, kind: str, who: str, subject: object, act: Callable[[], None]
) -> bool:
    """Preempt a thread of `process`, if the environment chooses so: schedule ``act()``, which resumes it, for after
    others have run. Returns False if the thread is not preempted.

    The choice point is of the kind `kind`, at the thread or process named `who`, about `subject`, the object that
    reports describe.
    """
    answer = scheduler.choices.choose(who, kind, len(SWITCHES), subject)
    if answer:
        action = partial(_act, process, scheduler.choices, f"{kind} {who}", act)
        _later(scheduler, _SWITCHES_NS[answer], _SWITCHES_TURNS[answer], action)
    return answer != 0


def _act(process: Process, choices: Choices, what: str, act: Callable[[], None]) -> None:
    # What threads do is no arrival at a loop, but may meet its steps in shared memory.
    choices.fold(what, process.steps)
    act()


def delay(scheduler: Scheduler, which: int, usual_ns: int, action: Callable[[], None]) -> None:
    """Schedule `action` for `usual_ns` nanoseconds from now, plus the delay ``DELAYS[which]``, which is none for 0."""
    _later(scheduler, usual_ns + _DELAYS_NS[which], _DELAYS_TURNS[which], action)


def _later(scheduler: Scheduler, ns: int, turns: int, action: Callable[[], None]) -> None:
    due = scheduler.clock.now + ns
    scheduler.at(due, partial(scheduler.after_turns, turns, action) if turns else action)
