"""A process that `SimHost.run` starts: its loop is run turn by turn, in other processes' waits."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import CoroutineType
from typing import Any, Generic, TypeVar

from simloop.errors import ConfigurationError, HostCrashedError
from simloop.kernel.process import Process
from simloop.loop import SimLoop
from simloop.network.world import World

T = TypeVar("T")
Main = Callable[[], Coroutine[Any, Any, T]]


def coroutine_for(main: Main[T]) -> Coroutine[Any, Any, T]:
    """What ``main()`` returns, if it is an async function; else `ConfigurationError`."""
    if not callable(main):
        raise ConfigurationError(f"expected an async function of no arguments, not {main!r}")
    coro = main()
    if type(coro) is not CoroutineType and not asyncio.iscoroutine(coro):
        if isinstance(coro, Awaitable) and hasattr(coro, "close"):
            coro.close()
        raise ConfigurationError(f"expected an async function, but {main!r} returned {type(coro).__name__}")
    return coro


class HostedProcess(Generic[T]):
    """Takes `main` through what `asyncio.run` does, one turn at a time."""

    def __init__(
        self, world: World, process: Process, main: Coroutine[Any, Any, T], on_end: Callable[[], None]
    ) -> None:
        self._world = world
        self._process = process
        self._process.on_death = self._died
        self._on_end = on_end
        # Nothing is inherited from whoever starts a process.
        self._context = contextvars.Context()
        self._name = getattr(main, "__qualname__", "a coroutine")
        self.over = False
        self._lost = False
        previous, world.current = world.current, self._process
        try:
            self.loop = SimLoop(world, self._process)
            self.loop.run_by_turns(self._next_stage)
            self._task: asyncio.Task[T] = self.loop.create_main(main, self._context)
            self._stages = self._life()
            self._next_stage()
        finally:
            world.current = previous

    def _life(self) -> Iterator[asyncio.Future[Any]]:
        loop = self.loop
        yield self._task
        pending = loop.pending_tasks()
        if pending:
            for task in pending:
                task.cancel()
            yield asyncio.gather(*pending, return_exceptions=True)
        yield loop.create_task(loop.shutdown_asyncgens(), context=self._context)
        yield loop.create_task(loop.shutdown_default_executor(300), context=self._context)

    def _next_stage(self) -> None:
        stage = next(self._stages, None)
        if stage is not None:
            stage.add_done_callback(lambda _: self.loop.stop())
            return
        self.over = True
        self._process.on_death = None
        if not self._task.cancelled():
            self._task.exception()  # it is raised where `result` is asked for: nobody need be told of it
        self.loop.report_leftovers()
        self.loop.end_turns()
        self._ended()

    def _died(self) -> None:
        if not self.over:
            self.over = self._lost = True
            self._ended()

    def _ended(self) -> None:
        self._on_end()
        # Its generator and its loop know this object: nothing is to be left to the collector.
        self._stages = iter(())
        self.loop.on_stop = None

    def interrupt(self) -> None:
        """What Ctrl-C does under `asyncio.run`: the main task is cancelled."""
        # Through the queue, so that it wakes the loop and happens in a turn of its own process.
        if not self._process.dead:
            self.loop.call_soon_threadsafe(self._task.cancel)

    def result(self) -> T:
        if self._lost:
            host = self._process.host.name
            raise HostCrashedError(f"host {host!r} lost power while it ran {self._name}()")
        return self._task.result()
