"""Discrete-event scheduler: it delivers arrivals, gives processes their turns, and moves the clock.

One thread runs everything. Whoever waits (a loop in its poll, a program in a blocking call) calls in
here, and the world goes on around it until its wait is over. The innermost waiter is the *driver*.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sized
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, Protocol

from simloop.errors import DeadlockError, TimeLimitError
from simloop.kernel.clock import MICROSECOND, MILLISECOND, SECOND, Clock

if TYPE_CHECKING:
    from simloop.choices.choices import Choices

DEFAULT_MAX_TIME = 86_400.0
DEFAULT_MAX_STALL = 0.05
#: Number of timers that an arrival may meet in a timer race: the next ones that are due.
CONTENDERS_MAX = 8

# Time slices (quanta), in turns: so many in a row a process may run while others have work, too. Its step is short,
# theirs are long, or their processor is busy.
TIME_SLICES = (1, 2, 4, 8, 16)


class Task(Protocol):
    """Protocol of a process, as the scheduler sees it (task_struct in include/linux/sched.h)."""

    name: str

    @property
    def loop(self) -> Runnable | None:
        """Event loop of the process, if it has one."""

    @property
    def stopped(self) -> bool:
        """True between a signal that stops the process and SIGCONT."""


class Runnable(Protocol):
    """Protocol of a process's event loop, as the scheduler sees it: the unit that is scheduled."""

    @property
    def process(self) -> Task:
        """Process to which the loop belongs."""

    last_turn: int

    @property
    def timers(self) -> Sized:
        """Armed timers of the loop, as a sized collection: the scheduler only looks if there are any."""

    def takes_turns(self) -> bool:
        """True while the scheduler may run turns of the loop: it is neither idle between two runs, nor run by a thread
        of its own."""

    def has_work(self) -> bool:
        """True if a turn would run something now."""

    def deadline_ns(self) -> int | None:
        """Return the time at which the loop's next timer is due; None without one."""

    def deadlines_until(self, limit_ns: int) -> list[int]:
        """Return deadlines of the loop's timers up to `limit_ns`, unsorted; where they are many, not all of them."""

    def run_turn(self) -> None:
        """Run one turn, nested in another process's wait."""

    def wants_to_return(self) -> bool:
        """True if whoever runs the loop waits no longer, and only nested waits above it on the stack keep it from
        returning."""

    def is_done(self) -> bool:
        """True once the main task of the loop is done."""

    def lose_power(self) -> None:
        """Stop for good: the machine of the loop has lost power."""

    def idle_arrival(self) -> bool:
        """Let an outside event arrive before time moves on, if the environment chooses so. True if that made work."""


# A loop that waits for a timer wakes up to a millisecond late (see `poll_deadline`).
_JUST_AFTER_NS = MILLISECOND + 100 * MICROSECOND


class TimerRace(NamedTuple):
    """Subject of a timer race's choice point: an arrival, and the deadlines of the timers that it may meet."""

    scheduler: Scheduler
    subject: object
    contenders_ns: list[int]


class Scheduler:
    """Scheduler of one world: an event queue, the run queue of its processes' loops, and the clock that it moves."""

    __slots__ = (
        "_blocked", "_driver", "_end_ns", "_explain_deadlock", "_sequence", "_slice_left", "_slice_owner", "arrivals",
        "choices", "clock", "held", "idle_arrivals", "loops", "max_stall_ns", "max_time", "parked", "turn",
    )  # fmt: skip

    def __init__(
        self,
        choices: Choices,
        explain_deadlock: Callable[[Scheduler], DeadlockError] | None = None,
        *,
        max_time: float = DEFAULT_MAX_TIME,
        max_stall: float = DEFAULT_MAX_STALL,
    ) -> None:
        self.choices = choices
        self.clock = Clock()
        self.max_stall_ns = int(max_stall * SECOND)
        self.max_time = max_time
        self._end_ns = self.clock.now + int(max_time * SECOND)
        self.turn = 0
        self.loops: list[Runnable] = []
        #: Heap of scheduled actions: time due, sequence number, action.
        self.arrivals: list[tuple[int, int, Callable[[], None]]] = []
        #: Actions that wait for a turn (`held`), or for a condition (`parked`).
        self.held: list[tuple[int, Callable[[], None]]] = []
        self.parked: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self._blocked: list[Task] = []
        self._sequence = count()
        # The process that has a time slice, and how many turns of it are left.
        self._slice_owner: Runnable = _NOBODY
        self._slice_left = 0
        self._driver: Runnable | None = None
        #: True once any loop has had something that may arrive while nothing else does.
        self.idle_arrivals = False
        self._explain_deadlock = explain_deadlock or plain_deadlock

    # --- arrivals -------------------------------------------------------------------------------------

    def at(self, due_ns: int, action: Callable[[], None]) -> None:
        """Schedule `action` for the first poll at or after `due_ns`."""
        heapq.heappush(self.arrivals, (due_ns, next(self._sequence), action))

    def after_turns(self, turns: int, action: Callable[[], None]) -> None:
        """Schedule `action` for `turns` turns from now, or for when nothing else can happen."""
        self.held.append((self.turn + turns, action))

    def when(self, ready: Callable[[], bool], action: Callable[[], None]) -> None:
        """Schedule `action`, once, for the first poll at which ``ready()`` holds."""
        self.parked.append((ready, action))

    def any_timers(self) -> bool:
        """True if any loop has an armed timer. Without one, an arrival needs no `timer_race`."""
        for loop in self.loops:  # noqa: SIM110  any() would cost as much again
            if loop.timers:
                return True
        return False

    def timers(self, start_ns: int, end_ns: int) -> list[int]:
        """Return the next few deadlines of timers of any process, after `start_ns` and up to `end_ns`."""
        times = {
            due for loop in self.loops if loop.takes_turns() for due in loop.deadlines_until(end_ns) if due > start_ns
        }
        return sorted(times)[:CONTENDERS_MAX] if times else []

    def timer_race(self, who: str, which: int, kind: str, due_ns: int, slack_ns: int, subject: object) -> int | None:
        """Ask the environment which armed timer, if any, an arrival meets by being late. The arrival is the `which`-th
        from `who`, is due at `due_ns`, and may be late by up to `slack_ns`. Returns the time at which it arrives, or
        None if it meets no timer.

        Odd answers let it arrive with a timer (so that its callbacks run before the timer's in one turn), even ones
        just after the timer has fired.
        """
        contenders = self.timers(due_ns, due_ns + slack_ns - _JUST_AFTER_NS)
        if not contenders:
            return None
        # Its number is part of the name: how many before it found a timer armed changes with every edit.
        answer = self.choices.choose(
            f"{who}{which}", kind, 1 + 2 * len(contenders), TimerRace(self, subject, contenders)
        )
        if not answer:
            return None
        which_timer, after = divmod(answer - 1, 2)
        return contenders[which_timer] + (_JUST_AFTER_NS if after else MICROSECOND)

    def _deliver(self) -> None:
        now = self.clock.now
        while self.arrivals and self.arrivals[0][0] <= now:
            heapq.heappop(self.arrivals)[2]()
        if self.held:
            self._release(lambda turn: turn <= self.turn)
        if self.parked:
            self._wake_parked()

    def _release(self, due: Callable[[int], bool]) -> None:
        released = [action for turn, action in self.held if due(turn)]
        if released:
            self.held = [entry for entry in self.held if not due(entry[0])]
            for action in released:
                action()

    def _wake_parked(self) -> bool:
        for entry in self.parked:
            if entry[0]():
                self.parked.remove(entry)
                entry[1]()
                return True
        return False

    # --- waiting --------------------------------------------------------------------------------------

    def poll(self, loop: Runnable, timeout: float | None) -> None:
        """Wait in the middle of a loop's turn: return once `loop` has work or `timeout` (seconds) is over. Like
        epoll_wait(2), which counts in milliseconds, it never wakes early."""
        self.turn = turn = self.turn + 1
        if (self.arrivals and self.arrivals[0][0] <= self.clock.now) or self.held or self.parked:
            self._deliver()
        driver = self._driver
        if driver is not None and driver is not loop:
            return  # a nested turn, run because there is work
        loop.last_turn = turn
        if timeout is not None and timeout <= 0:
            if len(self.loops) > 1:
                self._share(loop)
            return
        deadline = self.poll_deadline(timeout)
        before, self._driver = self._driver, loop
        try:
            has_work = self._pass_time(loop.has_work, deadline, loop)
        finally:
            self._driver = before
        if has_work and len(self.loops) > 1:
            # It was woken, and is not yet running.
            self._share(loop)

    def poll_deadline(self, timeout: float | None) -> int | None:
        """Return the time at which a poll that begins now times out. selectors.EpollSelector rounds up to a
        millisecond, "to wait at least timeout seconds"."""
        return None if timeout is None else self.clock.now - int(-timeout * 1e3 // 1) * MILLISECOND

    def block(self, process: Task, done: Callable[[], bool], deadline_ns: int | None = None) -> bool:
        """Block `process` in a call until ``done()`` or the deadline, while all others go on. Returns ``done()``."""
        if done():
            return True
        own = process.loop
        previous = self._driver
        self._driver = own if own is not None else _NOBODY
        self._blocked.append(process)
        try:
            return self._pass_time(done, deadline_ns, None)
        finally:
            self._blocked.pop()
            self._driver = previous

    def _pass_time(self, done: Callable[[], bool], deadline_ns: int | None, poller: Runnable | None) -> bool:
        """Let the world go on until ``done()`` or the deadline. `poller` is the loop that polls; None if a blocking
        call waits."""
        clock = self.clock
        while True:
            if done():
                return True
            if deadline_ns is not None and clock.now >= deadline_ns:
                return False
            if len(self.loops) > (poller is not None) and self._run_another(poller):
                continue
            if self.idle_arrivals and poller is not None and any(loop.idle_arrival() for loop in self._unblocked()):
                continue
            if self.held:
                first = min(turn for turn, _ in self.held)
                self._release(lambda turn, first=first: turn <= first)  # type: ignore[misc]
                continue
            if self.parked and self._wake_parked():
                continue
            self._advance(deadline_ns, poller)

    def _advance(self, deadline_ns: int | None, poller: Runnable | None) -> None:
        due = deadline_ns
        if self.arrivals and (due is None or self.arrivals[0][0] < due):
            due = self.arrivals[0][0]
        if len(self.loops) > (poller is not None):
            for loop in self._unblocked():
                other = loop.deadline_ns()
                if loop is not poller and other is not None and (due is None or other < due):
                    due = other
        if due is None:
            raise self._explain_deadlock(self)
        clock = self.clock
        if due > clock.now:
            if due > self._end_ns:
                raise TimeLimitError(
                    f"the run went on past {self.max_time:g} virtual seconds (max_time): "
                    "raise max_time, or look for what never finishes while a timer ticks"
                )
            clock.now = due
        self._deliver()

    # --- turns ----------------------------------------------------------------------------------------

    def _unblocked(self) -> list[Runnable]:
        if len(self.loops) == 1 and not self._blocked:
            return self.loops
        return [loop for loop in self.loops if self._may_run(loop)]

    def _share(self, loop: Runnable) -> None:
        """Run other processes that have work, too, before `loop` goes on: those that have waited longest come first."""
        before = self._driver
        self._driver = loop
        try:
            while True:
                waiting = [other for other in self._unblocked() if other is loop or other.has_work()]
                chosen = self._choose(waiting)
                if chosen is loop:
                    return
                self._turn_of(chosen)
                if self.arrivals:
                    # What it has done may be seen in the poll that goes on here, as may its end.
                    self._deliver()
        finally:
            self._driver = before

    def _run_another(self, poller: Runnable | None) -> bool:
        only = len(self.loops) == 1 and not self._blocked
        waiting = [
            loop for loop in self.loops if loop is not poller and loop.has_work() and (only or self._may_run(loop))
        ]
        if waiting:
            self._turn_of(self._choose(waiting))
        return bool(waiting)

    def _may_run(self, loop: Runnable) -> bool:
        return loop.takes_turns() and not loop.process.stopped and loop.process not in self._blocked

    def _choose(self, waiting: list[Runnable]) -> Runnable:
        if self._slice_left and self._slice_owner in waiting:
            self._slice_left -= 1
            return self._slice_owner
        self._slice_left = 0
        if len(waiting) == 1:
            return waiting[0]
        waiting.sort(key=lambda loop: loop.last_turn)
        answer = self.choices.choose("world", "process.turn", len(waiting) * len(TIME_SLICES), waiting)
        which_slice, which = divmod(answer, len(waiting))
        self._slice_left = TIME_SLICES[which_slice] - 1
        self._slice_owner = waiting[which]
        return waiting[which]

    def grant_time_slice(self, loop: Runnable, turns: int) -> None:
        """Give `loop` the next `turns` turns, as long as it has something to do."""
        if turns:
            self._slice_owner, self._slice_left = loop, turns

    def _turn_of(self, loop: Runnable) -> None:
        loop.run_turn()
        loop.last_turn = self.turn


def plain_deadlock(scheduler: Scheduler) -> DeadlockError:
    """Return a `DeadlockError` without details, where nothing can explain the deadlock."""
    return DeadlockError("deadlock: nothing can happen any more")


class _Nobody:
    """Null object in place of a loop: the driver while a program without a loop blocks."""

    process = None
    last_turn = 0
    timers = ()


_NOBODY: Runnable = _Nobody()  # type: ignore[assignment]
