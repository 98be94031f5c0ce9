"""Files that are read as a counter: eventfds (eventfd(2)), and timerfds (timerfd_create(2)), which count the
expirations of a timer."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

from simloop.kernel.descriptors import IN, OUT
from simloop.kernel.errors import fail
from simloop.kernel.ipc.unseekable import Unseekable

if TYPE_CHECKING:
    from simloop.kernel.scheduler import Scheduler

# How much is read or written at once: a uint64_t.
_SIZE = 8
# "The maximum value that may be stored in the counter" (eventfd(2)).
_EVENTS_MAX = (1 << 64) - 2


class Counter(Unseekable):
    """Base class of eventfds and timerfds: non-seekable files from which an 8-byte count is read."""

    def __init__(self, *, nonblocking: bool) -> None:
        super().__init__(os.O_RDWR | (os.O_NONBLOCK if nonblocking else 0))

    def take(self) -> int:
        """Return the count and reset it. Raises `OSError` (EAGAIN) if it is 0."""
        raise NotImplementedError

    def read(self, count: int) -> bytes:
        if count < _SIZE:
            raise fail(errno.EINVAL)
        return self.take().to_bytes(_SIZE, sys.byteorder)

    def write(self, data: memoryview) -> int:
        raise fail(errno.EINVAL)

    def close(self) -> None:
        pass


class EventFd(Counter):
    """Counter that programs add to and read (eventfd(2))."""

    def __init__(self, value: int, *, semaphore: bool, nonblocking: bool) -> None:
        super().__init__(nonblocking=nonblocking)
        self._value = value
        self._semaphore = semaphore

    def mask(self) -> int:
        return (IN if self._value else 0) | (OUT if self._value < _EVENTS_MAX else 0)

    def take(self) -> int:
        if not self._value:
            raise fail(errno.EAGAIN)
        taken = 1 if self._semaphore else self._value
        self._value -= taken
        self.changed()
        return taken

    def add(self, value: int) -> None:
        """Add to the count. Raises `OSError` (EAGAIN) if it would exceed its maximum."""
        if value > _EVENTS_MAX:
            raise fail(errno.EINVAL)
        if self._value + value > _EVENTS_MAX:
            raise fail(errno.EAGAIN)
        self._value += value
        self.changed()

    def write(self, data: memoryview) -> int:
        if len(data) < _SIZE:
            raise fail(errno.EINVAL)
        self.add(int.from_bytes(data[:_SIZE], sys.byteorder))
        return _SIZE

    def __str__(self) -> str:
        return "an eventfd"


class TimerFd(Counter):
    """Timer that is read as a file (timerfd_create(2)). Times are nanoseconds of the world's virtual clock."""

    def __init__(self, scheduler: Scheduler, *, nonblocking: bool) -> None:
        super().__init__(nonblocking=nonblocking)
        self._scheduler = scheduler
        #: Time of the first expiration that was not read yet; None if the timer is disarmed.
        self._due_ns: int | None = None
        self._interval_ns = 0

    def mask(self) -> int:
        return IN if self._due_ns is not None and self._due_ns <= self._scheduler.clock.now else 0

    def set(self, due_ns: int | None, interval_ns: int) -> None:
        """Arm the timer, as timerfd_settime(2) does, or disarm it if `due_ns` is None. An interval of 0 lets it expire
        once."""
        self._interval_ns = interval_ns
        self._arm(due_ns)

    def _arm(self, due_ns: int | None) -> None:
        self._due_ns = due_ns
        if due_ns is not None:
            self._scheduler.at(due_ns, self.changed)
        self.changed()

    def remaining_ns(self) -> tuple[int, int]:
        """Return the time until the next expiration and the interval, both in nanoseconds, as timerfd_gettime(2)
        does."""
        now, due, interval = self._scheduler.clock.now, self._due_ns, self._interval_ns
        if due is not None and due <= now:
            due = due + (self._expirations(due) * interval) if interval else None
        return 0 if due is None else due - now, interval

    def _expirations(self, due_ns: int) -> int:
        """Return the number of expirations from `due_ns`, the time of the first one, until now."""
        return 1 + (self._scheduler.clock.now - due_ns) // self._interval_ns if self._interval_ns else 1

    def take(self) -> int:
        due = self._due_ns
        if due is None or due > self._scheduler.clock.now:
            raise fail(errno.EAGAIN)
        expirations = self._expirations(due)
        self._arm(due + expirations * self._interval_ns if self._interval_ns else None)
        return expirations

    def close(self) -> None:
        self._due_ns = None

    def __str__(self) -> str:
        return "a timerfd"
