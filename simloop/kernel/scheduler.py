"""Discrete-event scheduler of a world: delivers arrivals (packets, signals, ends of jobs), and advances the clock.

It is called by whatever waits: an event loop in its poll, or a process in a blocking call. It then runs the world until
the wait is over. If there are several processes, it also has to be the waiting one's turn
(`simloop.kernel.turn_taking`).
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
#: Number of timers, the next ones that are due, of which an arrival may be delayed until one fires (`timer_race`).
CONTENDERS_MAX = 8
# How late polls return that have timed out. Linux has a slack (select_estimate_accuracy in fs/select.c), and the thread
# has to be woken (docs/decisions/0011-polls-return-late.md).
_SLACK_NS = 50 * MICROSECOND
_WAKE_UP_NS = 20 * MICROSECOND
#: Maximum lateness of a poll that times out, and the most that the environment may add to the usual lateness.
LATE_MAX_NS = 5 * MILLISECOND
# A loop that waits for a timer wakes up to two milliseconds late, and a little more (see `poll_deadline`).
_JUST_AFTER_NS = 2 * MILLISECOND + 100 * MICROSECOND


class _NoLoops:
    """Empty run queue, for the many worlds with a single process, which need not import `simloop.kernel.run_queue`."""

    __slots__ = ("loops",)
    indexed = False

    def __init__(self) -> None:
        self.loops: list[Runnable] = []

    def look_at(self, loop: Runnable) -> None:
        pass


_NO_LOOPS: Any = _NoLoops()


class TimerRace(NamedTuple):
    """Subject of a choice point of `Scheduler.timer_race`: an arrival, and the deadlines of timers until which it may
    be late."""

    scheduler: Scheduler
    subject: object
    contenders_ns: list[int]


class Scheduler:
    """Discrete-event scheduler of one world, with its event queue and its virtual clock."""

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
        #: Loops that call `poll` themselves, such as the test's own.
        self.polling: list[Runnable] = []
        #: The other loops, which are run turn by turn: those of processes other than the test itself.
        self.run_queue: RunQueue = _NO_LOOPS
        self.stepped: list[Runnable] = _NO_LOOPS.loops
        #: Heap of scheduled actions, each as (time due, sequence number, action).
        self.arrivals: list[tuple[int, int, Callable[[], None]]] = []
        #: Actions that wait for the turn of that number (`held`), or for a condition (`parked`).
        self.held: list[tuple[int, Callable[[], None]]] = []
        self.parked: list[tuple[Callable[[], bool], Callable[[], None], Task | None, Callable[[], bool]]] = []
        self._sequence = count()
        self._threads = threads
        #: Turns of the processes, and those of them that wait; None as long as the test is the only process.
        self.turn_taking: TurnTaking | None = None
        self._waiters: Sequence[object] = ()
        #: True once `Runnable.idle_arrival` of a loop has to be asked before time advances.
        self.idle_arrivals = False
        self._explain_deadlock = explain_deadlock or plain_deadlock
        self._describe_activity = describe_activity

    @property
    def on_threads(self) -> bool:
        """True if the call stacks of processes are real threads, so that a process may run in several threads in
        succession."""
        return self.turn_taking is not None and self.turn_taking.on_threads

    def activity(self) -> str:
        """Return text on the world's current activity, to be appended to an error message; "" if there is none."""
        found = self._describe_activity(self)
        return f"; {found}" if found else ""

    def remove(self, loop: Runnable) -> None:
        """Remove a loop that was closed, or whose machine has lost power."""
        self.loops.remove(loop)
        (self.run_queue if loop.stepped else self.polling).remove(loop)

    def add(self, loop: Runnable) -> None:
        """Add a loop, which calls `poll` itself until `step` is called for it."""
        self.loops.append(loop)
        self.polling.append(loop)

    def step(self, loop: Runnable) -> None:
        """Run a loop turn by turn from now on, by its `run_turn`."""
        self.polling.remove(loop)
        if self.turn_taking is None:
            from simloop.kernel.turn_taking import TurnTaking

            self.turn_taking = TurnTaking(self, {} if self._threads is None else self._threads)
            self.run_queue, self._waiters = self.turn_taking.run_queue, self.turn_taking.waiters
            self.stepped = self.run_queue.loops
        self.run_queue.add(loop)

    # --- arrivals -------------------------------------------------------------------------------------

    def at(self, due_ns: int, action: Callable[[], None]) -> None:
        """Schedule `action` for the first poll at or after the time `due_ns`."""
        heapq.heappush(self.arrivals, (due_ns, next(self._sequence), action))

    def after_turns(self, turns: int, action: Callable[[], None]) -> None:
        """Schedule `action` for `turns` turns (loop iterations) from now; if nothing else can happen before, it runs
        earlier."""
        self.held.append((self.turn + turns, action))

    def when(
        self,
        ready: Callable[[], bool],
        action: Callable[[], None],
        process: Task | None = None,
        is_blocked: Callable[[], bool] = bool,
    ) -> None:
        """Schedule `action`, once, for the first poll at which ``ready()`` returns True.

        Most polls find that it does not, which ``is_blocked()`` may tell in less time: a method written in C, which is
        asked first if a `process` is given, as long as that is alive.
        """
        self.parked.append((ready, action, process, is_blocked))

    def any_timers(self) -> bool:
        """Return True if any loop has an armed timer. If not, an arrival needs no call of `timer_race`."""
        for loop in self.loops:  # noqa: SIM110  any() would cost as much again
            if loop.timers:
                return True
        return False

    def timers(self, start_ns: int, end_ns: int) -> list[int]:
        """Return the deadlines, in order, of the next few timers of all processes after `start_ns` and up to
        `end_ns`."""
        loops = self.loops
        if self.run_queue.indexed:
            # A poll times out some time after its first timer is due.
            loops = [*self.polling, *self.run_queue.polling_until(end_ns + 2 * LATE_MAX_NS)]
        times = {due for loop in loops if loop.takes_turns() for due in loop.deadlines_between(start_ns, end_ns)}
        return sorted(times)[:CONTENDERS_MAX] if times else []

    def timer_race(self, who: str, which: int, kind: str, due_ns: int, slack_ns: int, subject: object) -> int | None:
        """Ask at a choice point if an arrival is delayed until a timer fires, and which one: the arrival and the timer
        race.

        The arrival is the one numbered `which` of `who` (a connection, thread or process), is due at `due_ns`, and may
        be late by up to `slack_ns`. Returns the time at which it arrives, or None if it is not delayed.

        Odd answers let it arrive together with a timer, so that its callbacks run before the timer's in the same turn;
        even ones just after the timer has fired.
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
        arrivals, now = self.arrivals, self.clock.now
        while arrivals and arrivals[0][0] <= now:
            heapq.heappop(arrivals)[2]()
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
            ready, action, process, is_blocked = entry
            if process is not None and is_blocked() and process.alive:
                continue
            if ready():
                self.parked.remove(entry)
                action()
                return True
        return False

    # --- waiting --------------------------------------------------------------------------------------

    def poll(self, loop: Runnable, timeout: float | None) -> None:
        """Block in the poll of a loop's turn, until `loop` has work or `timeout` (seconds) is over. As with
        epoll_wait(2), whose timeout is in milliseconds, the poll never times out early, and always a little late."""
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
        """Return the time at which a poll that begins now returns if nothing arrives: the timeout, rounded up, plus the
        usual lateness; None without a timeout.

        The timeout is rounded up to milliseconds twice: by selectors.EpollSelector, "to wait at least timeout seconds",
        and by select.epoll.poll, for which 9 * 1e-3 is a little more than 9 ms (Modules/selectmodule.c).
        """
        if timeout is None:
            return None
        if timeout <= 0:
            return self.clock.now
        seconds = int(-timeout * 1e3 // 1) * 1e-3  # negative, since // rounds down
        ms = -(int(seconds * 1e9 // 1) // MILLISECOND)
        slack_ns = _SLACK_NS if ms <= 50 else min(ms * MICROSECOND, LATE_MAX_NS)
        return self.clock.now + ms * MILLISECOND + slack_ns + _WAKE_UP_NS

    def block(self, process: Task, done: Callable[[], bool], deadline_ns: int | None = None) -> bool:
        """Block `process` in a blocking call until ``done()`` is True or the deadline is reached, while all others run.
        Returns the last value of ``done()``."""
        if done():
            return True
        if not self._wait_alone(done, deadline_ns, None) and self.turn_taking is not None:
            self.turn_taking.wait(process, done, deadline_ns)
        return done()

    def _wait_alone(self, done: Callable[[], bool], deadline_ns: int | None, poller: Runnable | None) -> bool:
        """Wait until ``done()`` is True or the deadline is reached, as long as there is only one process. Returns False
        once there is another one, with the wait unfinished.

        `poller` is the loop that polls, which has a deadline of its own; None for a blocking call.
        """
        clock = self.clock
        while not self.stepped and not self._waiters:
            if done() or (deadline_ns is not None and clock.now >= deadline_ns):
                return True
            self.pass_time(deadline_ns if poller is None else poller.deadline_ns(), poller)
        return False

    def grant_time_slice(self, loop: Runnable, turns: int) -> None:
        """Give `loop` the next `turns` turns in a row, as long as it has work."""
        if self.turn_taking is not None:
            self.turn_taking.grant_time_slice(loop, turns)

    def others_done(self, loop: Runnable, limit_ns: int) -> list[int]:
        """Return the times up to `limit_ns` at which loops other than `loop`, which now wait for a timer, will have run
        a callback or two; if there are many, at least the earliest few."""
        if self.turn_taking is None:
            return []
        return self.turn_taking.others_done(loop, limit_ns, CONTENDERS_MAX)

    def pass_time(self, due_ns: int | None, poller: Runnable | None) -> None:
        """Deliver the next event, and advance the clock to its time, but not beyond `due_ns`.

        `poller` is the loop whose poll waits; None if a blocking call of the test waits, in which no task is cancelled
        from outside.
        """
        if self.idle_arrivals and poller is not None:
            for loop in self.loops:
                process = loop.process
                takes_turns = loop.stepped and not process.stopped and not process.waits
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
        """End the calls of processes that still block, which must have been killed before. There is no preemption from
        now on."""
        self.stepped = _NO_LOOPS.loops
        if self.turn_taking is not None:
            self.turn_taking.close()
            self.turn_taking = None


def plain_deadlock(scheduler: Scheduler) -> DeadlockError:
    """Return a `DeadlockError` without details, for a world that has no function to explain deadlocks."""
    return DeadlockError("deadlock: nothing can happen any more")
