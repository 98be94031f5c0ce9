"""Event loop for proofs on stock asyncio: asyncio's own turn, callback queue and handles, with the simulated kernel.

`SimLoop` has its own implementation of a turn (loop iteration), for speed. A failure that is replayed on this loop does
not depend on that: `_run_once`, `call_soon`, `call_at` and `run_until_complete` are those of
Lib/asyncio/base_events.py. Only the selector, through which all events come, and the clock are simulated.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
import sys
from _thread import get_ident
from asyncio import events, futures
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from simloop.kernel.clock import READ_NS, SECOND, STEP_CPU_NS
from simloop.kernel.net.tcp import TcpSocket
from simloop.loop import loop as sim_loop
from simloop.loop.cancellation import Cancellable
from simloop.loop.loop import SimLoop
from simloop.loop.stock_state import CLOCK_RESOLUTION
from simloop.loop.timers import order_timers

if TYPE_CHECKING:
    from simloop.kernel.epoll import SimSelector
    from simloop.kernel.process.process import Process
    from simloop.world.world import World

_Stock: Any = asyncio.BaseEventLoop
_TURN = _Stock._run_once.__code__


class Arrivals:
    """Record of all arrivals at the stock loop of a run, poll by poll, from which a standalone script of the run is
    made."""

    def __init__(self) -> None:
        #: For each poll: nanoseconds since boot; the ready sockets, each as its number (in order of registration), its
        #: events, and how many bytes or connections it had; the numbers of the tasks that were cancelled from outside.
        self.polls: list[tuple[int, list[tuple[int, int, int]], list[int]]] = []
        #: Descriptions of arrivals that the script cannot express, such as "signals".
        self.foreign: list[str] = []


class StockLoop(SimLoop):
    """Event loop of one simulated process whose turns (iterations) are those of stock asyncio."""

    __slots__ = ("_arrivals", "_batch", "_cancelled", "_numbers", "_registered")

    call_at = _Stock.call_at
    call_soon = _Stock.call_soon

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world, process)
        # Number of callbacks that the turn runs.
        self._batch = 0
        self._arrivals: Arrivals = world.choices.stock
        # By descriptor, the number of each file that is registered.
        self._numbers: dict[int, int] = {}
        self._registered = 0
        # Numbers of the tasks that are cancelled at the poll that goes on.
        self._cancelled: list[int] = []
        selector = self.make_selector()
        selector.select = self._select  # type: ignore[method-assign, assignment]
        self._number_files(selector)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        thread = self.world.threads.get(get_ident())
        self._arrivals.foreign.append("threads, or names to look up")
        if thread is not None and sys._getframe(1).f_globals is not vars(futures):
            thread.may_switch()
        handle: events.Handle = _Stock.call_soon_threadsafe(self, callback, *args, context=context)
        return handle

    def run_to_end(self, futures: Iterable[asyncio.Future[Any]]) -> Any:
        result = None
        for future in futures:
            result = self.run_until_complete(future)
        return result

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

    def _number_files(self, selector: SimSelector) -> None:
        register, unregister = selector.register, selector.unregister

        def registering(*args: Any) -> Any:
            key = register(*args)
            self._numbers[key.fd] = self._registered
            self._registered += 1
            return key

        def unregistering(fileobj: Any) -> Any:
            key = unregister(fileobj)
            del self._numbers[key.fd]
            return key

        selector.register = registering  # type: ignore[method-assign, assignment]
        selector.unregister = unregistering  # type: ignore[method-assign]

    def _process_events(self, event_list: Any) -> None:
        seen = [(self._numbers[key.fd], mask, self._size(key.fd)) for key, mask in event_list]
        self._arrivals.polls.append((self._clock.now, seen, self._cancelled))
        super()._process_events(event_list)  # type: ignore[misc]
        self._cancel_from_outside()
        self._cancelled = []
        self._order_ties()

    def _order_ties(self) -> None:
        """Order due timers that have the same deadline as the environment chooses; stock asyncio takes them in the
        order of its heap."""
        scheduled: list[Any] = self._scheduled
        end_time = self._clock.now / SECOND + CLOCK_RESOLUTION
        due: list[Any] = []
        while scheduled and scheduled[0]._when < end_time:
            due.append(heapq.heappop(scheduled))
        if len(due) > 1:
            due = order_timers(due, self.world.profile, self._timer_names, self.world.choices.order)
        before = -math.inf
        for handle in due:
            before = handle._when = max(handle._when, math.nextafter(before, math.inf))
            heapq.heappush(scheduled, handle)
        self._batch = len(self._ready) + len(due)

    def _cancel_from_outside(self) -> int:
        before = list(self._cancellable)
        marks = super()._cancel_from_outside()
        for entry in before:
            if entry not in self._cancellable and getattr(entry, "handle", True):
                if isinstance(entry, Cancellable):
                    self._cancelled.append(entry.task.sim_number)  # type: ignore[attr-defined]
                else:
                    self._arrivals.foreign.append("signals")
        return marks

    def _size(self, fd: int) -> int:
        """Return the number of bytes that can be read now from a stream socket, or of connections that a listening one
        can accept."""
        file = self.process.files[fd]
        if not isinstance(file, TcpSocket):
            self._arrivals.foreign.append(type(file).__name__)
            return 0
        return len(file.queue) if file.listening() else file.available()

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
        _Stock._run_once(self)
        self.process.steps += self._batch
        self.world.steps += self._batch
        if self.world.steps > self.world.last_step:
            raise self.world.error_at_end(self._scheduler.activity())
