"""A loop with asyncio's own turn, for comparison: the stock `_run_once`, `call_soon`, tasks and handles, over
the same simulated kernel.

What `SimLoop` adds to the turn is done here around the stock one, and at the places where stock asyncio has
arrivals: time passes before the turn, and outside cancellations come with the events of a poll.
"""

from __future__ import annotations

import asyncio
import collections
import sys
from typing import Any

from simloop.kernel.clock import READ_NS, SECOND, STEP_CPU_NS
from simloop.kernel.epoll import SimSelector
from simloop.loop import loop as loop_module
from simloop.loop.loop import SimLoop
from simloop.loop.stock_loop import StockLoop
from simloop.world.world import World

Poll = tuple[int, tuple[tuple[int, int], ...]]
"""When a poll returned, and the descriptors and events that it returned."""


def name_of_timer(handle: object) -> str:
    """Stock tasks have no path: on both loops a timer's points get one name."""
    return "timer"


class ScriptedSelector(SimSelector):
    """Lets the kernel go on as the poll would, and insists that it finds what the script says."""

    script: list[Poll] | None
    polls = 0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(timeout)
        if self.script is None:
            return found
        seen = (self._scheduler.clock.now, tuple((key.fd, mask) for key, mask in found))
        assert seen == self.script[self.polls], f"poll {self.polls}: {seen} is not {self.script[self.polls]}"
        self.polls += 1
        return found


class CountingQueue(collections.deque):  # type: ignore[type-arg]
    """Counts what leaves it, which is one item for each callback that is run."""

    taken = 0

    def popleft(self) -> Any:
        self.taken += 1
        return super().popleft()


class ReferenceLoop(asyncio.SelectorEventLoop):
    """Stock asyncio over the simulated kernel."""

    # As the scheduler sees a loop.
    thread = None
    stepped = False
    takes_turns = SimLoop.takes_turns
    has_other_work = SimLoop.has_other_work
    has_work = SimLoop.has_work
    deadline_ns = SimLoop.deadline_ns
    poll_until = SimLoop.poll_until
    _is_late = SimLoop._is_late
    _has_second = SimLoop._has_second
    idle_arrival = SimLoop.idle_arrival
    may_cancel = SimLoop.may_cancel
    let_cancel = SimLoop.let_cancel
    _cancel_from_outside = SimLoop._cancel_from_outside
    _drop_cancelled_timers = SimLoop._drop_cancelled_timers
    _maybe_stall = SimLoop._maybe_stall
    deadlines_between = SimLoop.deadlines_between
    timer_due = SimLoop.timer_due
    _order_ties = StockLoop._order_ties

    def __init__(self, world: World, script: list[Poll]) -> None:
        self.world = world
        self.process = world.root
        self.last_turn = self.busy_turns = 0
        self.poll_until(None)
        self._clock = world.scheduler.clock
        self._scheduler = world.scheduler
        self._cancellable: list[Any] = []
        self._timer_names = name_of_timer
        selector = ScriptedSelector(world.scheduler, world.root)
        selector.script = script
        super().__init__(selector)
        selector.loop = self  # type: ignore[assignment]
        self._candidates = selector.candidates
        self._ready = CountingQueue()
        world.root.loop = self  # type: ignore[assignment]
        world.scheduler.add(self)  # type: ignore[arg-type]
        self.batches: list[int] = []

    @property
    def timers(self) -> Any:
        return self._scheduled  # type: ignore[attr-defined]

    def clean_up(self) -> None:
        """End what the program has left, so that the collector finds nothing: off the script."""
        self._selector.script = None  # type: ignore[attr-defined]
        self.set_exception_handler(lambda loop, context: None)
        for transport in list(self._transports.values()):  # type: ignore[attr-defined]
            transport.abort()
        tasks = sorted(asyncio.all_tasks(self), key=asyncio.Task.get_name)
        for task in tasks:
            task.cancel()
        self.run_until_complete(asyncio.wait_for(_settle(tasks), 1))
        self.world.scheduler.remove(self)  # type: ignore[arg-type]
        self.close()

    def _make_self_pipe(self) -> None:
        pass

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def time(self) -> float:
        # Only a program's look at the clock costs time; the turn's own is paid for below.
        if sys._getframe(1).f_code.co_name == "_run_once":
            return self._clock.now / SECOND
        return self._clock.read() / SECOND

    def _process_events(self, event_list: Any) -> None:
        super()._process_events(event_list)  # type: ignore[misc]
        self._cancel_from_outside()
        self._order_ties()

    def _run_once(self) -> None:
        self._drop_cancelled_timers()
        self._clock.now += READ_NS
        if self._ready or self._stopping:  # type: ignore[attr-defined]
            self.busy_turns += 1
            if self.busy_turns > loop_module.SPINS:
                self._clock.now += STEP_CPU_NS
            if self._scheduled:  # type: ignore[attr-defined]
                self._maybe_stall()
        else:
            self.busy_turns = 0
        before = self._ready.taken
        super()._run_once()  # type: ignore[misc]
        self.batches.append(self._ready.taken - before)


async def _settle(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(5):
        await asyncio.sleep(0)


class RecordingLoop(SimLoop):
    """The loop under test; writes the script down. Its fast path is the one that users run."""

    def __init__(self, world: World, process: Any) -> None:
        super().__init__(world, process)
        self._timer_names = name_of_timer  # type: ignore[assignment]
        self.script: list[Poll] = []
        self.batches: list[int] = []
        collect = self._selector.collect

        def collected() -> Any:
            found = collect()
            events = tuple((key.fd, mask) for key, mask in found)
            self.script[-1] = (self.script[-1][0], events)
            return found

        self._selector.collect = collected  # type: ignore[method-assign]
        scheduler = self._scheduler

        class Recorder:
            """The scheduler; sees the polls that the loop's turn makes by a call, and those that it does itself."""

            def __getattr__(_, name: str) -> Any:
                return getattr(scheduler, name)

            def __setattr__(_, name: str, value: Any) -> None:
                assert name == "turn"
                scheduler.turn = value
                self.script.append((self._clock.now, ()))

            def poll(_, loop: Any, timeout: float | None) -> None:
                scheduler.poll(loop, timeout)
                self.script.append((self._clock.now, ()))

        self._scheduler = Recorder()  # type: ignore[assignment]

    def _run_once(self) -> None:
        before = self.world.steps
        super()._run_once()
        self.batches.append(self.world.steps - before)
