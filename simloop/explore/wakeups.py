"""Observer of wake-ups: after which arrivals did more than one task run?

A lock is released and its next owner woken, an event is set, a first failure ends the others: between two tasks of
which one wakes the other there is a turn in which something else may come. Which arrivals have that, no choice point
tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simloop.choices.draws import LATE
from simloop.loop.tasks import path_of, task_of

if TYPE_CHECKING:
    from simloop.choices.choices import Answer

Arrival = tuple[str, str, int]
"""A choice point (who, kind, number) at which an arrival may be late."""

_DELIVERY = "net.deliver"


class WakeUps:
    """Record of which arrivals over connections let which tasks run in one run (`simloop.world.observer.Observer`)."""

    def __init__(self) -> None:
        self.over = False
        self._tasks: dict[Arrival, set[str]] = {}
        # What runs now came of this arrival; and so did what it has queued: by id, with the handle kept alive.
        self._running: Arrival | None = None
        self._causes: dict[int, tuple[Any, Arrival]] = {}
        # The packets of each direction of a connection that were not read yet; true for those without data.
        self._unread: dict[str, list[tuple[Arrival, bool]]] = {}
        self._looked_at = 0

    @property
    def waking(self) -> list[Arrival]:
        """The arrivals after which one task woke another, in the order in which they were read."""
        return [arrival for arrival, tasks in self._tasks.items() if len(tasks) > 1]

    def queued(self, handle: Any) -> None:
        if self._running is not None:
            self._causes[id(handle)] = handle, self._running

    def before(self, loop: Any, handle: Any) -> None:
        known = self._causes.pop(id(handle), None)
        self._running = cause = self._read(loop, handle) if known is None else known[1]
        if cause is not None and (task := task_of(handle)) is not None:
            self._tasks.setdefault(cause, set()).add(path_of(task))

    def after(self, loop: Any, handle: Any) -> None:
        self._running = None

    def _read(self, loop: Any, handle: Any) -> Arrival | None:
        """Return the arrival that a transport is called for."""
        descriptor = getattr(getattr(handle._callback, "__self__", None), "_sock_fd", None)
        end = None if descriptor is None else loop.process.files.get(descriptor)
        direction = getattr(end, "rx", None)
        if direction is None:
            return None
        recorded = loop.world.choices.recorded
        for who, kind, number, n, _ in recorded[self._looked_at :]:
            if kind == _DELIVERY:
                self._unread.setdefault(who, []).append(((who, kind, number), n <= LATE[kind] + 1))
        self._looked_at = len(recorded)
        unread = self._unread.get(str(direction))
        if not unread:
            return None
        arrived = unread[: max(1, len(unread) - len(direction.flight))]
        # All data that are there are read at once, and the end after them.
        ends = len(arrived) > 1 and arrived[-1][1]
        del unread[: len(arrived) - ends]
        return arrived[0][0]

    def deviated(self, answer: Answer, subject: object) -> None:
        pass

    def changed(self, what: Any) -> None:
        pass

    def blocked(self, process: str, took_ns: int) -> None:
        pass

    def created(self, task: Any) -> None:
        pass
