"""Injected cancellations: the environment cancels tasks, as happens in production when a client disconnects."""

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
from simloop.sources import is_ours, is_stdlib

if TYPE_CHECKING:
    from simloop.choices.choices import Choices


# Functions that are a part of the one they stand in: in Python 3.11 comprehensions, too.
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


class Cancellable:
    """Task that the environment may cancel, once, with its name in choice points."""

    __slots__ = ("_counts", "_waiter", "_who", "_withdrawn", "handle", "path", "sent", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.path = path_of(task)
        #: Callback that cancels the task; None until the environment chooses to cancel it.
        self.handle: events.Handle | None = None
        #: True once the task was cancelled by that callback.
        self.sent = False
        self._withdrawn = False
        self._waiter: object = self
        self._who = ""
        self._counts: dict[str, int] = {}

    def done(self) -> bool:
        """Return True if the task can no longer be cancelled: it has ended, or was withdrawn."""
        return self._withdrawn or self.task.done()

    def withdraw(self) -> None:
        """Exclude the task from injected cancellation, even if its cancellation is already queued."""
        self._withdrawn = True
        if self.handle is not None:
            self.handle.cancel()

    def key(self) -> str:
        """Return the name of the task for choice points: its path in the tree of tasks, the function in which it waits,
        and the number of its waits there so far. It does not depend on other tasks, or on waits in other functions."""
        waiter = self.task._fut_waiter  # type: ignore[attr-defined]
        if waiter is not self._waiter:
            self._waiter = waiter
            where = innermost(self.task)
            self._counts[where] = number = self._counts.get(where, 0) + 1
            self._who = nth(f"{self.path}~{where}", number)
        return self._who

    def ask(self, choices: Choices) -> bool:
        """Ask at a choice point if the task is cancelled at this poll of its loop. If so, set `handle` to the callback
        that cancels it, and return True."""
        if not choices.choose(self.key(), "cancel", 2, self.task):
            return False
        self.handle = events.Handle(self._cancel, (), self.task.get_loop(), contextvars.Context())
        return True

    def arrive(self, loop: Any) -> None:
        """Queue the callback that cancels the task, as an arrival of the current poll."""
        loop._ready.append(self.handle)
        loop.world.cancellations += 1

    def _cancel(self) -> None:
        self.sent = self.task.cancel()

    def stable_id(self) -> int:
        """Return a hash of the task's path, which is the same in every run and every real process."""
        return zlib.crc32(self.path.encode())


class OwnTasks:
    """Predicate on new tasks: True for those that the test function itself creates, also through functions of asyncio;
    False for those that fixtures and libraries create."""

    def __init__(self) -> None:
        self._code: CodeType | None = None

    def main_is(self, coro: Any) -> None:
        """Set the test function, as the one whose coroutine is `coro`."""
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
    """Return True for a coroutine that only asyncio's own code creates, such as ``_connect_pipes`` of a subprocess or
    an attempt of `asyncio.staggered`; False for public functions such as `asyncio.sleep`."""
    code = getattr(coro, "cr_code", None)
    if code is None or not is_stdlib(code.co_filename):
        return False
    return code.co_name.startswith("_") or "<locals>" in code.co_qualname
