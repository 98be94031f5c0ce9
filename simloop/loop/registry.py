"""Registry of one loop's resources: tasks, transports and asynchronous generators that may have to be ended or
reported.

asyncio reports leaked objects when the last reference to them is dropped, or when the garbage collector finds them. The
former works in a run as well, since the registry keeps no object alive. The garbage collector, which runs at
unpredictable times, is off during a run; instead, leak detection and cleanup use this registry at its end, in order of
creation.
"""

from __future__ import annotations

import functools
import weakref
from asyncio import base_subprocess, sslproto
from collections.abc import Callable
from typing import Any

from simloop.loop.tasks import OrderedWeakSet, SimTask, close_coroutine

#: Number of tasks at which finished ones are first dropped from the registry; then whenever it has doubled.
REGISTRY_START = 256


class ResourceRegistry:
    """Registry of one loop's resources that may still exist when the main task is done."""

    __slots__ = ("_others", "_others_limit", "asyncgens", "limit", "reported", "tasks", "transports")

    def __init__(self) -> None:
        #: Weak references to tasks in order of creation: to all that are not done, and to some that are done or were
        #: deleted.
        self.tasks: list[Callable[[], SimTask | None]] = []
        self.limit = REGISTRY_START
        # The rest is made by the loops that need it: a microsecond each.
        #: The loop's ``_asyncgens``, and its ``_transports`` by descriptor; None until the loop needs them.
        self.asyncgens: OrderedWeakSet | None = None
        self.transports: weakref.WeakValueDictionary[int, Any] | None = None
        # Transports of pipes and subprocesses, which asyncio does not list.
        self._others: list[weakref.ref[Any]] = []
        self._others_limit = REGISTRY_START
        #: Pids of child processes whose transports were reported as not closed.
        self.reported: list[int | None] = []

    def forget_finished(self) -> None:
        """Drop finished tasks that have nothing to report. To be called when the registry holds `limit` tasks."""
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
        """Return the tasks whose objects still exist, done or not, in order of creation."""
        return [task for reference in self.tasks if (task := reference()) is not None]

    def stop(self) -> None:
        """Keep the tasks alive from now on, since their process was killed or lost power. Otherwise, dropping a
        suspended task would close it and run its ``finally`` blocks, which a power failure does not."""
        self.tasks[:] = [functools.partial(_same, task) for task in self.live_tasks()]

    def open_transports(self) -> list[Any]:
        """Return the transports that are not closed: those of sockets, then those of pipes and subprocesses, each in
        order of creation."""
        transports = list(self.transports.values()) if self.transports else []
        for reference in self._others:
            transport = reference()
            if transport is not None and _is_open(transport):
                transports.append(transport)
        return transports

    def has_asyncgens(self) -> bool:
        """Return True if there is an asynchronous generator that was started and has not finished."""
        if self.asyncgens is None:
            return False
        # Finished ones are forgotten first: how long they stay alive is a matter of references, which
        # must not show in a run.
        for generator in self.asyncgens:
            if generator.ag_frame is None:
                self.asyncgens.discard(generator)
        return len(self.asyncgens) > 0

    def is_empty(self) -> bool:
        """Return True if there is no resource that has to be ended or reported."""
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
        """Close the coroutines of unfinished tasks (the tasks are not cancelled), and forget all resources, so that
        neither asyncio nor the garbage collector warns of them."""
        for task in self.live_tasks():
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                close_coroutine(task.get_coro())
            elif task._log_traceback:
                task._log_traceback = False
        self.tasks.clear()
        self.forget_transports()

    def forget_transports(self) -> None:
        """Mark open transports as closed without closing anything, since their files no longer exist."""
        for transport in self.open_transports():
            transport._sock = transport._pipe = None
            transport._closing = transport._closed = True
            # TLS has a transport of its own over that of the socket.
            protocol = getattr(transport, "_protocol", None)
            if isinstance(protocol, sslproto.SSLProtocol) and protocol._app_transport is not None:
                protocol._app_transport._closed = True

    def silence(self) -> list[Any]:
        """Drop the tasks of a process that was killed or lost power, so that none of them is reported. Returns the
        coroutines of unfinished ones, which the caller has to keep alive."""
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
