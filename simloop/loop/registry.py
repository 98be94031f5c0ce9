"""Registry of what one loop has made and somebody has to end: tasks, transports, asynchronous generators.

asyncio tells users of what they left behind when the garbage collector finds it, which is at no particular time. The
registry is what leak detection and cleanup at the end of a run go by instead.
"""

from __future__ import annotations

import weakref
from asyncio import base_subprocess
from collections.abc import Iterable
from typing import Any

from simloop.loop.tasks import OrderedWeakSet, SimTask, close_coroutine

#: Finished tasks are dropped from the registry when it has grown to this, and then whenever it has doubled.
REGISTRY_START = 256


class ResourceRegistry:
    """Registry of what one loop has made and what may outlive the program's main task."""

    __slots__ = ("_others", "asyncgens", "limit", "reported", "tasks", "transports")

    def __init__(self) -> None:
        #: All tasks that are not done, in order of creation; among others that are.
        self.tasks: list[SimTask] = []
        self.limit = REGISTRY_START
        # The rest is made by the loops that need it: a microsecond each.
        #: What asyncio keeps as ``loop._asyncgens``, and as ``loop._transports``, by descriptor.
        self.asyncgens: OrderedWeakSet | None = None
        self.transports: weakref.WeakValueDictionary[int, Any] | None = None
        # Transports of pipes and subprocesses, which asyncio does not list.
        self._others: list[weakref.ref[Any]] = []
        #: The pids of children whose transports were left open, and reported.
        self.reported: list[int | None] = []

    def forget_finished(self) -> None:
        """Drop tasks of which nothing is to be told any more, once there are `limit` of them."""
        self.tasks[:] = [task for task in self.tasks if not task.done() or task._log_traceback]
        self.limit = max(REGISTRY_START, 2 * len(self.tasks))

    def add_transport(self, transport: Any) -> Any:
        """Note the transport of a pipe or a subprocess, and return it."""
        others = self._others
        if len(others) > REGISTRY_START:
            others[:] = [reference for reference in others if reference() is not None]
        others.append(weakref.ref(transport))
        return transport

    def pending_tasks(self) -> list[SimTask]:
        """Tasks that are not done, in order of creation."""
        return [task for task in self.tasks if not task.done()]

    def open_transports(self) -> list[Any]:
        """Transports that are not closed, in order of creation by kind."""
        transports = list(self.transports.values()) if self.transports else []
        for reference in self._others:
            transport = reference()
            if transport is not None and _is_open(transport):
                transports.append(transport)
        return transports

    def has_asyncgens(self) -> bool:
        """True while an asynchronous generator was begun and has not ended."""
        if self.asyncgens is None:
            return False
        # Finished ones are forgotten first: how long they stay alive is a matter of references, which
        # must not show in a run.
        for generator in self.asyncgens:
            if generator.ag_frame is None:
                self.asyncgens.discard(generator)
        return len(self.asyncgens) > 0

    def is_empty(self) -> bool:
        """True when nothing is left that has to be ended or reported."""
        if (self.transports or self._others) and self.open_transports():
            return False
        if self.asyncgens is not None and self.has_asyncgens():
            return False
        for task in self.tasks:  # noqa: SIM110  each process that ends asks for it: any() would cost twice as much
            if not task.done() or task._log_traceback:
                return False
        return True

    def release(self) -> None:
        """Let go of everything, and leave nothing that the collector or asyncio would complain of."""
        for task in self.tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                close_coroutine(task.get_coro())
            elif task._log_traceback:
                task._log_traceback = False
        self.tasks.clear()
        self.forget_transports()

    def forget_transports(self) -> None:
        """Make open transports look closed: their files are gone, and nobody is told."""
        for transport in self.open_transports():
            transport._sock = transport._pipe = None
            transport._closing = transport._closed = True

    def silence(self) -> Iterable[Any]:
        """Drop the tasks of a process that was cut off, without a complaint about any. Returns the coroutines of those
        that are not done, for whoever keeps them."""
        coroutines = []
        for task in self.tasks:
            task._log_traceback = False
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutines.append(task.get_coro())
            elif not task.cancelled() and (error := task.exception()) is not None:
                error.__traceback__ = None  # its frames know the task
        self.tasks.clear()
        return coroutines


def _is_open(transport: Any) -> bool:
    if isinstance(transport, base_subprocess.BaseSubprocessTransport):
        return not transport._closed
    return transport._pipe is not None
