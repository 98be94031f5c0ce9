"""Selector of a simulated process: epoll(7) on simulated files, with the interface of `selectors.EpollSelector`.

It is level-triggered, as asyncio's is. Each poll examines only those files whose state has changed or which were ready
before, so its cost does not depend on the number of registered files.
"""

from __future__ import annotations

import errno
import selectors
from collections import deque
from collections.abc import Mapping
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import TYPE_CHECKING, Any

from simloop.choices.choices import permute
from simloop.errors import EscapedSimulationError
from simloop.kernel.descriptors import HUP, IN, OUT, File
from simloop.kernel.errors import fail

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.kernel.run_queue import Runnable
    from simloop.kernel.scheduler import Scheduler

# By mask, as selectors.EpollSelector has it: errors and hang-ups are both readable and writable.
_EVENTS = tuple((mask & ~IN and EVENT_WRITE) | (mask & ~OUT and EVENT_READ) for mask in range(2 * HUP))


class _Interest:
    """Entry of the interest list of epoll(7): one registered descriptor, notified when its file changes."""

    __slots__ = ("candidates", "file", "key", "wanted")

    def __init__(self, key: SelectorKey, file: File, candidates: dict[_Interest, None]) -> None:
        self.key = key
        self.wanted = key.events
        self.file = file
        self.candidates = candidates

    def changed(self) -> None:
        self.candidates[self] = None


class _Keys(dict[int, SelectorKey]):
    """Mapping of registered descriptors to selector keys. As in `selectors`, it may also be indexed by a file
    object."""

    def get(self, fileobj: Any, default: Any = None) -> Any:
        if type(fileobj) is not int:
            fileobj = _descriptor(fileobj, self)
        return super().get(fileobj, default)

    def __missing__(self, fileobj: Any) -> SelectorKey:
        found = None if isinstance(fileobj, int) else self.get(fileobj)
        if found is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return found  # type: ignore[no-any-return]


class SimSelector(selectors.BaseSelector):
    """Selector of one simulated process, with the interface of `selectors.EpollSelector`. The process's event loop
    polls it."""

    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler = scheduler
        self._process = process
        self._keys = _Keys()
        self._interests: dict[int, _Interest] = {}
        # Insertion order is the order in which files became ready, which is how epoll reports them.
        self.candidates: dict[_Interest, None] = {}
        #: Event loop that polls this selector; None for a selector that the program itself made.
        self.loop: Runnable | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        fd = fileobj if type(fileobj) is int and fileobj >= 0 else _descriptor(fileobj)
        if not events or events & ~(EVENT_READ | EVENT_WRITE):
            raise ValueError(f"Invalid events: {events!r}")
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        file = self._process.files.get(fd)
        if file is None:
            raise EscapedSimulationError(
                f"file descriptor {fd} is not of the simulated world, and cannot be watched by its loop: "
                "create the socket inside the run"
            )
        if not file.pollable:
            raise fail(errno.EPERM)  # epoll_ctl(2)
        key = self._keys[fd] = SelectorKey(fileobj, fd, events, data)
        interest = self._interests[fd] = _Interest(key, file, self.candidates)
        file.watchers.append(interest)
        if _EVENTS[file.mask()] & events:
            self.candidates[interest] = None
        return key

    def unregister(self, fileobj: Any) -> SelectorKey:
        fd = fileobj if fileobj in self._keys else self._lookup(fileobj)
        interest = self._interests.pop(fd)
        interest.file.watchers.remove(interest)
        self.candidates.pop(interest, None)
        return self._keys.pop(fd)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        fd = self._lookup(fileobj)
        interest = self._interests[fd]
        key = self._keys[fd] = interest.key = SelectorKey(interest.key.fileobj, fd, events, data)
        interest.wanted = events
        self.candidates[interest] = None
        return key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if self.loop is not None:
            self._scheduler.poll(self.loop, timeout)
        return self.collect() if self.candidates else []

    def collect(self) -> list[tuple[SelectorKey, int]]:
        """Return the events that are ready now, without waiting, as epoll_wait(2) does with a timeout of 0. Their order
        is a choice point."""
        found: list[tuple[SelectorKey, int]] = []
        stale: list[_Interest] = []
        for interest in self.candidates:
            events = _EVENTS[interest.file.mask()] & interest.wanted
            if events:
                found.append((interest.key, events))
            else:
                stale.append(interest)
        for interest in stale:
            del self.candidates[interest]
        if len(found) > 1:
            found = permute(found, self._overtaken)
        return found

    def _overtaken(self, event: tuple[SelectorKey, int], later: deque[tuple[SelectorKey, int]]) -> int:
        file = self._interests[event[0].fd].file
        return self._scheduler.choices.choose(str(file), "poll.order", len(later) + 1, file)

    def has_ready(self) -> bool:
        """Return True if a registered descriptor is ready."""
        for interest in self.candidates:  # noqa: SIM110  asked before each wait: any() would cost twice as much
            if _EVENTS[interest.file.mask()] & interest.wanted:
                return True
        return False

    def get_key(self, fileobj: Any) -> SelectorKey:
        return self._keys[self._lookup(fileobj)]

    def get_map(self) -> Mapping[Any, SelectorKey]:
        return self._keys

    def close(self) -> None:
        if self._keys:
            for fd in list(self._keys):
                self.unregister(fd)

    def _lookup(self, fileobj: Any) -> int:
        fd: int = fileobj if isinstance(fileobj, int) else _descriptor(fileobj, self._keys)
        if fd not in self._keys:
            raise KeyError(f"{fileobj!r} is not registered")
        return fd


def _descriptor(fileobj: Any, keys: Mapping[int, SelectorKey] | None = None) -> int:
    try:
        fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if fd < 0 and keys is not None:
        # A closed socket object: find the registration it was made under.
        for key in keys.values():
            if key.fileobj is fileobj:
                return key.fd
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd
