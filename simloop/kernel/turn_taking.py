"""Turns of several processes (a turn is one iteration of an event loop): which process continues next, on which call
stack.

Loops of processes other than the test itself are run turn by turn, on a call stack that belongs to no process. If a
process blocks in the middle of a turn, it keeps that stack, and the others continue on another one. A process that
waits continues once its wait is over and it is its turn. As long as there is only one process, this module is not
imported.
"""

from __future__ import annotations

from bisect import insort_left
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from simloop.kernel.clock import STEP_CPU_NS, Clock
from simloop.kernel.run_queue import Runnable, RunQueue, Task

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.kernel.stacks import Stack, Stacks

# Time slices (quanta), in turns: so many in a row a process may run while others have work, too. Its step is short,
# theirs are long, or their processor is busy.
TIME_SLICES = (1, 2, 4, 8, 16)

_last_turn = attrgetter("last_turn")


class Time(Protocol):
    """Structural type of the scheduler, with those attributes that taking turns needs."""

    choices: Choices
    clock: Clock
    turn: int
    arrivals: list[tuple[int, int, Callable[[], None]]]

    def pass_time(self, due_ns: int | None, poller: Runnable | None) -> None:
        """Deliver the next event, and advance the clock to its time, but not beyond `due_ns`. `poller` is the loop
        whose poll waits; None if a blocking call waits."""

    def deliver(self) -> None:
        """Deliver all events that are due."""


class Waiter:
    """Record of a process that waits, in a blocking call or in its loop's poll, until ``done()`` is True or the
    deadline is reached."""

    __slots__ = ("deadline_ns", "done", "error", "last_turn", "loop", "process", "stack")

    def __init__(
        self, process: Task, done: Callable[[], bool], deadline_ns: int | None, loop: Runnable | None = None
    ) -> None:
        self.process = process
        self.done = done
        self.deadline_ns = deadline_ns
        #: Loop that polls, which has a deadline of its own; None for a blocking call.
        self.loop = loop
        self.last_turn = 0 if process.loop is None else process.loop.last_turn
        #: Call stack to be resumed when the wait is over; None as long as that stack is the running one.
        self.stack: Stack | None = None
        #: Exception to be raised by the wait; None if it ends normally.
        self.error: BaseException | None = None


class TurnTaking:
    """Turns of the processes of one world: those that wait, the loops that are run turn by turn, and the call
    stacks."""

    __slots__ = (
        "_chosen", "_closed", "_idle", "_main", "_slice_left", "_slice_owner", "_stacks", "_threads", "_time",
        "run_queue", "waiters",
    )  # fmt: skip

    def __init__(self, time: Time, threads: dict[int, Any]) -> None:
        self._time = time
        #: Loops that are run turn by turn.
        self.run_queue = RunQueue()
        # The process that has a time slice, and how many turns of it are left.
        self._slice_owner: Task | None = None
        self._slice_left = 0
        #: Processes that wait, in a blocking call or in a poll that they called themselves.
        self.waiters: list[Waiter] = []
        # The one of them that is the test itself.
        self._main: Waiter | None = None
        # Stacks that wait for a loop to give a turn to, and that loop.
        self._idle: list[Stack] = []
        self._chosen: Runnable | None = None
        self._threads = threads
        self._stacks: Stacks | None = None
        self._closed = False

    @property
    def on_threads(self) -> bool:
        """True if the call stacks of processes are real threads."""
        if self._stacks is None:
            return False
        from simloop.kernel.stacks import Threads

        return isinstance(self._stacks, Threads)

    def let_others_go(self, loop: Runnable) -> None:
        """Run other processes that can run now, if there are any, until it is the turn of `loop` again. `loop` has work
        of its own, and so waits for nothing else."""
        if self._ready():
            self._wait(Waiter(loop.process, _at_once, None, loop))

    def wait(
        self, process: Task, done: Callable[[], bool], deadline_ns: int | None, loop: Runnable | None = None
    ) -> None:
        """Suspend `process`, and run others, until ``done()`` is True or the deadline is reached and it is the turn of
        `process`. `loop` is the loop that polls; None for a blocking call."""
        self._wait(Waiter(process, done, deadline_ns, loop))

    def _wait(self, waiter: Waiter) -> None:
        main = waiter.loop is not None or waiter.process.loop is None or not waiter.process.loop.stepped
        if main:
            self._main = waiter
        self.waiters.append(waiter)
        waiter.process.waits += 1
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
            self.waiters.remove(waiter)
            waiter.process.waits -= 1
            if loop is not None and self.run_queue.indexed:
                self.run_queue.look_at(loop)
        if waiter.error is not None:
            raise waiter.error

    def _ready(self) -> list[Waiter | Runnable]:
        """Return the processes that can run now, the one that has waited longest first: as a `Waiter` if its wait is
        over, or as its loop if that has work."""
        now = self._time.clock.now
        found: list[Waiter] = []
        for waiter in self.waiters:
            if waiter.done() or (waiter.deadline_ns is not None and waiter.deadline_ns <= now):
                found.append(waiter)
        ready: list[Waiter | Runnable] = [*self.run_queue.with_work(now, _may_run)]
        for waiter in reversed(found):
            insort_left(ready, waiter, key=_last_turn)
        return ready

    def _next(self) -> Waiter | Runnable:
        """Advance time until a process can run, and return that process: its `Waiter`, or its loop."""
        while True:
            if len(self.waiters) > 1:
                for waiter in self.waiters:
                    if not waiter.process.alive:
                        return waiter  # to be unwound, which nobody sees
            ready = self._ready()
            if ready:
                return self._choose(ready)
            due_ns = self.run_queue.next_deadline(_may_run)
            for waiter in self.waiters:
                wait_ns = waiter.deadline_ns if waiter.loop is None else waiter.loop.deadline_ns()
                if wait_ns is not None and (due_ns is None or wait_ns < due_ns):
                    due_ns = wait_ns
            self._time.pass_time(due_ns, None if self._main is None else self._main.loop)

    def _choose(self, ready: list[Waiter | Runnable]) -> Waiter | Runnable:
        if self._slice_left:
            for candidate in ready:
                if candidate.process is self._slice_owner:
                    self._slice_left -= 1
                    return candidate
        self._slice_left = 0
        if len(ready) == 1:
            return ready[0]
        answer = self._time.choices.choose("world", "process.turn", len(ready) * len(TIME_SLICES), ready)
        which_slice, which = divmod(answer, len(ready))
        self._slice_left = TIME_SLICES[which_slice] - 1
        self._slice_owner = ready[which].process
        return ready[which]

    def grant_time_slice(self, loop: Runnable, turns: int) -> None:
        if turns:
            self._slice_owner, self._slice_left = loop.process, turns

    def _give_turns(self) -> None:
        """Run turns of loops, and resume waiters when their waits are over: main function of a call stack that belongs
        to no process."""
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
                    chosen.last_turn = self._time.turn
                    if self._time.arrivals and self._time.arrivals[0][0] <= self._time.clock.now:
                        self._time.deliver()
            except BaseException as error:
                self._idle.append(stack)
                self._fail(None, error)

    def _switch(self, waiter: Waiter, chosen: Waiter | Runnable) -> None:
        """Suspend the process of `waiter` and run `chosen`. Returns once `waiter` is resumed."""
        if self._stacks is None:
            from simloop.kernel.stacks import make_stacks

            self._stacks = make_stacks(self._threads)
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
        """Resume the test itself and raise `error` there, which ends the run. `waiter` is the process on whose call
        stack the error occurred, although it is not to blame; None for a stack that belongs to no process."""
        main = self._main
        if self._closed or main is None:
            raise error
        main.error = error
        if waiter is not None:
            assert self._stacks is not None
            waiter.stack = self._stacks.current()
        self._go_on(main)

    def others_done(self, loop: Runnable, limit_ns: int, few: int) -> list[int]:
        """Return the times up to `limit_ns` at which loops other than `loop`, which now wait for a timer, will have run
        a callback or two; if there are many, at least the earliest `few`."""
        polling = [waiter.loop for waiter in self.waiters if waiter.loop is not None and waiter.done is not _at_once]
        indexed = self.run_queue.indexed
        others = self.run_queue.unsettled if indexed else self.run_queue.loops
        polling += [other for other in others if _may_run(other.process)]
        found = self._done_by(polling, loop, limit_ns)
        if indexed:
            soonest: set[int] = set()
            for other in self.run_queue.soonest(limit_ns):
                if _may_run(other.process):
                    soonest.update(self._done_by((other,), loop, limit_ns))
                    if len(soonest) == few:
                        break
            found += soonest
        return found

    def _done_by(self, polling: Iterable[Runnable], loop: Runnable, limit_ns: int) -> list[int]:
        found: list[int] = []
        for other in polling:
            if other.timers and other is not loop:
                due = other.deadline_ns()
                if due is not None and self._time.clock.now < due <= limit_ns:
                    found.append(due + STEP_CPU_NS)
        return found

    def close(self) -> None:
        """End the calls of processes that still block, which must have been killed before. There is no preemption from
        now on."""
        self._slice_owner = None
        if self._stacks is None:
            return
        self._closed = True
        for waiter in list(self.waiters):
            self._go_on(waiter)
        for stack in self._idle:
            stack.switch()
        self._idle.clear()
        self._main = self._stacks = None


def _at_once() -> bool:
    return True


def _may_run(process: Task) -> bool:
    """Return True if loops of `process` may be given turns: it is neither waiting nor stopped."""
    return not process.waits and not process.stopped
