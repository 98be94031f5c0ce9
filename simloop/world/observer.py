"""Structural type of a run's observer, which is notified of everything that happens while a run is traced.

An observer has no effect on the run: it decides nothing, and does not read the clock, which would advance it. Reports
are made from the observer `simloop.report.trace.Trace`. Types of asyncio are `Any` here, since the world does not
import asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from simloop.choices.choices import Answer


class Observer(Protocol):
    """Structural type of an observer of one run, notified of deviations at choice points, file changes, blocking calls
    and task steps."""

    #: True once the program has ended, and only its world is being closed.
    over: bool

    def deviated(self, answer: Answer, subject: object) -> None:
        """Record that the environment deviates from the default at a choice point. `subject` is the object that the
        choice is about, for reports."""

    def changed(self, what: Any) -> None:
        """Record a change of the file system. `what` is an inode whose data was written, or a `Change` of the
        journal."""

    def blocked(self, process: str, took_ns: int) -> None:
        """Record that a process was blocked in a system call for `took_ns` nanoseconds."""

    def created(self, task: Any) -> None:
        """Record that the program has created a task."""

    def queued(self, handle: Any) -> None:
        """Record that the program has queued a callback."""

    def before(self, loop: Any, handle: Any) -> None:
        """Record that `loop` is about to run the callback of `handle`."""

    def after(self, loop: Any, handle: Any) -> None:
        """Record that the callback of `handle` has returned."""
