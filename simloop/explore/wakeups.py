"""Observer of wake-ups: the arrivals after which one task wakes another, and those that bring others to the same place.

A lock is released and its next owner woken, an item is put and its getter woken: between two tasks of which one wakes
the other there is a turn in which something else may come. Which arrivals have that, no choice point tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simloop.choices.lateness import LATE
from simloop.loop.tasks import path_of, task_of

if TYPE_CHECKING:
    from types import CodeType

    from simloop.choices.choices import Answer
    from simloop.choices.lateness import Arrival

_DELIVERY = "net.deliver"
# Where coroutines, generators and asynchronous generators keep their frame, and what they wait for.
_COROUTINES = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


class WakeUps:
    """Observer that records which arrivals over connections let which tasks run in one run, and where these wait
    (`simloop.world.observer.Observer`)."""

    def __init__(self) -> None:
        self.over = False
        #: The tasks that each arrival let run.
        self.tasks: dict[Arrival, set[str]] = {}
        #: By the code in which tasks have waited: the arrivals after which one of them was woken by another task, and
        #: those after which one came to wait; each with the task.
        self.woken: dict[CodeType, dict[tuple[Arrival, str], None]] = {}
        self.came: dict[CodeType, dict[tuple[Arrival, str], None]] = {}
        #: Where tasks wait for what arrives, and not for one another.
        self.reading: set[CodeType] = set()
        # What runs now came of this arrival; and so did what it has queued: by id, with the handle kept alive.
        self._running: Arrival | None = None
        self._causes: dict[int, tuple[Any, Arrival]] = {}
        # The packets of each direction of a connection that were not read yet; true for those without data.
        self._unread: dict[str, list[tuple[Arrival, bool]]] = {}
        self._looked_at = 0

    def queued(self, handle: Any) -> None:
        if self._running is not None:
            self._causes[id(handle)] = handle, self._running

    def before(self, loop: Any, handle: Any) -> None:
        known = self._causes.pop(id(handle), None)
        self._running = cause = self._read(loop, handle) if known is None else known[1]
        if cause is not None and (task := task_of(handle)) is not None:
            tasks = self.tasks.setdefault(cause, set())
            tasks.add(path := path_of(task))
            if (code := _place_of(task)) is not None:
                if len(tasks) == 1:
                    self.reading.add(code)
                else:
                    self.woken.setdefault(code, {}).setdefault((cause, path))

    def after(self, loop: Any, handle: Any) -> None:
        cause, self._running = self._running, None
        if cause is not None and (task := task_of(handle)) is not None and (code := _place_of(task)) is not None:
            self.came.setdefault(code, {}).setdefault((cause, path_of(task)))

    def _read(self, loop: Any, handle: Any) -> Arrival | None:
        """Return the arrival for which a callback of a transport runs."""
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


def _place_of(task: Any) -> CodeType | None:
    """Return the code object in which a task waits, that of its innermost coroutine; None if there is none."""
    code = None
    waiting = task.get_coro()
    while (kind := next((kind for kind in _COROUTINES if hasattr(waiting, kind[0])), None)) is not None:
        frame, waiting = (getattr(waiting, name) for name in kind)
        if frame is None or frame.f_lasti < 0:
            break
        code = frame.f_code
    return code
