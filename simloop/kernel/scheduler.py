"""Discrete-event scheduler: it delivers arrivals, gives processes their turns, and moves the clock.

Whoever waits (the test's loop in its poll, any process in a blocking call) calls in here, and the world runs until
its wait is over and it is its turn. Loops of other processes are run by single turns, on a stack that waits for nothing
itself; a process that blocks in the middle of a turn keeps that stack, and the others are resumed on another one.
"""

from __future__ import annotations

import heapq
from bisect import insort_left
from collections.abc import Callable, Iterable
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from simloop.errors import DeadlockError, TimeLimitError
from simloop.kernel.clock import MICROSECOND, MILLISECOND, SECOND, STEP_CPU_NS, Clock

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.kernel.run_queue import Runnable, RunQueue, Task
    from simloop.kernel.stacks import Stack, Stacks

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

# Time slices (quanta), in turns: so many in a row a process may run while others have work, too. Its step is short,
# theirs are long, or their processor is busy.
TIME_SLICES = (1, 2, 4, 8, 16)


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

    def with_work(self, now_ns: int, may_run: Callable[[Task], bool]) -> list[Runnable]:
        return self.loops

    def next_deadline(self, may_run: Callable[[Task], bool]) -> int | None:
        return None


_NO_LOOPS: Any = _NoLoops()
_last_turn = attrgetter("last_turn")


class TimerRace(NamedTuple):
    """Subject of a timer race's choice point: an arrival, and the deadlines of the timers that it may meet."""

    scheduler: Scheduler
    subject: object
    contenders_ns: list[int]


class Waiter:
    """Record of a process that waits, in a blocking call or its loop's poll, until ``done()`` or the deadline."""

    __slots__ = ("deadline_ns", "done", "error", "last_turn", "loop", "process", "stack")

    def __init__(
        self, process: Task, done: Callable[[], bool], deadline_ns: int | None, loop: Runnable | None = None
    ) -> None:
        self.process = process
        self.done = done
        self.deadline_ns = deadline_ns
        #: The loop whose poll it is, which knows its own deadline; None for a blocking call.
        self.loop = loop
        self.last_turn = 0 if process.loop is None else process.loop.last_turn
        #: Stack on which it goes on, once it has switched to another one.
        self.stack: Stack | None = None
        #: Error that ends the wait.
        self.error: BaseException | None = None


class Scheduler:
    """Scheduler of one world: an event queue, the run queue of its processes' loops, and the clock that it moves."""

    __slots__ = (
        "_chosen", "_closed", "_describe_activity", "_end_ns", "_explain_deadlock", "_idle", "_main",
        "_sequence", "_slice_left", "_slice_owner", "_stacks", "_threads", "_waiters", "arrivals", "choices",
        "clock", "held", "idle_arrivals", "loops", "max_stall_ns", "max_time", "parked", "polling", "run_queue",
        "stepped", "turn",
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
        # The process that has a time slice, and how many turns of it are left.
        self._slice_owner: Task | None = None
        self._slice_left = 0
        # Processes that wait in a call, and the one of them that is the test itself.
        self._waiters: list[Waiter] = []
        self._main: Waiter | None = None
        # Stacks that wait for a loop to give a turn to, and that loop.
        self._idle: list[Stack] = []
        self._chosen: Runnable | None = None
        self._threads = threads
        self._stacks: Stacks | None = None
        self._closed = False
        #: True once any loop has had something that may arrive while nothing else does.
        self.idle_arrivals = False
        self._explain_deadlock = explain_deadlock or plain_deadlock
        self._describe_activity = describe_activity

    @property
    def on_threads(self) -> bool:
        """True if the stacks of processes are threads: then one process runs now in this thread, now in that."""
        if self._stacks is None:
            return False
        from simloop.kernel.stacks import Threads

        return isinstance(self._stacks, Threads)

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
        if self.run_queue is _NO_LOOPS:
            from simloop.kernel.run_queue import RunQueue

            self.run_queue = RunQueue()
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
        """Block in the poll of a loop's turn: return once `loop` has work or `timeout` (seconds) is over. Like
        epoll_wait(2), which counts in milliseconds, it never wakes early, and a little late."""
        self.turn = turn = self.turn + 1
        if (self.arrivals and self.arrivals[0][0] <= self.clock.now) or self.held or self.parked:
            self._deliver()
        if loop.stepped:
            return  # it gets a turn because there is work
        loop.last_turn = turn
        if timeout is not None and timeout <= 0:
            if self.stepped and self._ready():
                self._wait(Waiter(loop.process, _at_once, None, loop))
            return
        loop.poll_until(self.poll_deadline(timeout))
        if not self._wait_alone(loop.has_work, None, loop):
            self._wait(Waiter(loop.process, loop.has_work, None, loop))

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

    def others_done(self, loop: Runnable, limit_ns: int) -> list[int]:
        """Return the times up to `limit_ns` at which loops other than `loop` have made a step or two, after a poll that
        waits for a timer; of many, at least the first few of these times."""
        polling = [waiter.loop for waiter in self._waiters if waiter.loop is not None and waiter.done is not _at_once]
        indexed = self.run_queue.indexed
        others = self.run_queue.unsettled if indexed else self.stepped
        polling += [other for other in others if self._may_run(other.process)]
        found = self._done_by(polling, loop, limit_ns)
        if indexed:
            soonest: set[int] = set()
            for other in self.run_queue.soonest(limit_ns):
                if self._may_run(other.process):
                    soonest.update(self._done_by((other,), loop, limit_ns))
                    if len(soonest) == CONTENDERS_MAX:
                        break
            found += soonest
        return found

    def _done_by(self, polling: Iterable[Runnable], loop: Runnable, limit_ns: int) -> list[int]:
        found: list[int] = []
        for other in polling:
            if other.timers and other is not loop:
                due = other.deadline_ns()
                if due is not None and self.clock.now < due <= limit_ns:
                    found.append(due + STEP_CPU_NS)
        return found

    def block(self, process: Task, done: Callable[[], bool], deadline_ns: int | None = None) -> bool:
        """Block `process` in a call until ``done()`` or the deadline, while all others run. Returns ``done()``."""
        if done():
            return True
        if not self._wait_alone(done, deadline_ns, None):
            self._wait(Waiter(process, done, deadline_ns))
        return done()

    def _wait_alone(self, done: Callable[[], bool], deadline_ns: int | None, poller: Runnable | None) -> bool:
        """Wait until ``done()`` or the deadline, as long as there is no other process. `poller` is the loop that polls,
        which knows its own deadline; None if a blocking call waits. Returns False if there is another one."""
        clock = self.clock
        while not self.stepped and not self._waiters:
            if done() or (deadline_ns is not None and clock.now >= deadline_ns):
                return True
            self._pass_time(deadline_ns if poller is None else poller.deadline_ns(), poller)
        return False

    def _wait(self, waiter: Waiter) -> None:
        """Wait among other processes, until the wait is over and it is this process's turn."""
        main = waiter.loop is not None or waiter.process.loop is None or not waiter.process.loop.stepped
        if main:
            self._main = waiter
        self._waiters.append(waiter)
        loop = waiter.process.loop
        if loop is not None and self.run_queue.indexed:
            self.run_queue.look_at(loop)
        try:
            chosen = self._next()
            if chosen is not waiter:
                self._switch(waiter, chosen)
        except BaseException as error:
            if main:
                raise
            # It ends the run, whoever happens to wait.
            self._fail(waiter, error)
        finally:
            self._waiters.remove(waiter)
            if loop is not None and self.run_queue.indexed:
                self.run_queue.look_at(loop)
        if waiter.error is not None:
            raise waiter.error

    def _ready(self) -> list[Waiter | Runnable]:
        """Return the processes that can run now: those whose wait is over, and the loops of others that have work. The
        one that waits longest comes first."""
        now = self.clock.now
        found: list[Waiter] = []
        for waiter in self._waiters:
            if waiter.done() or (waiter.deadline_ns is not None and waiter.deadline_ns <= now):
                found.append(waiter)
        ready: list[Waiter | Runnable] = [*self.run_queue.with_work(now, self._may_run)]
        for waiter in reversed(found):
            insort_left(ready, waiter, key=_last_turn)
        return ready

    def _may_run(self, process: Task) -> bool:
        """Return True if the loops of the process may be given turns."""
        return not process.stopped and not self.is_waiting(process)

    def is_waiting(self, process: Task) -> bool:
        """Return True if the process waits, in a blocking call or a poll of its own."""
        for waiter in self._waiters:  # noqa: SIM110  any() would cost as much again
            if waiter.process is process:
                return True
        return False

    def _next(self) -> Waiter | Runnable:
        """Pass time until a process can run, and return it."""
        while True:
            if len(self._waiters) > 1:
                for waiter in self._waiters:
                    if not waiter.process.alive:
                        return waiter  # to be unwound, which nobody sees
            ready = self._ready()
            if ready:
                return self._choose(ready)
            due_ns = self.run_queue.next_deadline(self._may_run)
            for waiter in self._waiters:
                wait_ns = waiter.deadline_ns if waiter.loop is None else waiter.loop.deadline_ns()
                if wait_ns is not None and (due_ns is None or wait_ns < due_ns):
                    due_ns = wait_ns
            self._pass_time(due_ns, None if self._main is None else self._main.loop)

    def _pass_time(self, due_ns: int | None, poller: Runnable | None) -> None:
        """Deliver the next event, and move the clock to it, at most to `due_ns`. `poller` is the loop in whose poll
        that is, None in a blocking call of the test: no task is cancelled from outside then."""
        if self.idle_arrivals and poller is not None:
            for loop in self.loops:
                if (loop is poller or (loop.stepped and self._may_run(loop.process))) and loop.idle_arrival():
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
        self._deliver()

    # --- turns ----------------------------------------------------------------------------------------

    def _choose(self, ready: list[Waiter | Runnable]) -> Waiter | Runnable:
        if self._slice_left:
            for candidate in ready:
                if candidate.process is self._slice_owner:
                    self._slice_left -= 1
                    return candidate
        self._slice_left = 0
        if len(ready) == 1:
            return ready[0]
        answer = self.choices.choose("world", "process.turn", len(ready) * len(TIME_SLICES), ready)
        which_slice, which = divmod(answer, len(ready))
        self._slice_left = TIME_SLICES[which_slice] - 1
        self._slice_owner = ready[which].process
        return ready[which]

    def grant_time_slice(self, loop: Runnable, turns: int) -> None:
        """Give `loop` the next `turns` turns, as long as it has something to do."""
        if turns:
            self._slice_owner, self._slice_left = loop.process, turns

    def _give_turns(self) -> None:
        """Give turns to loops until a waiter is resumed: the main function of a stack that waits for nothing itself."""
        assert self._stacks is not None
        stack = self._stacks.current()
        while not self._closed:
            try:
                chosen = self._chosen or self._next()
                self._chosen = None
                if isinstance(chosen, Waiter):
                    self._idle.append(stack)
                    self._go_on(chosen)
                else:
                    if self.run_queue.indexed:
                        self.run_queue.look_at(chosen)
                    chosen.run_turn()
                    chosen.last_turn = self.turn
                    if self.arrivals and self.arrivals[0][0] <= self.clock.now:
                        self._deliver()
            except BaseException as error:
                self._idle.append(stack)
                self._fail(None, error)

    def _switch(self, waiter: Waiter, chosen: Waiter | Runnable) -> None:
        """Suspend `waiter` and run `chosen`. Returns once `waiter` is resumed."""
        if self._stacks is None:
            from simloop.kernel.stacks import make_stacks

            self._stacks = make_stacks({} if self._threads is None else self._threads)
        waiter.stack = self._stacks.current()
        if isinstance(chosen, Waiter):
            self._go_on(chosen)
        else:
            self._chosen = chosen
            (self._idle.pop() if self._idle else self._stacks.new(self._give_turns)).switch()

    def _go_on(self, waiter: Waiter) -> None:
        assert waiter.stack is not None
        waiter.stack.switch()

    def _fail(self, waiter: Waiter | None, error: BaseException) -> None:
        """Resume the test itself with an error, which ends the run. It is not the calling stack's."""
        main = self._main
        if self._closed or main is None:
            raise error
        main.error = error
        if waiter is not None:
            assert self._stacks is not None
            waiter.stack = self._stacks.current()
        self._go_on(main)

    def close(self) -> None:
        """Unwind the processes that still block: they must not be alive any more. From now on nothing is preempted."""
        self.stepped = _NO_LOOPS.loops
        self._slice_owner = None
        if self._stacks is None:
            return
        self._closed = True
        for waiter in list(self._waiters):
            self._go_on(waiter)
        for stack in self._idle:
            stack.switch()
        self._idle.clear()
        self._main = self._stacks = None


def plain_deadlock(scheduler: Scheduler) -> DeadlockError:
    """Return a `DeadlockError` without details, where nothing can explain the deadlock."""
    return DeadlockError("deadlock: nothing can happen any more")


def _at_once() -> bool:
    return True
