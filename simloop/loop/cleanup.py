"""What a run leaves behind, found at its end and by the run's own registry: the collector, which tells users of
asyncio, comes at no particular time."""

from __future__ import annotations

import asyncio
import heapq
import warnings
import weakref
from asyncio import base_subprocess, events, unix_events
from functools import cached_property
from typing import Any

from simloop.kernel.epoll import SimSelector
from simloop.kernel.process.process import Process, State
from simloop.loop.crashed_tasks import keep as keep_for_good
from simloop.loop.stock_state import usual_watcher
from simloop.loop.tasks import OrderedWeakSet, SimTask, close_coroutine
from simloop.world.world import World

# Lib/asyncio/base_events.py: when cancelled timers are swept out of the heap.
_MIN_SCHEDULED_TIMER_HANDLES = 100
_MIN_CANCELLED_TIMER_HANDLES_FRACTION = 0.5
#: Finished tasks are dropped from the registry when it has grown to this, and then whenever it has doubled.
REGISTRY_START = 256


def _is_open(transport: Any) -> bool:
    if isinstance(transport, base_subprocess.BaseSubprocessTransport):
        return not transport._closed
    return transport._pipe is not None


class TidyLoop(asyncio.SelectorEventLoop):
    """A loop that knows its tasks, transports and async generators, and can end them."""

    _ready: Any
    _selector: SimSelector
    _default_executor: Any
    _scheduled: list[Any]
    _timer_cancelled_count: int
    _cancellable: list[Any]
    _closed: bool
    world: World
    process: Process
    #: What `asyncio.run` would call its main task.
    main_task: asyncio.Task[Any] | None = None
    _sim_tasks: list[SimTask]
    _sim_task_limit: int

    @cached_property
    def _asyncgens(self) -> OrderedWeakSet:
        return OrderedWeakSet()

    @cached_property
    def _transports(self) -> weakref.WeakValueDictionary[int, Any]:
        # As in selector_events.py, but made by the runs that have any: it costs a microsecond.
        return weakref.WeakValueDictionary()

    @cached_property
    def _noted_transports(self) -> list[weakref.ref[Any]]:
        # Those of pipes and subprocesses, which asyncio does not list.
        return []

    @cached_property
    def _guests(self) -> dict[int, TidyLoop]:
        """The loops of the async generators that were begun in other processes' turns, by address."""
        return {}

    @cached_property
    def _told(self) -> list[int | None]:
        """The pids of the children whose transports were left open, and told."""
        return []

    def _prune_registry(self) -> None:
        self._sim_tasks = [task for task in self._sim_tasks if not task.done() or task._log_traceback]
        self._sim_task_limit = max(REGISTRY_START, 2 * len(self._sim_tasks))

    def pending_tasks(self) -> list[SimTask]:
        """Tasks that are not done, in order of creation."""
        return [task for task in self._sim_tasks if not task.done()]

    def is_quiet(self) -> bool:
        """Nothing is left of the run: nothing that a few more turns could change, and nothing to report."""
        if self._ready or self._open_transports() or self._default_executor is not None or self._selector.get_map():
            return False
        if "_asyncgens" in self.__dict__ and self._has_asyncgens():
            return False
        for task in self._sim_tasks:  # noqa: SIM110  each process that ends asks for it: any() would cost twice as much
            if not task.done() or task._log_traceback:
                return False
        return True

    def _open_transports(self) -> list[Any]:
        made = self.__dict__.get("_transports")
        transports = list(made.values()) if made else []
        for reference in self.__dict__.get("_noted_transports", ()):
            transport = reference()
            if transport is not None and _is_open(transport):
                transports.append(transport)
        return transports

    # Private ways of unix_events.py by which a loop makes transports.

    def _make_read_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self._noted(super()._make_read_pipe_transport(*args, **kwargs))  # type: ignore[misc]

    def _make_write_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self._noted(super()._make_write_pipe_transport(*args, **kwargs))  # type: ignore[misc]

    async def _make_subprocess_transport(
        self,
        protocol: Any,
        args: Any,
        shell: Any,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: Any,
        extra: Any = None,
        **kwargs: Any,
    ) -> Any:
        watcher = usual_watcher()
        if watcher is None:
            transport = await super()._make_subprocess_transport(  # type: ignore[misc]
                protocol, args, shell, stdin, stdout, stderr, bufsize, extra, **kwargs
            )
            return self._noted(transport)
        # As in unix_events.py, from where it has its watcher.
        with watcher:
            if not watcher.is_active():
                raise RuntimeError("asyncio.get_child_watcher() is not activated, subprocess support is not installed.")
            waiter = self.create_future()
            make: Any = unix_events._UnixSubprocessTransport  # type: ignore[attr-defined]
            transport = make(
                self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **kwargs
            )
            notify = self._child_watcher_callback  # type: ignore[attr-defined]
            watcher.add_child_handler(transport.get_pid(), notify, transport)
            try:
                await waiter
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException:
                transport.close()
                await transport._wait()
                raise
        return self._noted(transport)

    def _noted(self, transport: Any) -> Any:
        noted = self._noted_transports
        if len(noted) > REGISTRY_START:
            noted[:] = [reference for reference in noted if reference() is not None]
        noted.append(weakref.ref(transport))
        return transport

    def _has_asyncgens(self) -> bool:
        # Finished ones are forgotten first: how long they stay alive is a matter of references, which
        # must not show in a run.
        for generator in self._asyncgens:
            if generator.ag_frame is None:
                self._asyncgens.discard(generator)
        return len(self._asyncgens) > 0

    # The interpreter has one pair of these hooks. A generator keeps the one for its end from when it was begun.

    def _asyncgen_firstiter_hook(self, generator: Any) -> None:
        # It may be another process's turn, in the middle of one of this loop.
        loop: Any = events._get_running_loop()
        if isinstance(loop, TidyLoop) and loop is not self:
            self._guests[id(generator)] = loop
        else:
            loop = self
            if "_guests" in self.__dict__:
                self._guests.pop(id(generator), None)  # of one that had this address
        asyncio.BaseEventLoop._asyncgen_firstiter_hook(loop, generator)  # type: ignore[attr-defined]

    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        loop: Any = self
        if "_guests" in self.__dict__:
            loop = self._guests.pop(id(generator), self)
        asyncio.BaseEventLoop._asyncgen_finalizer_hook(loop, generator)  # type: ignore[attr-defined]

    async def shutdown_asyncgens(self) -> None:
        self._has_asyncgens()
        await super().shutdown_asyncgens()

    def report_leftovers(self) -> None:
        """At the end of a run, say what asyncio says when the collector finds it, which is at no
        particular time: exceptions that nobody looked at, tasks that never ended, open transports."""
        for task in self._sim_tasks:
            if not task.done():
                self.call_exception_handler({"task": task, "message": "Task was destroyed but it is pending!"})
            elif task._log_traceback:
                context = {
                    "message": f"{type(task).__name__} exception was never retrieved",
                    "exception": task.exception(),
                    "future": task,
                }
                self.call_exception_handler(context)
        for transport in self._open_transports():
            if not transport.is_closing():
                warnings.warn(f"unclosed transport {transport!r}", ResourceWarning, stacklevel=2, source=transport)
                self._told.append(getattr(transport, "_pid", None))
        self._let_go()

    def call_exception_handler(self, context: Any) -> None:
        if self.process.alive:
            super().call_exception_handler(context)

    def lose_power(self) -> None:
        """Its machine is off: tasks stay where they are, and nothing is run any more."""
        # The turn that may be going on, further down the stack, still takes its batch from the queue.
        for handle in self._ready:
            handle._cancelled = True
        self._scheduled.clear()
        self._cancellable.clear()
        self._forget_transports()
        self.world.scheduler.loops.remove(self)  # type: ignore[arg-type]

    def bury(self) -> None:
        """The world of a loop that has lost its power ends."""
        if self._closed:
            return  # its process had ended before
        pending = self.pending_tasks()
        for task in pending:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        keep_for_good(task.get_coro() for task in pending)
        for task in self._sim_tasks:
            task._log_traceback = False
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                error.__traceback__ = None  # its frames know the task
        self._sim_tasks.clear()
        self.main_task = None
        self._ready.clear()
        self._selector.loop = None
        self._closed = True

    def _let_go(self) -> None:
        """Leave nothing for the collector to complain of."""
        for task in self._sim_tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                close_coroutine(task.get_coro())
            elif task._log_traceback:
                task._log_traceback = False
        self._sim_tasks.clear()
        self._forget_transports()

    def _forget_transports(self) -> None:
        for transport in self._open_transports():
            transport._sock = transport._pipe = None
            transport._closing = transport._closed = True

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As documented; the stock version waits in a thread of its own."""
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        executor.shutdown(wait=False)
        workers = self.world.workers(executor, 1, "asyncio")
        if not workers.active:
            return
        idle = self.create_future()
        self.world.scheduler.when(
            lambda: not workers.active,
            lambda: None if idle.done() else idle.set_result(None),
        )
        try:
            async with asyncio.timeout(timeout):
                await idle
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _drop_cancelled_timers(self) -> None:
        scheduled = self._scheduled
        size = len(scheduled)
        if (
            size > _MIN_SCHEDULED_TIMER_HANDLES
            and self._timer_cancelled_count / size > _MIN_CANCELLED_TIMER_HANDLES_FRACTION
        ):
            kept = []
            for handle in scheduled:
                if handle._cancelled:
                    handle._scheduled = False
                else:
                    kept.append(handle)
            heapq.heapify(kept)
            # In place: the turn holds on to the list.
            scheduled[:] = kept
            self._timer_cancelled_count = 0
        else:
            while scheduled and scheduled[0]._cancelled:
                self._timer_cancelled_count -= 1
                heapq.heappop(scheduled)._scheduled = False


def tell_children(world: World) -> None:
    """At the end of a run: children of the test, and of what ``host.run`` has started, that nobody has waited for."""
    for process in world.processes:
        parent = process.parent
        if parent is None or parent.environ is not None:
            continue
        if process.state is State.POWERED_OFF:
            continue  # it went with its machine
        if process.pid in getattr(parent.loop, "_told", ()):
            continue  # by its transport
        what = (
            "has ended, and is a zombie: nobody has waited for it"
            if process.exited
            else "is still running, and nobody has waited for it"
        )
        warnings.warn(
            f"child {process.name} (pid {process.pid}), started at {process.started_at}, {what}",
            ResourceWarning,
            stacklevel=2,
        )
