"""Event loop for proofs: asyncio's own turn, queue and handles over the simulated kernel.

`SimLoop` has a turn of its own, for speed. A failure that is replayed on this loop owes nothing to it: `_run_once`,
`call_soon`, `call_at` and `run_until_complete` are those of Lib/asyncio/base_events.py. What comes from outside comes
through the selector, and time through the clock; both are the simulated ones.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import sys
from _thread import get_ident
from asyncio import events, futures
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simloop.kernel.clock import READ_NS, SECOND, STEP_CPU_NS
from simloop.loop import loop as sim_loop
from simloop.loop.loop import SimLoop

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.world.world import World

_Stock: Any = asyncio.BaseEventLoop
_TURN = _Stock._run_once.__code__


class _CountingQueue(collections.deque[Any]):
    """Queue that counts what leaves it, which is one item for each callback that is run."""

    taken = 0

    def popleft(self) -> Any:
        self.taken += 1
        return super().popleft()


class StockLoop(SimLoop):
    """Event loop of one simulated process that runs stock asyncio's turns."""

    __slots__ = ()

    call_at = _Stock.call_at
    call_soon = _Stock.call_soon

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world, process)
        self._ready = _CountingQueue()
        self._selector.select = self._select  # type: ignore[method-assign, assignment]

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        thread = self.world.threads.get(get_ident())
        if thread is not None and sys._getframe(1).f_globals is not vars(futures):
            thread.may_switch()
        handle: events.Handle = _Stock.call_soon_threadsafe(self, callback, *args, context=context)
        return handle

    def run_to_end(self, task: asyncio.Future[Any]) -> Any:
        return self.run_until_complete(task)

    def time(self) -> float:
        # A turn costs one look at the clock, however often it looks.
        if sys._getframe(1).f_code is _TURN:
            return self._clock.now / SECOND
        return super().time()

    def _select(self, timeout: float | None) -> Any:
        if self.thread is not None:
            self._poll_in_thread(self.thread, timeout)
        else:
            self._scheduler.poll(self, timeout)
            if self.process.signals:
                self.world.userland.handle(self.world, self.process, at_poll=True)
        return self._selector.collect()

    def _process_events(self, event_list: Any) -> None:
        super()._process_events(event_list)  # type: ignore[misc]
        self._cancel_from_outside()

    def _run_once(self) -> None:
        if self._scheduled:
            self._drop_cancelled_timers()
        self._clock.now += READ_NS
        if self._ready or self._stopping:
            self.busy_turns += 1
            if self.busy_turns > sim_loop.SPINS:
                self._clock.now += STEP_CPU_NS
            if self._scheduled:
                self._maybe_stall()
        else:
            self.busy_turns = 0
        before = self._ready.taken
        _Stock._run_once(self)
        ran = self._ready.taken - before
        self.process.steps += ran
        self.world.steps += ran
        if self.world.steps > self.world.last_step:
            raise self.world.error_at_end(self._scheduler.activity())
