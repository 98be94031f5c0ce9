"""What reaches a loop from outside of asyncio and is no I/O: cancellations and the passing of time."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import zlib
from asyncio import events
from types import CodeType, FrameType
from typing import Any

from simloop.choices.choices import Choices
from simloop.kernel.clock import SECOND
from simloop.kernel.scheduler import RIVALS
from simloop.sources import is_ours, is_stdlib
from simloop.tasks import innermost, path_of, task_of

#: How far into a heap of timers it is worth looking for the next few.
_TIMERS_LOOKED_AT = 32


class Cancellable:
    """A task that the environment may cancel, and where in its life it is."""

    __slots__ = ("_counts", "_waiter", "_who", "_withdrawn", "handle", "path", "sent", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.path = path_of(task)
        #: The cancellation, once it is queued.
        self.handle: events.Handle | None = None
        #: Whether the cancellation has reached the task.
        self.sent = False
        self._withdrawn = False
        self._waiter: object = self
        self._who = ""
        self._counts: dict[str, int] = {}

    def over(self) -> bool:
        """Whether there is nothing left to cancel."""
        return self._withdrawn or self.task.done()

    def withdraw(self) -> None:
        """Cancel it no more, not even where that is queued already."""
        self._withdrawn = True
        if self.handle is not None:
            self.handle.cancel()

    def who(self) -> str:
        """The task, the function in which it waits, and the how-manieth of its waits there: neither turns
        of other tasks nor waits elsewhere change it."""
        waiter = self.task._fut_waiter  # type: ignore[attr-defined]
        if waiter is not self._waiter:
            self._waiter = waiter
            where = innermost(self.task)
            self._counts[where] = number = self._counts.get(where, 0) + 1
            self._who = f"{self.path}~{where}{f'#{number}' if number > 1 else ''}"
        return self._who

    def ask(self, choices: Choices) -> bool:
        """Is it cancelled at this poll? If so, `handle` is what does it."""
        if not choices.choose(self.who(), "cancel", 2, self.task):
            return False
        self.handle = events.Handle(self._cancel, (), self.task.get_loop(), contextvars.Context())
        return True

    def _cancel(self) -> None:
        self.sent = self.task.cancel()

    def mark(self) -> int:
        """A number for the task that is the same in every process."""
        return zlib.crc32(self.path.encode())


class MadeByTest:
    """Tells the tasks that the test function itself creates, also by way of asyncio's own functions, from those of
    fixtures and of the libraries that it calls."""

    def __init__(self) -> None:
        self._code: CodeType | None = None

    def main_is(self, coro: Any) -> None:
        """The test function is the one that this coroutine runs."""
        self._code = getattr(coro, "cr_code", None)

    def __call__(self, task: asyncio.Task[Any]) -> bool:
        if not task.get_loop().is_running():
            # unittest runs the methods of a test case one after another: set-up, test, clean-up.
            coro = task.get_coro()
            if getattr(coro, "__name__", "").startswith("test"):
                self.main_is(coro)
            return False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and (is_ours(file := frame.f_code.co_filename) or is_stdlib(file)):
            # asyncio.wait_for() of Python 3.11 runs what it waits for in a task that nobody else can know.
            if frame.f_code.co_name == "wait_for":
                return False
            frame = frame.f_back
        return frame is not None and frame.f_code is self._code


class SimTimerHandle(events.TimerHandle):
    """A timer that can be told from others by who waits for it."""

    __slots__ = ("sim_who",)

    sim_who: str


SimTimerHandle.__name__ = SimTimerHandle.__qualname__ = "TimerHandle"


class TimerNames:
    """Names the timers of one loop for point ids: by the task that waits, and a number per such name."""

    __slots__ = ("_counts", "_prefix")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._counts: dict[str, int] = {}

    def __call__(self, handle: Any) -> str:
        try:
            who: str = handle.sim_who
        except AttributeError:
            owner = self._owner(handle)
            self._counts[owner] = number = self._counts.get(owner, 0) + 1
            who = f"{owner}{f'#{number}' if number > 1 else ''}"
            if isinstance(handle, SimTimerHandle):
                handle.sim_who = who
        return who

    def _owner(self, handle: Any) -> str:
        task = waiting_for(handle)
        if task is not None:
            return f"{path_of(task)}~{innermost(task)}"
        return f"{self._prefix}@{getattr(handle._callback, '__name__', 'timer')}"


def waiting_for(handle: Any) -> asyncio.Task[Any] | None:
    """The task that a timer wakes or cancels, if it is known."""
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
    """Is this the timer of an `asyncio.timeout` block, or of an anyio scope, which cancels its task?"""
    owner = getattr(handle._callback, "__self__", None)
    return isinstance(owner, asyncio.Timeout) or hasattr(owner, "_host_task")


def due_until(heap: list[Any], limit_ns: int) -> list[int]:
    """When the timers of a heap are due that are due by then; not all of them where they are many."""
    limit = limit_ns / SECOND
    found: list[int] = []
    todo = [0]
    while todo and len(found) < _TIMERS_LOOKED_AT:
        index = todo.pop(0)
        if index < len(heap) and heap[index]._when <= limit:
            if not heap[index]._cancelled:
                found.append(-int(-heap[index]._when * SECOND // 1))
            # What lies below a late timer is later still.
            todo += (2 * index + 1, 2 * index + 2)
    return found


def rivals_of(heap: list[Any], now_ns: int, slack_ns: int) -> list[int]:
    """The next few times at which timers of a heap become due, within `slack_ns`."""
    return sorted({due for due in due_until(heap, now_ns + slack_ns) if due > now_ns})[:RIVALS]


def timer_due(heap: list[Any], due_ns: int) -> Any:
    """A timer of a heap that is due just then, or None."""
    return next(
        (timer for timer in heap if not timer._cancelled and -int(-timer._when * SECOND // 1) == due_ns),
        None,
    )
