"""Injected cancellations: the environment cancels tasks from outside, as a client that hangs up does."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import zlib
from asyncio import events
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from simloop.choices.choices import nth
from simloop.loop.tasks import innermost, path_of
from simloop.loop.timers import SimTimerHandle
from simloop.sources import is_ours, is_stdlib

if TYPE_CHECKING:
    from simloop.choices.choices import Choices


# Functions that are a part of the one they stand in: in Python 3.11 comprehensions, too.
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


class Cancellable:
    """Record of a task that the environment may cancel, once, with the task's name at choice points."""

    __slots__ = ("_counts", "_waiter", "_who", "_withdrawn", "handle", "path", "sent", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.path = path_of(task)
        #: Callback that cancels the task, once it is queued.
        self.handle: events.Handle | None = None
        #: True once the cancellation has reached the task.
        self.sent = False
        self._withdrawn = False
        self._waiter: object = self
        self._who = ""
        self._counts: dict[str, int] = {}

    def done(self) -> bool:
        """Return True once there is nothing left to cancel: the task has ended, or was withdrawn."""
        return self._withdrawn or self.task.done()

    def withdraw(self) -> None:
        """Withdraw the task: the environment may not cancel it any more, even if the cancellation is queued already."""
        self._withdrawn = True
        if self.handle is not None:
            self.handle.cancel()

    def key(self) -> str:
        """Return the name of the task for choice points: its path, the function in which it waits, and which of its
        waits there it is. Neither turns of other tasks nor waits elsewhere change it."""
        waiter = self.task._fut_waiter  # type: ignore[attr-defined]
        if waiter is not self._waiter:
            self._waiter = waiter
            where = innermost(self.task)
            self._counts[where] = number = self._counts.get(where, 0) + 1
            self._who = nth(f"{self.path}~{where}", number)
        return self._who

    def ask(self, choices: Choices) -> bool:
        """Ask the environment if it cancels the task at this poll. If so, sets `handle` to the callback that cancels
        the task, and returns True."""
        if not choices.choose(self.key(), "cancel", 2, self.task):
            return False
        self.handle = events.Handle(self._cancel, (), self.task.get_loop(), contextvars.Context())
        return True

    def arrive(self, loop: Any) -> None:
        """Queue the cancellation as an arrival of the current poll."""
        loop._ready.append(self.handle)
        loop.world.cancellations += 1

    def _cancel(self) -> None:
        self.sent = self.task.cancel()

    def stable_id(self) -> int:
        """Return a number for the task that is the same in every run, whatever process the run is in."""
        return zlib.crc32(self.path.encode())


class OwnTasks:
    """Predicate on tasks: true for those that the test function itself creates, also by way of asyncio's own functions;
    false for those that fixtures and libraries create."""

    def __init__(self) -> None:
        self._code: CodeType | None = None

    def main_is(self, coro: Any) -> None:
        """Set the test function: the one whose coroutine is `coro`."""
        self._code = getattr(coro, "cr_code", None)

    def __call__(self, task: asyncio.Task[Any]) -> bool:
        if not task.get_loop().is_running():
            # unittest runs the methods of a test case one after another: set-up, test, clean-up.
            coro = task.get_coro()
            if getattr(coro, "__name__", "").startswith("test"):
                self.main_is(coro)
            return False
        if _is_asyncios(task.get_coro()):
            return False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and (is_ours(file := frame.f_code.co_filename) or is_stdlib(file)):
            # asyncio.wait_for() of Python 3.11 runs what it waits for in a task that nobody else can know.
            if frame.f_code.co_name == "wait_for":
                return False
            frame = frame.f_back
        while frame is not None and frame.f_code.co_name in _COMPREHENSIONS:
            frame = frame.f_back
        return frame is not None and frame.f_code is self._code


def _is_asyncios(coro: Any) -> bool:
    """Return True for a coroutine that only asyncio itself can make, such as ``_connect_pipes`` of a subprocess or an
    attempt of `asyncio.staggered`; False for `asyncio.sleep` and other functions that are called by their names."""
    code = getattr(coro, "cr_code", None)
    if code is None or not is_stdlib(code.co_filename):
        return False
    return code.co_name.startswith("_") or "<locals>" in code.co_qualname


SimTimerHandle.__name__ = SimTimerHandle.__qualname__ = "TimerHandle"
