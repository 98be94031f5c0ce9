"""Description, for an error message, of why a run does not end: the lines that it would run next, or else those at
which its tasks wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simloop.checks.waiting import name_of, stack_of, users_place
from simloop.loop.loop import SimLoop
from simloop.loop.tasks import task_of
from simloop.sources import Place, wrapped_by

if TYPE_CHECKING:
    from simloop.kernel.scheduler import Scheduler

#: Maximum number of lines that are named.
_LINES_MAX = 4


def describe_activity(scheduler: Scheduler) -> str:
    """Return a phrase on what a world that does not end is doing: the lines that run next, or else those that wait."""
    loops = [loop for loop in scheduler.loops if isinstance(loop, SimLoop)]
    lines = [line for loop in loops for line in _next(loop)]
    if not lines:
        lines = [f"{_at(task)} waits" for loop in loops for task in loop.resources.pending_tasks()]
    lines = list(dict.fromkeys(lines))
    if len(lines) > _LINES_MAX:
        lines[_LINES_MAX:] = [f"{len(lines) - _LINES_MAX} more"]
    return ", ".join(lines)


def _next(loop: SimLoop) -> Iterator[str]:
    for handle in loop.ready_handles():
        task = task_of(handle)
        if task is not None:
            yield f"{_at(task)} goes on"
            continue
        place = _place_of(getattr(handle, "_callback", None))
        if place is not None and isinstance(handle, asyncio.TimerHandle):
            yield f"a timer of {place.function} at {place} is due again at once"
        elif place is not None:
            yield f"{place.function} at {place} is called again"


def _at(task: asyncio.Task[Any]) -> str:
    return f"{name_of(task)} at {users_place(stack_of(task)) or '?'}"


def _place_of(callback: Any) -> Place | None:
    code = getattr(wrapped_by(callback), "__code__", None)
    return None if code is None else Place(code.co_filename, code.co_firstlineno, code.co_name)
