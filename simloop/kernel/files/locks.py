"""Advisory locks on one file: those of flock(2), which are owned by an open file description, and the record locks of
fcntl(2), which are owned by a process."""

from __future__ import annotations

import errno
from typing import NamedTuple

from simloop.kernel.errors import fail

# From bits/fcntl.h: flock(2)'s operations.
LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8
# A record lock of length 0 goes to the end of the file, wherever that will be (OFFSET_MAX).
_END = (1 << 63) - 1


class Record(NamedTuple):
    """Record lock on the bytes from `start` up to, but not including, `end`."""

    owner: object
    exclusive: bool
    start: int
    end: int


class Locks:
    """Table of all advisory locks on one inode. A request that conflicts with a lock raises `OSError` (EAGAIN); callers
    that wait try again."""

    __slots__ = ("_flocks", "_records")

    def __init__(self) -> None:
        # Description -> whether it holds the lock exclusively.
        self._flocks: dict[object, bool] = {}
        self._records: list[Record] = []

    def flock(self, owner: object, operation: int) -> None:
        """Acquire, convert or release the lock of an open file description, as flock(2) does."""
        kind = operation & ~LOCK_NB
        if kind == LOCK_UN:
            self._flocks.pop(owner, None)
            return
        exclusive = kind == LOCK_EX
        if self._flocks.get(owner) is exclusive:
            return
        # Converting "is not guaranteed to be atomic: the existing lock is first removed" (flock(2)).
        self._flocks.pop(owner, None)
        if self._flocks and (exclusive or any(self._flocks.values())):
            raise fail(errno.EAGAIN)
        self._flocks[owner] = exclusive

    def lock(self, owner: object, exclusive: bool, start: int, length: int) -> None:
        """Acquire a record lock, as F_SETLK does with F_WRLCK or F_RDLCK. It replaces all locks of `owner` in the
        range."""
        start, end = _range(start, length)
        if self.conflict(owner, exclusive, start, end) is not None:
            raise fail(errno.EAGAIN)
        self._release(owner, start, end)
        self._records.append(Record(owner, exclusive, start, end))

    def unlock(self, owner: object, start: int, length: int) -> None:
        """Release the record locks of `owner` in a range, as F_SETLK does with F_UNLCK."""
        self._release(owner, *_range(start, length))

    def conflict(self, owner: object, exclusive: bool, start: int, end: int) -> Record | None:
        """Return a lock of another owner that conflicts with the requested one; None if there is none."""
        for record in self._records:
            if (
                record.owner is not owner
                and record.start < end
                and start < record.end
                and (exclusive or record.exclusive)
            ):
                return record
        return None

    def _release(self, owner: object, start: int, end: int) -> None:
        kept: list[Record] = []
        for record in self._records:
            if record.owner is not owner or record.end <= start or end <= record.start:
                kept.append(record)
                continue
            if record.start < start:
                kept.append(record._replace(end=start))
            if end < record.end:
                kept.append(record._replace(start=end))
        self._records = kept

    def closed(self, description: object) -> None:
        """Release the locks of an open file description whose last descriptor was closed: that of flock(2), and those
        of F_OFD_SETLK (fcntl(2))."""
        self._flocks.pop(description, None)
        self.descriptor_closed(description)

    def descriptor_closed(self, owner: object) -> None:
        """Release all record locks of a process that has closed any descriptor of this file (fcntl(2), "Advisory record
        locking")."""
        self._records = [record for record in self._records if record.owner is not owner]


def _range(start: int, length: int) -> tuple[int, int]:
    # A negative length covers what is before the start (fcntl(2)).
    end = start + length if length else _END
    if length < 0:
        start, end = end, start
    if start < 0:
        raise fail(errno.EINVAL)
    return start, end
