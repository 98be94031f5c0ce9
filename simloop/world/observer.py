"""The observer of a run: what is told of everything that happens while a run is traced.

It decides nothing, and looks at no clock: a run goes the same way with one and without. `simloop.report.trace.Trace`
is the one that reports are made from. Types of asyncio are `Any` here: the world does not know asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from simloop.choices.choices import Answer


class Observer(Protocol):
    """Observer of one run, from the choices at the bottom to the steps of its tasks."""

    #: Set when the program is over, and only its world is being taken apart.
    over: bool

    def deviated(self, answer: Answer, subject: object) -> None:
        """The environment deviates at a choice point; `subject` is what the point is about."""

    def changed(self, what: Any) -> None:
        """A file is written, or a name or size changed: an inode, or a `Change` of the journal."""

    def blocked(self, process: str, took_ns: int) -> None:
        """A blocking call has stopped a process for so many nanoseconds."""

    def created(self, task: Any) -> None:
        """The program has created a task."""

    def queued(self, handle: Any) -> None:
        """The program has queued a callback."""

    def before(self, loop: Any, handle: Any) -> None:
        """A loop is about to run a callback."""

    def after(self, loop: Any, handle: Any) -> None:
        """The callback has returned."""
