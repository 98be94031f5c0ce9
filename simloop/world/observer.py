"""Protocol of a run's observer, which is notified of everything that happens while a run is traced.

An observer decides nothing, and looks at no clock: a run goes the same way with one and without.
`simloop.report.trace.Trace` is the observer from which reports are made. Types of asyncio are `Any` here: the world
does not know asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from simloop.choices.choices import Answer


class Observer(Protocol):
    """Protocol of an observer of one run, notified of its choices, file changes, blocking calls and steps of tasks."""

    #: True once the program is over, and only its world is being taken apart.
    over: bool

    def deviated(self, answer: Answer, subject: object) -> None:
        """Record that the environment deviates at a choice point; `subject` is what the point is about."""

    def changed(self, what: Any) -> None:
        """Record a change of a file, name or size: an inode, or a `Change` of the journal."""

    def blocked(self, process: str, took_ns: int) -> None:
        """Record that a blocking call has stopped a process for so many nanoseconds."""

    def created(self, task: Any) -> None:
        """Record that the program has created a task."""

    def queued(self, handle: Any) -> None:
        """Record that the program has queued a callback."""

    def before(self, loop: Any, handle: Any) -> None:
        """Record that a loop is about to run a callback."""

    def after(self, loop: Any, handle: Any) -> None:
        """Record that the callback has returned."""
