"""Tasks, futures and handles of a simulated loop: those of asyncio, but with hashes that do not depend on memory
addresses."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from asyncio import events
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from simloop.choices.choices import nth

#: Maximum number of calls of ``close()`` for a coroutine that awaits again while it is being closed.
_CLOSE_ATTEMPTS = 20


class SimFuture(asyncio.Future):  # type: ignore[type-arg]
    """Future of a simulated loop. Its hash is a number in order of first use, so that sets iterate alike in every real
    process. The number is assigned late, because most futures are never hashed."""

    _sim_number: int

    def __hash__(self) -> int:
        try:
            return self._sim_number
        except AttributeError:
            loop: Any = self.get_loop()
            self._sim_number = loop._sim_numbers = loop._sim_numbers + 1
            return self._sim_number


class Siblings(list[str]):
    """List of the function names of all child tasks of one task, in order of creation."""

    __slots__ = ("_counts", "_numbers")

    def number(self, index: int) -> int:
        """Return the number, counted from 1, of the child task at `index` among those whose function names have the
        same first `LABEL` characters."""
        try:
            numbers, counts = self._numbers, self._counts
        except AttributeError:
            self._numbers, self._counts = numbers, counts = [], {}
        for name in self[len(numbers) : index + 1]:
            label = name[:LABEL]
            counts[label] = number = counts.get(label, 0) + 1
            numbers.append(number)
        return numbers[index]

    _numbers: list[int]
    _counts: dict[str, int]


Origin = tuple["Origin | None", Siblings, int, str]
"""Position of a task in the tree of tasks: the parent's origin (None for no parent), the functions of all the parent's
children so far, the task's index among these, and the prefix for its process."""


class SimTask(asyncio.Task):  # type: ignore[type-arg]
    """Task of a simulated loop. Its hash is its number in order of creation."""

    __slots__ = ("sim_children", "sim_number", "sim_origin", "sim_path")

    sim_number: int
    sim_origin: Origin
    #: Names of the functions of the tasks that this task created; None if it has created none.
    sim_children: Siblings | None
    #: Path of the task in the tree of tasks, set by the first call of `path_of`.
    sim_path: str

    def __hash__(self) -> int:
        return self.sim_number


# Their reprs end up in users' logs, and in tests that compare them.
SimFuture.__name__ = SimFuture.__qualname__ = "Future"
SimTask.__name__ = SimTask.__qualname__ = "Task"


class SimHandle(events.Handle):
    """Handle of a queued callback, for loops without debug mode. `SimLoop.call_soon` sets all attributes that the stock
    ``__init__`` would set (Lib/asyncio/events.py), because calling that would double the cost."""

    __slots__ = ()
    # Calling the class makes an empty one: this is half the price of calling `__new__`.
    __init__ = object.__init__

    _context: contextvars.Context
    _loop: asyncio.AbstractEventLoop
    _callback: Callable[..., Any]
    _repr: str | None
    _source_traceback: None


class SimTimerHandle(events.TimerHandle):
    """Timer handle with a name for choice points, `sim_who`, which is None until `simloop.loop.timers.TimerNames` sets
    it."""

    __slots__ = ("sim_who",)

    sim_who: str | None


SimHandle.__name__ = SimHandle.__qualname__ = "Handle"
SimTimerHandle.__name__ = SimTimerHandle.__qualname__ = "TimerHandle"


class OrderedWeakSet:
    """Weak set that iterates in order of insertion."""

    def __init__(self) -> None:
        self._refs: dict[int, weakref.ref[Any]] = {}

    def add(self, item: Any) -> None:
        key = id(item)
        self._refs[key] = weakref.ref(item, lambda _: self._refs.pop(key, None))

    def discard(self, item: Any) -> None:
        self._refs.pop(id(item), None)

    def clear(self) -> None:
        self._refs.clear()

    def __len__(self) -> int:
        return len(self._refs)

    def __iter__(self) -> Iterator[Any]:
        return iter([item for ref in list(self._refs.values()) if (item := ref()) is not None])


def task_of(handle: Any) -> asyncio.Task[Any] | None:
    """Return the task of which this handle runs a step; None if it runs another callback."""
    owner = getattr(handle._callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None


def path_of(task: asyncio.Task[Any] | None) -> str:
    """Return the path of a task in the tree of tasks: ``serve.read#2`` is the second task of a function `read` that was
    created by the first task of a function `serve`.

    The main task is ``0``, and the paths of its children do not contain it; those of tasks that were created by a
    callback start with ``@``. A path does not depend on tasks of other functions.
    """
    if not isinstance(task, SimTask):
        return "?"
    try:
        return task.sim_path
    except AttributeError:
        task.sim_path = path = _path(task.sim_origin)
        return path


def _path(origin: Origin) -> str:
    labels: list[str] = []
    node: Origin | None = origin
    while node is not None:
        parent, siblings, index, prefix = node
        if index >= 0:
            label = siblings[index][:LABEL]
            labels.append(f"{'' if parent else '@'}{nth(label, siblings.number(index))}")
        node = parent
    return prefix + (".".join(reversed(labels)) or "0")


#: Number of characters of a function's name that are used in names for choice points: a compromise between distinct
#: names and short tokens.
LABEL = 12


def innermost(task: asyncio.Task[Any]) -> str:
    """Return the name of the innermost function in which a suspended task waits, cut to `LABEL` characters; "?" if
    there is none."""
    name = "?"
    awaitable: Any = task.get_coro()
    while awaitable is not None:
        for attribute in ("cr_await", "gi_yieldfrom", "ag_await"):
            try:
                inner = getattr(awaitable, attribute)
            except AttributeError:
                continue
            name = awaitable.__name__
            break
        else:
            break
        awaitable = inner
    return name[:LABEL]


def close_coroutine(coro: Any) -> None:
    """Close a coroutine that will never be resumed now, instead of leaving that to the garbage collector."""
    for _ in range(_CLOSE_ATTEMPTS):
        try:
            coro.close()
            return
        except BaseException:  # whatever its cleanup does: awaiting again, mostly
            continue


def coroutine_of(task: asyncio.Task[Any]) -> Coroutine[Any, Any, Any] | None:
    coro = task.get_coro()
    return coro if isinstance(coro, Coroutine) else None
