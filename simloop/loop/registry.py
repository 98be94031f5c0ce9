"""Registry of one loop's resources: tasks, transports and asynchronous generators that have to be ended.

asyncio reports leaked objects when the last reference to them goes, or when the garbage collector finds them. The
registry keeps none alive, so the former happens in a run as well; but the collector, which runs at no particular time,
is off during a run. Leak detection and cleanup find what is left at its end here, in order of creation.
"""

from __future__ import annotations

import functools
import weakref
from asyncio import base_subprocess, sslproto
from collections.abc import Callable, Iterable
from typing import Any

from simloop.loop.tasks import OrderedWeakSet, SimTask, close_coroutine

#: Finished tasks are dropped from the registry when it has grown to this, and then whenever it has doubled.
REGISTRY_START = 256


class ResourceRegistry:
    """Registry of one loop's resources that may outlive the main task."""

    __slots__ = ("_others", "_others_limit", "asyncgens", "limit", "reported", "tasks", "transports")

    def __init__(self) -> None:
        #: References to tasks in order of creation: to all that are not done, and to some that are done or gone.
        self.tasks: list[Callable[[], SimTask | None]] = []
        self.limit = REGISTRY_START
        # The rest is made by the loops that need it: a microsecond each.
        #: What asyncio keeps as ``loop._asyncgens``, and as ``loop._transports``, by descriptor.
        self.asyncgens: OrderedWeakSet | None = None
        self.transports: weakref.WeakValueDictionary[int, Any] | None = None
        # Transports of pipes and subprocesses, which asyncio does not list.
        self._others: list[weakref.ref[Any]] = []
        self._others_limit = REGISTRY_START
        #: The pids of children whose transports were left open, and reported.
        self.reported: list[int | None] = []

    def forget_finished(self) -> None:
        """Drop finished tasks of which nothing remains to be reported. Called once the registry holds `limit` tasks."""
        self.tasks[:] = [
            reference
            for reference in self.tasks
            if (task := reference()) is not None and (not task.done() or task._log_traceback)
        ]
        self.limit = max(REGISTRY_START, 2 * len(self.tasks))

    def add_transport(self, transport: Any) -> Any:
        """Register the transport of a pipe or a subprocess, and return it."""
        others = self._others
        if len(others) >= self._others_limit:
            others[:] = [reference for reference in others if reference() is not None]
            self._others_limit = max(REGISTRY_START, 2 * len(others))
        others.append(weakref.ref(transport))
        return transport

    def pending_tasks(self) -> list[SimTask]:
        """Return the tasks that are not done, in order of creation."""
        return [task for reference in self.tasks if (task := reference()) is not None and not task.done()]

    def live_tasks(self) -> list[SimTask]:
        """Return the tasks that are still alive as objects, done or not, in order of creation."""
        return [task for reference in self.tasks if (task := reference()) is not None]

    def stop(self) -> None:
        """Hold the tasks from now on, because their process was cut off. A suspended task that is dropped gets closed,
        which runs its ``finally``, and no power cut does that."""
        self.tasks[:] = [functools.partial(_same, task) for task in self.live_tasks()]

    def open_transports(self) -> list[Any]:
        """Return the transports that are not closed, in order of creation by kind."""
        transports = list(self.transports.values()) if self.transports else []
        for reference in self._others:
            transport = reference()
            if transport is not None and _is_open(transport):
                transports.append(transport)
        return transports

    def has_asyncgens(self) -> bool:
        """Return True while an asynchronous generator was begun and has not ended."""
        if self.asyncgens is None:
            return False
        # Finished ones are forgotten first: how long they stay alive is a matter of references, which
        # must not show in a run.
        for generator in self.asyncgens:
            if generator.ag_frame is None:
                self.asyncgens.discard(generator)
        return len(self.asyncgens) > 0

    def is_empty(self) -> bool:
        """Return True when no resource is left that has to be ended or reported."""
        if (self.transports or self._others) and self.open_transports():
            return False
        if self.asyncgens is not None and self.has_asyncgens():
            return False
        for reference in self.tasks:  # each process that ends asks for it: any() would cost twice as much
            task = reference()
            if task is not None and (not task.done() or task._log_traceback):
                return False
        return True

    def release(self) -> None:
        """Close unfinished tasks and drop all resources, without complaints of the garbage collector or asyncio."""
        for task in self.live_tasks():
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                close_coroutine(task.get_coro())
            elif task._log_traceback:
                task._log_traceback = False
        self.tasks.clear()
        self.forget_transports()

    def forget_transports(self) -> None:
        """Mark open transports as closed, silently: their files are gone."""
        for transport in self.open_transports():
            transport._sock = transport._pipe = None
            transport._closing = transport._closed = True
            # TLS has a transport of its own over that of the socket.
            protocol = getattr(transport, "_protocol", None)
            if isinstance(protocol, sslproto.SSLProtocol) and protocol._app_transport is not None:
                protocol._app_transport._closed = True

    def silence(self) -> Iterable[Any]:
        """Drop the tasks of a process that was cut off, without a complaint about any. Returns the coroutines of those
        that are not done, which the caller keeps."""
        coroutines = []
        for task in self.live_tasks():
            task._log_traceback = False
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutines.append(task.get_coro())
            elif not task.cancelled() and (error := task.exception()) is not None:
                error.__traceback__ = None  # its frames know the task
        self.tasks.clear()
        return coroutines


def _same(task: SimTask) -> SimTask:
    return task


def _is_open(transport: Any) -> bool:
    if isinstance(transport, base_subprocess.BaseSubprocessTransport):
        return not transport._closed
    return transport._pipe is not None
