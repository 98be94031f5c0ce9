"""Timers of one loop that race: their names for choice points, the deadlines until which arrivals may be delayed, and
the order in which due timers run.

Loops import it when a timer may first race something, see `simloop.loop.polls.racing`."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

from simloop.choices.choices import nth, permute
from simloop.kernel.clock import SECOND
from simloop.kernel.scheduler import CONTENDERS_MAX
from simloop.loop.stock_state import CLOCK_RESOLUTION
from simloop.loop.tasks import SimTimerHandle, innermost, path_of, task_of

Ask = Callable[[str, str, int, object], int]
"""``ask(who, kind, n, subject)`` returns the environment's answer at a choice point, see `Choices.order`."""

#: Maximum number of timers in a heap that are examined to find the next few.
_TIMERS_LOOKED_AT = 32
# A coarser clock than Linux's cannot tell timers apart that are due within this many seconds.
_COARSE_CLOCK = 1e-3


class TimerNames:
    """Names of one loop's timers for choice points: the task that waits for the timer, and a number among timers of
    that task."""

    __slots__ = ("_counts", "_prefix")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._counts: dict[str, int] = {}

    def __call__(self, handle: Any) -> str:
        is_ours = isinstance(handle, SimTimerHandle)
        who: str | None = handle.sim_who if is_ours else None
        if who is None:
            owner = self._owner(handle)
            self._counts[owner] = number = self._counts.get(owner, 0) + 1
            who = nth(owner, number)
            if is_ours:
                handle.sim_who = who
        return who

    def _owner(self, handle: Any) -> str:
        task = waiting_for(handle)
        if task is not None:
            return f"{path_of(task)}~{innermost(task)}"
        return f"{self._prefix}@{getattr(handle._callback, '__name__', 'timer')}"


def waiting_for(handle: Any) -> asyncio.Task[Any] | None:
    """Return the task that a timer wakes or cancels; None if it is not known."""
    if is_timeout(handle):
        owner = handle._callback.__self__
        task = getattr(owner, "_task", None) or getattr(owner, "_host_task", None)
        return task if isinstance(task, asyncio.Task) else None
    for argument in handle._args or ():
        if isinstance(argument, asyncio.Future):
            for callback, _ in argument._callbacks or ():
                task = getattr(callback, "__self__", None)
                if isinstance(task, asyncio.Task):
                    return task
    return task_of(handle)


def is_timeout(handle: Any) -> bool:
    """Return True for the timer of an `asyncio.timeout` block or an anyio cancel scope, which cancels its task."""
    owner = getattr(handle._callback, "__self__", None)
    return isinstance(owner, asyncio.Timeout) or hasattr(owner, "_host_task")


def deadlines_between(heap: list[Any], start_ns: int, end_ns: int) -> list[int]:
    """Return the next few deadlines in nanoseconds of a heap of timers, after `start_ns` and up to `end_ns`, the
    earliest first: those until which an arrival may be delayed. Some may be missing if the heap has many timers that
    are cancelled or due by `start_ns`."""
    end = end_ns / SECOND
    if len(heap) <= _TIMERS_LOOKED_AT:
        dues = {-int(-timer._when * SECOND // 1) for timer in heap if timer._when <= end and not timer._cancelled}
        return sorted([due for due in dues if due > start_ns])[:CONTENDERS_MAX]
    found: list[int] = []
    looked_at = 0
    # What lies below a timer of the heap is later still.
    todo = [(heap[0]._when, 0)]
    while todo and todo[0][0] <= end and len(found) < CONTENDERS_MAX and looked_at < _TIMERS_LOOKED_AT:
        when, index = heapq.heappop(todo)
        looked_at += 1
        due = -int(-when * SECOND // 1)
        if due > start_ns and not heap[index]._cancelled and (not found or found[-1] != due):
            found.append(due)
        for below in (2 * index + 1, 2 * index + 2):
            if below < len(heap):
                heapq.heappush(todo, (heap[below]._when, below))
    return found


def timer_due(heap: list[Any], due_ns: int) -> Any:
    """Return a timer of a heap that is due at exactly `due_ns`; None if there is none."""
    return next(
        (timer for timer in heap if not timer._cancelled and -int(-timer._when * SECOND // 1) == due_ns),
        None,
    )


def order_timers(due: list[Any], profile: str, who: Callable[[Any], str], ask: Ask) -> list[Any]:
    """Return due timers in an order that the environment chooses: those with the same deadline are permuted, and in the
    profiles ``portable`` and ``hostile`` also those with deadlines within a millisecond. ``who(timer)`` returns the
    name of a timer for choice points."""
    span, kind = (CLOCK_RESOLUTION, "timer.tie") if profile == "cpython" else (_COARSE_CLOCK, "order.timer")
    ordered: list[Any] = []
    start = 0
    for end in range(1, len(due) + 1):
        if end == len(due) or due[end]._when - due[start]._when > span:
            group = due[start:end]
            ordered += (
                permute(group, lambda handle, later: ask(who(handle), kind, len(later) + 1, handle))
                if len(group) > 1
                else group
            )
            start = end
    return ordered
