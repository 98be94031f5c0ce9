"""Run queue: the event loops of all processes but the test's own, to each of which the scheduler gives single turns (a
turn is one iteration of an event loop). It knows which loops have work, and when the polls of the others time out.

A world may have hundreds of processes, of which only a few are active at any time. So a loop is asked for work only
when its state may have changed: after its own turn or blocking call, after a signal, when a timer is due, when a
callback is queued, or when the state of a registered descriptor changes.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from itertools import compress
from operator import attrgetter
from typing import Any, Protocol

# Number of loops that are looked at to find the next few timers.
_FEW = 32
# Number of loops up to which each is asked for work.
_FEW_LOOPS = 8
#: Sort key by which the process that has waited longest for a turn comes first.
_last_turn = attrgetter("last_turn")


class Task(Protocol):
    """Structural type of a process, as the scheduler sees it (task_struct in include/linux/sched.h)."""

    name: str
    #: Number of blocking calls, and of polls that it called itself, in which it waits while others may run.
    waits: int

    @property
    def loop(self) -> Runnable | None:
        """Event loop of the process; None if it has none."""

    @property
    def stopped(self) -> bool:
        """True between a signal that stops the process and SIGCONT, and while its machine is paused."""

    @property
    def alive(self) -> bool:
        """False once the process was killed, or its machine has lost power."""


class Runnable(Protocol):
    """Structural type of a process's event loop, as the scheduler sees it: the unit that is scheduled."""

    @property
    def process(self) -> Task:
        """Process to which the loop belongs."""

    last_turn: int
    #: True if the scheduler runs the loop turn by turn (`run_turn`); False if the loop calls the scheduler whenever it
    #: polls.
    stepped: bool

    @property
    def timers(self) -> Sized:
        """Armed timers of the loop, as a container that is empty if there are none. Only its size is used."""

    def tell(self, notice: Callable[[], None] | None) -> bool:
        """Set the function to be called when the loop's callback queue, or its set of descriptors whose state has
        changed, stops being empty; None unsets it.

        Returns False if this loop cannot call it, because it already has callbacks or descriptors: then its `queues`
        have to be checked instead.
        """

    def queues(self) -> tuple[Sized, Sized]:
        """Return two containers: the loop's queued callbacks, and its descriptors whose state has changed. They stay
        the same objects as long as the loop exists."""

    def takes_turns(self) -> bool:
        """Return True while the scheduler may run turns of the loop: False between two calls of
        ``run_until_complete()``, and for a loop in a thread of its own."""

    def has_work(self) -> bool:
        """Return True if the poll in which the loop waits would return now: something is ready, or its timeout is over.
        The environment may choose to end the wait later than at the timeout."""

    def poll_until(self, deadline_ns: int | None) -> None:
        """Record that the loop polls from now on, until `deadline_ns` at the latest; None for no timeout."""

    def deadline_ns(self) -> int | None:
        """Return the time at which the loop's poll times out, since its next timer is due; None without a timer."""

    def deadlines_between(self, start_ns: int, end_ns: int) -> list[int]:
        """Return the deadlines of the loop's next few timers after `start_ns` and up to `end_ns`, the earliest
        first."""

    def run_turn(self) -> None:
        """Run one turn (iteration) of the loop, while other processes wait."""

    def suspend(self) -> None:
        """Suspend the current turn, since its code makes a blocking call."""

    def resume(self) -> None:
        """Resume the turn that was suspended by `suspend`."""

    def has_other_work(self) -> bool:
        """Return True if the loop has other work, tasks or timers, than the code that runs now: a blocking call
        would hold it up."""

    def lose_power(self) -> None:
        """Stop the loop for good: its machine has lost power."""

    def idle_arrival(self) -> bool:
        """Let an outside event, such as a cancellation, happen before time advances, if the environment chooses so.
        Returns True if one has."""


class NoticedQueue(deque[Any]):
    """Queue of callbacks (`collections.deque`) that calls ``notice()`` when an item is added to it while it is
    empty."""

    __slots__ = ("notice",)
    notice: Callable[[], None] | None

    def append(self, item: Any) -> None:
        if not self and self.notice is not None:
            self.notice()
        super().append(item)

    def extend(self, items: Iterable[Any]) -> None:
        for item in items:
            self.append(item)


class NoticedDict(dict[Any, None]):
    """Set of descriptors whose state has changed, which calls ``notice()`` when one is added to it while it is
    empty."""

    __slots__ = ("notice",)
    notice: Callable[[], None] | None

    def __setitem__(self, key: Any, value: None) -> None:
        if not self and self.notice is not None:
            self.notice()
        super().__setitem__(key, value)


class RunQueue:
    """Run queue of one world's loops. The scheduler calls `look_at` when a loop may no longer be given turns, or may be
    again.

    As long as there are few loops, each is asked for work every time; beyond that, tables are kept (`indexed`).
    """

    __slots__ = (
        "_asked", "_candidates", "_deadlines", "_due", "_heap", "_numbers", "_order", "_places", "_queues",
        "_unsettled", "_waiting", "_working", "indexed", "loops",
    )  # fmt: skip

    def __init__(self) -> None:
        #: All loops, in order of creation.
        self.loops: list[Runnable] = []
        #: True once there are many loops, for which tables are kept.
        self.indexed = False

    def _index(self) -> None:
        """Start to keep tables, since there are many loops now: of the loops that have work, and of the deadlines of
        the others."""
        self.indexed = True
        self._numbers: dict[Runnable, int] = {}
        # Loops that give no notice, since they were there before, and beside them: their numbers, the callbacks that
        # are queued, and the descriptors whose state has changed; nothing for those of which it is known that they have
        # work.
        self._asked: list[Runnable] = []
        self._order: list[int] = []
        self._queues: list[Sized] = []
        self._candidates: list[Sized] = []
        # Loops to be looked at: what is known of them may have changed, or their polls have timed out.
        self._unsettled: dict[Runnable, None] = {}
        self._due: dict[Runnable, None] = {}
        # Those that have work, until their next turn, the one that waits longest first; beside them their last turns
        # and numbers, by which each is found.
        self._working: list[Runnable] = []
        self._waiting: list[tuple[int, int]] = []
        self._places: dict[Runnable, tuple[int, int]] = {}
        # When the polls of all others time out; None for those that have no timer.
        self._deadlines: dict[Runnable, int | None] = {}
        # The same as a heap, with entries that are out of date.
        self._heap: list[tuple[int, int, Runnable]] = []
        loops, self.loops[:] = list(self.loops), []
        for loop in loops:
            self.add(loop)

    def add(self, loop: Runnable) -> None:
        if self.indexed:
            self._numbers[loop] = number = self._numbers[self.loops[-1]] + 1 if self.loops else 0
            if not loop.tell(partial(self._noticed, loop)):
                queue, candidates = loop.queues()
                self._asked.append(loop)
                self._order.append(number)
                self._queues.append(queue)
                self._candidates.append(candidates)
            self._unsettled[loop] = None
        self.loops.append(loop)
        if not self.indexed and len(self.loops) > _FEW_LOOPS:
            self._index()

    def remove(self, loop: Runnable) -> None:
        if self.indexed:
            self.look_at(loop)
            loop.tell(None)
            index = self._index_of(loop)
            if index is not None:
                del self._queues[index], self._candidates[index], self._order[index], self._asked[index]
            del self._numbers[loop], self._unsettled[loop]
        self.loops.remove(loop)
        self.indexed = self.indexed and bool(self.loops)

    def look_at(self, loop: Runnable) -> None:
        """Mark a loop to be asked again, since its work, its deadline or the state of its process may have changed."""
        if self.indexed and loop in self._numbers:
            self._unsettled[loop] = None
            self._deadlines.pop(loop, None)
            self._due.pop(loop, None)
            place = self._places.pop(loop, None)
            if place is not None:
                position = bisect_left(self._waiting, place)
                del self._waiting[position], self._working[position]
                index = self._index_of(loop)
                if index is not None:
                    self._queues[index], self._candidates[index] = loop.queues()

    def _noticed(self, loop: Runnable) -> None:
        if loop not in self._unsettled:
            self.look_at(loop)

    def _index_of(self, loop: Runnable) -> int | None:
        """Return the index of a loop in the lists of loops that cannot notify (``_asked`` and others); None if it is
        not there."""
        number = self._numbers[loop]
        index = bisect_left(self._order, number)
        return index if index < len(self._order) and self._order[index] == number else None

    def with_work(self, now_ns: int, may_run: Callable[[Task], bool]) -> list[Runnable]:
        """Return the loops that have work, the one that has waited longest for a turn first. Callers must not change
        the list. ``may_run(process)`` returns True if loops of `process` may be given turns."""
        if not self.indexed:
            working = [loop for loop in self.loops if may_run(loop.process) and loop.has_work()]
            return sorted(working, key=_last_turn) if len(working) > 1 else working
        heap, unsettled, due = self._heap, self._unsettled, self._due
        while heap and heap[0][0] <= now_ns:
            due_ns, _, loop = heapq.heappop(heap)
            if self._deadlines.get(loop) == due_ns:
                del self._deadlines[loop]
                due[loop] = None
        numbers = self._numbers
        asked = {*compress(self._asked, self._queues), *compress(self._asked, self._candidates), *unsettled, *due}
        for loop in sorted(asked, key=numbers.__getitem__):
            settled = loop not in unsettled
            if not (settled or may_run(loop.process)):
                continue
            if loop.has_work():
                self._place(loop)
                self._deadlines.pop(loop, None)
            elif settled and loop not in due:
                continue
            else:
                deadline_ns = self._deadlines[loop] = loop.deadline_ns()
                if deadline_ns is not None:
                    heapq.heappush(heap, (deadline_ns, numbers[loop], loop))
            unsettled.pop(loop, None)
            due.pop(loop, None)
        if len(heap) > 2 * len(self._deadlines) + _FEW:
            armed = ((due_ns, loop) for loop, due_ns in self._deadlines.items() if due_ns is not None)
            self._heap = heap = [(due_ns, numbers[loop], loop) for due_ns, loop in armed]
            heapq.heapify(heap)
        return self._working

    def _place(self, loop: Runnable) -> None:
        """Insert a loop into the sorted list of loops that have work, where it stays until its next turn."""
        place = self._places[loop] = loop.last_turn, self._numbers[loop]
        position = bisect_left(self._waiting, place)
        self._waiting.insert(position, place)
        self._working.insert(position, loop)
        index = self._index_of(loop)
        if index is not None:
            self._queues[index] = self._candidates[index] = ()

    def next_deadline(self, may_run: Callable[[Task], bool]) -> int | None:
        """Return the earliest time at which a loop's poll times out, assuming that no loop has work; None if none has a
        timer."""
        if not self.indexed:
            first_ns: int | None = None
            for loop in self.loops:
                if may_run(loop.process):
                    due = loop.deadline_ns()
                    if due is not None and (first_ns is None or due < first_ns):
                        first_ns = due
            return first_ns
        heap = self._heap
        while heap:
            due_ns, _, loop = heap[0]
            if self._deadlines.get(loop) == due_ns:
                return due_ns
            heapq.heappop(heap)
        return None

    def polling_until(self, limit_ns: int) -> Iterator[Runnable]:
        """Yield loops whose polls may time out by `limit_ns`: those whose deadline is unknown, and the first few of the
        others, the earliest deadline first. Only for an indexed queue."""
        yield from self._unsettled
        yield from self.soonest(limit_ns)

    @property
    def unsettled(self) -> Iterable[Runnable]:
        """Loops of an indexed queue that have to be asked again, and whose deadlines are therefore unknown."""
        return self._unsettled

    def soonest(self, limit_ns: int) -> Iterator[Runnable]:
        """Yield the first few loops whose polls time out by `limit_ns`, the earliest deadline first. Only for an
        indexed queue."""
        heap = self._heap
        todo = [(heap[0][0], 0)] if heap else []
        count = 0
        while todo and count < _FEW:
            due_ns, index = heapq.heappop(todo)
            if due_ns > limit_ns:
                return
            loop = heap[index][2]
            if self._deadlines.get(loop) == due_ns:
                count += 1
                yield loop
            for below in (2 * index + 1, 2 * index + 2):
                if below < len(heap):
                    heapq.heappush(todo, (heap[below][0], below))
