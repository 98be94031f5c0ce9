"""Inspection of waiting tasks: at which line of the user's own code a task waits, and for what."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import CodeType, FrameType
from typing import Any

from simloop.loop.tasks import coroutine_of
from simloop.sources import PACKAGE, STDLIB, Place, is_library, is_users


def name_of(task: asyncio.Task[Any]) -> str:
    """Return the name of a task for reports: the name that the program gave it, or its function."""
    name = task.get_name()
    coro = coroutine_of(task)
    function = getattr(coro, "__qualname__", "").rpartition("<locals>.")[2]
    if function and name.startswith("Task-") and name[5:].isdigit():
        return f"task {function}() ({name})"
    return f"task {name!r}"


def stack_of(task: asyncio.Task[Any]) -> list[Place]:
    """Return the places in the code at which a suspended task is, outermost first."""
    places: list[Place] = []
    awaitable: Any = coroutine_of(task)
    while awaitable is not None:
        code, frame, inner = _parts(awaitable)
        if code is None:
            break
        line = frame.f_lineno if frame is not None and frame.f_lineno else code.co_firstlineno
        places.append(Place(code.co_filename, line, code.co_qualname))
        awaitable = inner
    return places


def _parts(awaitable: Any) -> tuple[CodeType | None, FrameType | None, Any]:
    for prefix in ("cr", "gi", "ag"):
        code = getattr(awaitable, f"{prefix}_code", None)
        if code is not None:
            waits_for = getattr(awaitable, f"{prefix}_{'yieldfrom' if prefix == 'gi' else 'await'}", None)
            return code, getattr(awaitable, f"{prefix}_frame", None), waits_for
    return None, None, None


def users_place(places: list[Place]) -> Place | None:
    """Return the innermost of a stack's places in the user's own code; without any, in a library's; else of all."""
    for wanted in (is_users, is_library):
        for place in reversed(places):
            if wanted(place.file):
                return place
    return places[-1] if places else None


def inner_library(places: list[Place]) -> Place | None:
    """Return the innermost of a stack's places in an installed package, if it lies below the user's own code."""
    libraries = [place for place in places if is_library(place.file)]
    return libraries[-1] if libraries and users_place(places) != libraries[-1] else None


# What wakes a task that waits in these functions of the standard library.
_WAKERS = {
    "sleep": "its timer",
    "Queue.get": "a put() on the queue",
    "Queue.put": "a get() on the full queue",
    "Queue.join": "task_done() for every item of the queue",
    "Lock.acquire": "release() of the lock",
    "Semaphore.acquire": "release() of the semaphore",
    "Event.wait": "set() of the event",
    "Condition.wait": "notify() of the condition",
    "Barrier._wait": "more tasks at the barrier",
    "Barrier._block": "the barrier to drain",
    "StreamReader._wait_for_data": "data from the connection",
    "FlowControlMixin._drain_helper": "the other side to read",
    "BaseSelectorEventLoop.sock_recv": "data on the socket",
    "BaseSelectorEventLoop.sock_accept": "a connection to the socket",
    "BaseSelectorEventLoop._sock_connect": "an answer to the connection attempt",
    "Server.serve_forever": "close() of the server",
    "Server.wait_closed": "the server's connections to end",
    "_wait": "the futures that it waits for",
    "TaskGroup.__aexit__": "the tasks of its group",
}


# Whose methods a task may wait in, by the first part of their names.
_THINGS = {"Queue", "Lock", "Semaphore", "BoundedSemaphore", "Event", "Condition", "Barrier"}


def waited_thing(task: asyncio.Task[Any]) -> Any:
    """Return the lock, queue, event or similar object of asyncio that the task waits for; None for anything else."""
    awaitable: Any = coroutine_of(task)
    while awaitable is not None:
        code, frame, inner = _parts(awaitable)
        if code is None:
            return None
        if frame is not None and code.co_filename.startswith(STDLIB):
            own = frame.f_locals.get("self")
            if own is not None and code.co_qualname.partition(".")[0] in _THINGS:
                return own
        awaitable = inner
    return None


def named(task: asyncio.Task[Any], thing: object) -> str:
    """Return the variable name, in quotes, of `thing` in the innermost waiting function of the user; empty if it has
    none."""
    if thing is None:
        return ""
    found = ""
    awaitable: Any = coroutine_of(task)
    while awaitable is not None:
        code, frame, inner = _parts(awaitable)
        if code is None:
            break
        if frame is not None and not code.co_filename.startswith((STDLIB, PACKAGE)):
            found = _name_in(frame.f_locals, thing) or found
        awaitable = inner
    return found


def _name_in(variables: Mapping[str, Any], thing: object) -> str:
    for name, value in variables.items():
        if value is thing:
            return f"`{name}`"
    for attribute, value in getattr(variables.get("self"), "__dict__", {}).items():
        if value is thing:
            return f"`self.{attribute}`"
    return ""


def waited_tasks(task: asyncio.Task[Any]) -> list[asyncio.Task[Any]]:
    """Return the unfinished tasks whose end would wake this one, in order of creation."""
    waiter: Any = getattr(task, "_fut_waiter", None)
    waited = [waiter, *(getattr(waiter, "_children", None) or ()), *_waited_by_wait(task)]
    tasks = [other for other in waited if isinstance(other, asyncio.Task) and not other.done()]
    return sorted(tasks, key=hash) if len(tasks) > 1 else tasks


def _waited_by_wait(task: asyncio.Task[Any]) -> Any:
    """Return the futures that a task in `asyncio.wait` waits for, read from the frame of that function."""
    awaitable: Any = coroutine_of(task)
    while awaitable is not None:
        code, frame, inner = _parts(awaitable)
        if code is None:
            break
        if code.co_qualname == "_wait" and code.co_filename.startswith(STDLIB) and frame is not None:
            return frame.f_locals.get("fs", ())
        awaitable = inner
    return ()


def wakes(task: asyncio.Task[Any], places: list[Place]) -> str:
    """Return a phrase for the event that would wake a blocked task, as far as it is known."""
    waiter: Any = getattr(task, "_fut_waiter", None)
    if isinstance(waiter, asyncio.Task):
        return f"the end of task {waiter.get_name()!r}"
    names = [repr(child.get_name()) for child in waited_tasks(task)]
    if names:
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        return f"the end of {'tasks' if len(names) > 1 else 'task'} {', '.join(names[:4])}{more}"
    for place in reversed(places):
        if place.function in _WAKERS:
            return _WAKERS[place.function]
    return "a future that nobody has completed"
