"""Observer of wake-ups: records which arrivals of data make one task wake another, and which make further tasks wait at
the same place.

When a lock is released and its next owner woken, or an item is put and its getter woken, there is an iteration of the
event loop between the two tasks, in which something else may come. Choice points do not show which arrivals lead to
that.
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
    """Observer of one run that records which tasks run because of which arrivals over connections, and where these
    tasks wait (`simloop.world.observer.Observer`)."""

    def __init__(self) -> None:
        self.over = False
        #: Tasks that ran because of each arrival.
        self.tasks: dict[Arrival, set[str]] = {}
        #: For the code in which tasks have waited: in `woken`, each arrival because of which another task woke one of
        #: them, with the woken task; in `came`, each arrival because of which a task came to wait there, with that
        #: task.
        self.woken: dict[CodeType, dict[tuple[Arrival, str], None]] = {}
        self.came: dict[CodeType, dict[tuple[Arrival, str], None]] = {}
        #: Code in which tasks wait for data, not for one another.
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
        """Return the arrival whose data a callback of a transport is about to read; None for any other callback."""
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
    """Return the code object of the innermost coroutine in which a task waits; None if it does not wait."""
    code = None
    waiting = task.get_coro()
    while (kind := next((kind for kind in _COROUTINES if hasattr(waiting, kind[0])), None)) is not None:
        frame, waiting = (getattr(waiting, name) for name in kind)
        if frame is None or frame.f_lasti < 0:
            break
        code = frame.f_code
    return code
