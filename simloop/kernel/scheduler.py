"""Discrete-event scheduler: it delivers arrivals, and moves the clock.

Whoever waits (the test's loop in its poll, any process in a blocking call) calls in here, and the world runs until
its wait is over. Where there are other processes, it also has to be its turn (`simloop.kernel.turn_taking`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from simloop.errors import DeadlockError, TimeLimitError
from simloop.kernel.clock import MICROSECOND, MILLISECOND, SECOND, Clock

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.kernel.run_queue import Runnable, RunQueue, Task
    from simloop.kernel.turn_taking import TurnTaking

DEFAULT_MAX_TIME = 86_400.0
DEFAULT_MAX_STALL = 0.05
#: Number of timers that an arrival may meet in a timer race: the next ones that are due.
CONTENDERS_MAX = 8
# How late polls return that have timed out. Linux has a slack (select_estimate_accuracy in fs/select.c), and the thread
# has to be woken (docs/decisions/0011-polls-return-late.md).
_SLACK_NS = 50 * MICROSECOND
_WAKE_UP_NS = 20 * MICROSECOND
#: How late a poll returns at most, and how much later than usual the environment may let it return.
LATE_MAX_NS = 5 * MILLISECOND
# A loop that waits for a timer wakes up to two milliseconds late, and a little more (see `poll_deadline`).
_JUST_AFTER_NS = 2 * MILLISECOND + 100 * MICROSECOND


class _NoLoops:
    """Empty run queue, for the many worlds that have one process: there `simloop.kernel.run_queue` is not imported."""

    __slots__ = ("loops",)
    indexed = False

    def __init__(self) -> None:
        self.loops: list[Runnable] = []

    def look_at(self, loop: Runnable) -> None:
        pass


_NO_LOOPS: Any = _NoLoops()


class TimerRace(NamedTuple):
    """Subject of a timer race's choice point: an arrival, and the deadlines of the timers that it may meet."""

    scheduler: Scheduler
    subject: object
    contenders_ns: list[int]


class Scheduler:
    """Scheduler of one world: an event queue, and the clock that it moves."""

    __slots__ = (
        "_describe_activity", "_end_ns", "_explain_deadlock", "_sequence", "_threads", "_waiters", "arrivals",
        "choices", "clock", "held", "idle_arrivals", "loops", "max_stall_ns", "max_time", "parked", "polling",
        "run_queue", "stepped", "turn", "turn_taking",
    )  # fmt: skip

    def __init__(
        self,
        choices: Choices,
        explain_deadlock: Callable[[Scheduler], DeadlockError] | None = None,
        describe_activity: Callable[[Scheduler], str] = lambda _: "",
        max_time: float = DEFAULT_MAX_TIME,
        max_stall: float = DEFAULT_MAX_STALL,
        threads: dict[int, Any] | None = None,
    ) -> None:
        self.choices = choices
        self.clock = Clock()
        self.max_stall_ns = int(max_stall * SECOND)
        self.max_time = max_time
        self._end_ns = self.clock.now + int(max_time * SECOND)
        self.turn = 0
        self.loops: list[Runnable] = []
        #: Those of the loops that poll for themselves, such as the test's own.
        self.polling: list[Runnable] = []
        #: The others, which are run by single turns: of other processes than the test itself.
        self.run_queue: RunQueue = _NO_LOOPS
        self.stepped: list[Runnable] = _NO_LOOPS.loops
        #: Heap of scheduled actions: time due, sequence number, action.
        self.arrivals: list[tuple[int, int, Callable[[], None]]] = []
        #: Actions that wait for a turn (`held`), or for a condition (`parked`).
        self.held: list[tuple[int, Callable[[], None]]] = []
        self.parked: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self._sequence = count()
        self._threads = threads
        #: How the processes take turns, once there are others than the test itself; and those of them that wait.
        self.turn_taking: TurnTaking | None = None
        self._waiters: Sequence[object] = ()
        #: True once any loop has had something that may arrive while nothing else does.
        self.idle_arrivals = False
        self._explain_deadlock = explain_deadlock or plain_deadlock
        self._describe_activity = describe_activity

    @property
    def on_threads(self) -> bool:
        """True if the stacks of processes are threads: then one process runs now in this thread, now in that."""
        return self.turn_taking is not None and self.turn_taking.on_threads

    def activity(self) -> str:
        """Return a phrase on what the world is doing, to be appended to an error."""
        found = self._describe_activity(self)
        return f"; {found}" if found else ""

    def remove(self, loop: Runnable) -> None:
        """Remove a loop that is closed or has lost power."""
        self.loops.remove(loop)
        (self.run_queue if loop.stepped else self.polling).remove(loop)

    def add(self, loop: Runnable) -> None:
        """Add a loop, which polls for itself until `step` is called for it."""
        self.loops.append(loop)
        self.polling.append(loop)

    def step(self, loop: Runnable) -> None:
        """Run a loop by single turns from now on."""
        self.polling.remove(loop)
        if self.turn_taking is None:
            from simloop.kernel.turn_taking import TurnTaking

            self.turn_taking = TurnTaking(self, {} if self._threads is None else self._threads)
            self.run_queue, self._waiters = self.turn_taking.run_queue, self.turn_taking.waiters
            self.stepped = self.run_queue.loops
        self.run_queue.add(loop)

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
        """Return True if any loop has an armed timer. Without one, an arrival needs no `timer_race`."""
        for loop in self.loops:  # noqa: SIM110  any() would cost as much again
            if loop.timers:
                return True
        return False

    def timers(self, start_ns: int, end_ns: int) -> list[int]:
        """Return the next few deadlines of timers of any process, after `start_ns` and up to `end_ns`."""
        loops = self.loops
        if self.run_queue.indexed:
            # A poll times out some time after its first timer is due.
            loops = [*self.polling, *self.run_queue.polling_until(end_ns + 2 * LATE_MAX_NS)]
        times = {due for loop in loops if loop.takes_turns() for due in loop.deadlines_between(start_ns, end_ns)}
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

    def deliver(self) -> None:
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
        """Block in the poll of a loop's turn: return once `loop` has work or `timeout` (seconds) is over. Like
        epoll_wait(2), which counts in milliseconds, it never wakes early, and a little late."""
        self.turn = turn = self.turn + 1
        if (self.arrivals and self.arrivals[0][0] <= self.clock.now) or self.held or self.parked:
            self.deliver()
        if loop.stepped:
            return  # it gets a turn because there is work
        loop.last_turn = turn
        if timeout is not None and timeout <= 0:
            if self.stepped and self.turn_taking is not None:
                self.turn_taking.let_others_go(loop)
            return
        loop.poll_until(self.poll_deadline(timeout))
        if not self._wait_alone(loop.has_work, None, loop) and self.turn_taking is not None:
            self.turn_taking.wait(loop.process, loop.has_work, None, loop)

    def poll_deadline(self, timeout: float | None) -> int | None:
        """Return the time at which a poll that begins now returns if nothing arrives. The timeout is rounded up to
        milliseconds twice: by selectors.EpollSelector, "to wait at least timeout seconds", and by select.epoll.poll,
        for which 9 * 1e-3 is a little more than 9 ms (Modules/selectmodule.c). Then comes the usual lateness."""
        if timeout is None:
            return None
        if timeout <= 0:
            return self.clock.now
        seconds = int(-timeout * 1e3 // 1) * 1e-3  # negative, since // rounds down
        ms = -(int(seconds * 1e9 // 1) // MILLISECOND)
        slack_ns = _SLACK_NS if ms <= 50 else min(ms * MICROSECOND, LATE_MAX_NS)
        return self.clock.now + ms * MILLISECOND + slack_ns + _WAKE_UP_NS

    def block(self, process: Task, done: Callable[[], bool], deadline_ns: int | None = None) -> bool:
        """Block `process` in a call until ``done()`` or the deadline, while all others run. Returns ``done()``."""
        if done():
            return True
        if not self._wait_alone(done, deadline_ns, None) and self.turn_taking is not None:
            self.turn_taking.wait(process, done, deadline_ns)
        return done()

    def _wait_alone(self, done: Callable[[], bool], deadline_ns: int | None, poller: Runnable | None) -> bool:
        """Wait until ``done()`` or the deadline, as long as there is no other process. `poller` is the loop that polls,
        which knows its own deadline; None if a blocking call waits. Returns False if there is another one."""
        clock = self.clock
        while not self.stepped and not self._waiters:
            if done() or (deadline_ns is not None and clock.now >= deadline_ns):
                return True
            self.pass_time(deadline_ns if poller is None else poller.deadline_ns(), poller)
        return False

    def is_waiting(self, process: Task) -> bool:
        """Return True if the process waits among others, in a blocking call or a poll of its own."""
        return self.turn_taking is not None and self.turn_taking.is_waiting(process)

    def grant_time_slice(self, loop: Runnable, turns: int) -> None:
        """Give `loop` the next `turns` turns, as long as it has something to do."""
        if self.turn_taking is not None:
            self.turn_taking.grant_time_slice(loop, turns)

    def others_done(self, loop: Runnable, limit_ns: int) -> list[int]:
        """Return the times up to `limit_ns` at which loops other than `loop` have made a step or two, after a poll that
        waits for a timer; of many, at least the first few of these times."""
        if self.turn_taking is None:
            return []
        return self.turn_taking.others_done(loop, limit_ns, CONTENDERS_MAX)

    def pass_time(self, due_ns: int | None, poller: Runnable | None) -> None:
        """Deliver the next event, and move the clock to it, at most to `due_ns`. `poller` is the loop in whose poll
        that is, None in a blocking call of the test: no task is cancelled from outside then."""
        if self.idle_arrivals and poller is not None:
            for loop in self.loops:
                process = loop.process
                takes_turns = loop.stepped and not process.stopped and not self.is_waiting(process)
                if (loop is poller or takes_turns) and loop.idle_arrival():
                    return
        if self.held:
            first = min(turn for turn, _ in self.held)
            self._release(lambda turn: turn <= first)
            return
        if self.parked and self._wake_parked():
            return
        if self.arrivals and (due_ns is None or self.arrivals[0][0] < due_ns):
            due_ns = self.arrivals[0][0]
        if due_ns is None:
            raise self._explain_deadlock(self)
        clock = self.clock
        if due_ns > clock.now:
            if due_ns > self._end_ns:
                raise TimeLimitError(
                    f"the run went on past {self.max_time:g} virtual seconds (max_time): "
                    f"raise max_time, or look for what never finishes while a timer ticks{self.activity()}"
                )
            clock.now = due_ns
        self.deliver()

    def close(self) -> None:
        """Unwind the processes that still block: they must not be alive any more. From now on nothing is preempted."""
        self.stepped = _NO_LOOPS.loops
        if self.turn_taking is not None:
            self.turn_taking.close()
            self.turn_taking = None


def plain_deadlock(scheduler: Scheduler) -> DeadlockError:
    """Return a `DeadlockError` without details, where nothing can explain the deadlock."""
    return DeadlockError("deadlock: nothing can happen any more")
