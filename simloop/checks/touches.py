"""Record of which task holds, and which last used, each of asyncio's locks, queues and events, in a run that is traced.

asyncio's own objects do not know this. During a traced run their methods are wrapped; the wrappers add no turn
and no suspension, so the run goes the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from asyncio import locks, queues
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from simloop.checks.waiting import name_of
from simloop.sources import Place, users_caller

# What counts as touching: the methods by which one task can let another go on, or keep it waiting.
_TOUCHES: list[tuple[type, str, str]] = [
    (locks.Lock, "release", "released"),
    (locks.Semaphore, "release", "released"),
    (locks.Event, "set", "set"),
    (locks.Event, "clear", "cleared"),
    (locks.Condition, "notify", "notified"),
    (queues.Queue, "put_nowait", "put into"),
    (queues.Queue, "get_nowait", "took from"),
    (queues.Queue, "task_done", "was done with an item of"),
]
_HELD: tuple[type, ...] = (locks.Lock, locks.Semaphore)


@dataclass(frozen=True)
class Touch:
    """One call of a method of a lock, queue or event: by which task, and in which line."""

    #: Reference to the task that made the call; None for a callback. It is weak, so that tracing keeps no task alive.
    by: weakref.ref[asyncio.Task[Any]] | None
    name: str
    what: str
    place: Place | None

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """Task that made the call, or None if it is no longer alive."""
        return self.by() if self.by is not None else None

    @property
    def ended(self) -> bool:
        """True if a task made the call and has ended since."""
        return self.by is not None and ((task := self.by()) is None or task.done())


class Touches:
    """Record of the calls that a traced run has made on locks, queues and events so far."""

    def __init__(self) -> None:
        # By id, with a reference that tells if it is still that object's.
        self._last: dict[int, tuple[_Reference, Touch]] = {}
        self._holders: dict[int, tuple[_Reference, list[Touch]]] = {}

    def last(self, thing: object) -> Touch | None:
        """Return the last recorded call on `thing`; attempts that have not succeeded are not recorded."""
        found = self._last.get(id(thing))
        return found[1] if found is not None and found[0]() is thing else None

    def holders(self, thing: object) -> list[Touch]:
        """Return the calls that have acquired `thing` and are not yet matched by a release, in order."""
        return list(self._held(thing))

    def _held(self, thing: object) -> list[Touch]:
        found = self._holders.get(id(thing))
        if found is None or found[0]() is not thing:
            found = self._holders[id(thing)] = (_reference(thing), [])
        return found[1]

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Context manager that wraps the methods of asyncio's locks, queues and events, to record their calls."""
        originals: list[tuple[type, str, Any]] = []
        try:
            for owner, name, what in _TOUCHES:
                originals.append((owner, name, getattr(owner, name)))
                setattr(owner, name, self._touching(getattr(owner, name), what))
            for owner in _HELD:
                originals.append((owner, "acquire", owner.acquire))  # type: ignore[attr-defined]
                owner.acquire = self._acquiring(owner.acquire)  # type: ignore[attr-defined]
            yield
        finally:
            for owner, name, original in reversed(originals):
                setattr(owner, name, original)

    def _note(self, thing: object, what: str) -> Touch:
        task = _current_task()
        by, name = (None, "") if task is None else (weakref.ref(task), name_of(task))
        touch = Touch(by, name, what, users_caller())
        self._last[id(thing)] = (_reference(thing), touch)
        return touch

    def _touching(self, method: Callable[..., Any], what: str) -> Callable[..., Any]:
        @functools.wraps(method)
        def touching(thing: Any, *args: Any, **kwargs: Any) -> Any:
            result = method(thing, *args, **kwargs)
            touch = self._note(thing, what)
            if what == "released" and (holders := self._held(thing)):
                own = next((held for held in holders if held.by == touch.by), holders[0])
                holders.remove(own)
            return result

        return touching

    def _acquiring(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        async def acquire(thing: Any) -> Any:
            result = await method(thing)
            self._held(thing).append(self._note(thing, "acquired"))
            return result

        return acquire


_Reference = Callable[[], object]


def _reference(thing: object) -> _Reference:
    try:
        return weakref.ref(thing)
    except TypeError:  # of a class that has no room for it
        return lambda: thing


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
