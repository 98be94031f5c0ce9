"""Event loops of processes other than the test itself. Their turns (iterations) are run by the scheduler while other
processes wait."""

from __future__ import annotations

import asyncio
import sys
from _thread import get_ident
from asyncio import events, tasks
from collections import deque
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING, Any

from simloop.errors import SimulationError
from simloop.kernel.clock import SECOND, STEP_CPU_NS
from simloop.kernel.process.process import ProcessGone
from simloop.kernel.run_queue import NoticedDict, NoticedQueue
from simloop.loop.loop import SimLoop

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.world.world import World

# Since Python 3.14 the running task is kept by thread, no longer by loop: whoever runs another loop in the middle of a
# step, or none, sets it aside (swap_current_task in Modules/_asynciomodule.c).
_swap_task: Any = tasks._swap_current_task if sys.version_info >= (3, 14) else None  # type: ignore[attr-defined]


class SteppedLoop(SimLoop):
    """Event loop of a simulated process other than the test itself: the scheduler runs it turn by turn (a turn is one
    iteration).

    ``on_stop(quiet)`` is called after a turn in which the loop stopped; `quiet` is True if the loop is known to have
    nothing left to do. ``on_break(error)`` is called with an exception that leaves a turn: that of a signal handler, or
    `SystemExit`.
    """

    #: Called when the loop stops, or is left by an exception; both are None once the process has ended.
    on_stop: Callable[[bool], None] | None
    on_break: Callable[[BaseException], None] | None
    #: Future until which the loop runs: it stops when that is done.
    until: asyncio.Future[Any] | None = None
    # What was current when the turn that goes on began: process, running loop, its task, and its hooks.
    _outside: tuple[Process, Any, Any, Any]
    # Task in the middle of which it blocks.
    _suspended: Any = None

    def __init__(
        self,
        world: World,
        process: Process,
        on_stop: Callable[[bool], None],
        on_break: Callable[[BaseException], None],
    ) -> None:
        super().__init__(world, process)
        if world.choices.stock is not None:
            world.choices.stock.foreign.append("several processes")
        # Running from now on, by calls of `run_turn` alone.
        self._thread_id = get_ident()
        self.stepped = True
        self._scheduler.step(self)
        self.on_stop, self.on_break = on_stop, on_break

    def stop(self) -> None:
        super().stop()
        self._scheduler.run_queue.look_at(self)

    def tell(self, notice: Callable[[], None] | None) -> bool:
        ready, candidates = self._ready, self._candidates
        if notice is not None and type(ready) is deque and not ready and not self._selector.get_map():
            self._ready = ready = NoticedQueue()
            self._candidates = self._selector.candidates = candidates = NoticedDict()
        if type(ready) is not NoticedQueue:
            return False
        ready.notice = candidates.notice = notice
        return True

    def queues(self) -> tuple[Sized, Sized]:
        return self._ready, self._candidates

    def run_turn(self) -> None:
        """Run one turn (iteration) of the loop, while other processes wait."""
        self._begin_turn()
        try:
            process = self.process
            steps = process.steps
            self._run_once()
            if process.host.slowness != 1 and (steps := process.steps - steps):
                # What its steps take longer than elsewhere: it is as busy as in a call that blocks.
                more_ns = steps * STEP_CPU_NS * (process.host.slowness - 1)
                try:
                    self.world.block(lambda: False, more_ns / SECOND, warn=False)
                except ProcessGone:
                    return
            if self._stopping:
                if self.on_stop is not None:
                    self._stopping = False
                    self.on_stop(False)
            elif self.until is not None and self.until.done():
                if not self.until.cancelled():
                    self.until.exception()  # it is raised where the result is asked for: nobody need be told of it
                self.until = None
                # As run_until_complete() of Lib/asyncio/base_events.py, the loop stops with its next turn, in which
                # what is queued by now still runs.
                self._stopping = True
                if self.on_stop is not None and self.is_quiet():
                    self._stopping = False
                    self.on_stop(True)
        except BaseException as error:
            if self.on_break is None or not self._is_its_own(error):
                raise
            self.on_break(error)
        finally:
            self._end_turn()
            self._polls_until_ns = None

    def _begin_turn(self) -> None:
        """Make this loop asyncio's running one, and its process the current one."""
        world = self.world
        running = events._get_running_loop()
        task = _swap_task(running, None) if _swap_task is not None and running is not None else None
        # The hooks of the loop whose turn this one is in the middle of find this one. To set them has its price: the
        # interpreter announces it to audit hooks.
        hooks = None if isinstance(running, SimLoop) else sys.get_asyncgen_hooks()
        self._outside = world.current, running, task, hooks
        world.current = self.process
        events._set_running_loop(self)
        if hooks is not None:
            self._set_asyncgen_hooks()
        if self._debug:
            self._thread_id = get_ident()  # a stack may be a thread

    def _end_turn(self) -> None:
        self.world.current, running, task, hooks = self._outside
        if hooks is not None:
            sys.set_asyncgen_hooks(*hooks)
        events._set_running_loop(running)
        if task is not None:
            _swap_task(running, task)

    def suspend(self) -> None:
        self._suspended = None if _swap_task is None else _swap_task(self, None)
        self._end_turn()

    def resume(self) -> None:
        self._begin_turn()
        if self._suspended is not None:
            _swap_task(self, self._suspended)
            self._suspended = None

    def _is_its_own(self, error: BaseException) -> bool:
        """Return True if `error` ends only this process; False if it ends the whole run, or the session (Ctrl-C)."""
        if isinstance(error, KeyboardInterrupt):
            return error is self.process.broken_by
        return not isinstance(error, SimulationError)

    def end_turns(self) -> None:
        self._thread_id = None
        self.on_stop = self.on_break = self.until = None
        self.close()
