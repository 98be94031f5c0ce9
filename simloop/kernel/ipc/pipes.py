"""Pipes and fifos: pipe(7), fifo(7). The comments name the functions of fs/pipe.c in Linux 6 that decide.

It can be used in a script without a simulation:

>>> read_end, write_end = make_pipe()
>>> write_end.write(memoryview(bytes(100_000)))  # as much as there is room for
65536
>>> len(read_end.read(70_000))
65536
>>> write_end.close()
>>> read_end.read(1)
b''
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Protocol

from simloop.kernel.descriptors import ERR, HUP, IN, OUT
from simloop.kernel.errors import fail
from simloop.kernel.ipc.unseekable import Unseekable

# What one slot holds; and "PIPE_BUF is 4096 bytes" (pipe(7)): so much fits into one slot, and is written whole.
PAGE = 4096
# PIPE_DEF_BUFFERS in include/linux/pipe_fs_i.h.
_SLOTS = 16
# /proc/sys/fs/pipe-max-size, as it is by default: what processes without privileges may have.
_SIZE_MAX = 1 << 20

_ACCESS = os.O_ACCMODE
_PACKETS = os.O_DIRECT


class Slot:
    """Page of a pipe's buffer: struct pipe_buffer."""

    __slots__ = ("data", "mergeable", "packet", "start")

    def __init__(self, data: memoryview | bytearray, *, packet: bool = False, mergeable: bool = True) -> None:
        #: All bytes of the page, including those before `start`, which were read: their space is not reused.
        self.data = bytearray(data)
        self.start = 0
        #: True if written in packet mode (O_DIRECT): one read takes the whole packet, and discards what exceeds its
        #: size.
        self.packet = packet
        self.mergeable = mergeable and not packet

    def __len__(self) -> int:
        return len(self.data) - self.start


class Times(Protocol):
    """Structural type of a pipe's inode, which keeps the times of the last access and modification."""

    def used(self) -> None: ...

    def modified(self) -> None: ...


class Pipe:
    """Buffer of a pipe, and its open ends: struct pipe_inode_info."""

    def __init__(self, name: str = "a pipe") -> None:
        #: Name of its ends in choice points and reports.
        self.name = name
        self.slots: deque[Slot] = deque()
        self.capacity = _SLOTS
        self.ends: list[End] = []
        #: Number of ends open for reading and for writing now (`readers`, `writers`), and opened so far (`ever_...`).
        self.readers = self.writers = 0
        self.ever_read = self.ever_written = 0
        #: Inode for fstat(2); None before the first such call, except for a fifo, which always has one.
        self.inode: Times | None = None

    def changed(self) -> None:
        """Notify the watchers of both ends that their poll masks may have changed."""
        for end in self.ends:
            end.changed()

    # --- data -----------------------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        """Remove up to `count` bytes from the pipe and return them, as pipe_read() does. Returns b"" if it is empty and
        has no writers; raises `OSError` (EAGAIN) if it is empty and has some."""
        if not count:
            return b""
        slots = self.slots
        if not slots:
            if self.writers:
                raise fail(errno.EAGAIN)
            return b""
        pieces: list[bytearray] = []
        while slots and count:
            slot = slots[0]
            piece = slot.data[slot.start : slot.start + count]
            pieces.append(piece)
            slot.start += len(piece)
            if slot.packet:
                count = len(piece)
            if slot.packet or not slot:
                slots.popleft()
            count -= len(piece)
        if self.inode is not None:
            self.inode.used()
        self.changed()
        return b"".join(pieces)

    def put(self, data: memoryview, *, packets: bool = False) -> int:
        """Append as many bytes as fit, as pipe_write() does, but without waiting. Returns their number; raises
        `OSError` (EAGAIN) if nothing fits."""
        total = len(data)
        if not total:
            return 0
        self.check_readers()
        slots, written = self.slots, 0
        # "We try to merge new data into the last buffer": what does not fill a page, if there is room for all of it.
        odd = total % PAGE
        if odd and slots and slots[-1].mergeable and len(slots[-1].data) + odd <= PAGE:
            slots[-1].data += data[:odd]
            written = odd
        while written < total and len(slots) < self.capacity:
            slots.append(Slot(data[written : written + PAGE], packet=packets))
            written = min(written + PAGE, total)
        if not written:
            raise fail(errno.EAGAIN)
        self.wrote()
        return written

    def check_readers(self) -> None:
        """Raise `OSError` (EPIPE) if no end is open for reading."""
        # Python ignores SIGPIPE, which goes with it.
        if not self.readers:
            raise fail(errno.EPIPE)

    def wrote(self) -> None:
        """Update the times of the inode after a write, and notify the watchers."""
        if self.inode is not None:
            self.inode.modified()
        self.changed()

    def size(self) -> int:
        """Return the number of bytes in the pipe: FIONREAD in pipe_ioctl()."""
        return sum(map(len, self.slots))

    def resize(self, size: int) -> int:
        """Set the capacity to at least `size` bytes, as pipe_set_size() does for F_SETPIPE_SZ. Returns the new capacity
        in bytes."""
        size &= 0xFFFF_FFFF
        if size > 1 << 31:
            raise fail(errno.EINVAL)  # round_pipe_size()
        slots = 1 << ((max(size, 1) - 1) // PAGE).bit_length()
        if slots > self.capacity and slots * PAGE > _SIZE_MAX:
            raise fail(errno.EPERM)
        if slots < len(self.slots):
            raise fail(errno.EBUSY)
        self.capacity = slots
        self.changed()
        return slots * PAGE


class End(Unseekable):
    """Open end of a pipe, or of a fifo, whose end may be open for both reading and writing."""

    def __init__(self, pipe: Pipe, flags: int) -> None:
        super().__init__(flags)
        self.pipe = pipe
        access = flags & _ACCESS
        self.readable = access in (os.O_RDONLY, os.O_RDWR)
        self.writable = access in (os.O_WRONLY, os.O_RDWR)
        # After how many openings of the other end this one was opened, if it was the first to come.
        self._alone_since: int | None = None
        pipe.ends.append(self)
        pipe.readers += self.readable
        pipe.writers += self.writable
        pipe.ever_read += self.readable
        pipe.ever_written += self.writable
        pipe.changed()

    def mask(self) -> int:
        """Return the poll mask, as pipe_poll() does."""
        pipe, found = self.pipe, 0
        if self.readable:
            if pipe.slots:
                found = IN
            # A fifo that nobody has opened for writing yet has not been hung up.
            if not pipe.writers and self._alone_since != pipe.ever_written:
                found |= HUP
        if self.writable:
            if len(pipe.slots) < pipe.capacity:
                found |= OUT
            if not pipe.readers:
                found |= ERR
        return found

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes, as read(2) does; b"" at end of file."""
        if count < 0:
            raise fail(errno.EINVAL)
        if not self.readable:
            raise fail(errno.EBADF)
        return self.pipe.take(count)

    def peek(self, count: int) -> bytes:
        """Return the bytes that `read` would return, and leave them in the pipe."""
        if not self.readable:
            raise fail(errno.EBADF)
        if not self.pipe.slots and self.pipe.writers:
            raise fail(errno.EAGAIN)
        return b"".join(slot.data[slot.start :] for slot in self.pipe.slots)[:count]

    def write(self, data: memoryview) -> int:
        """Write `data`, a view of bytes, as write(2) does with O_NONBLOCK. Returns the number of bytes written, which
        may be less than all."""
        if not self.writable:
            raise fail(errno.EBADF)
        return self.pipe.put(data, packets=bool(self.flags & _PACKETS))

    def allocate(self, start: int, length: int) -> None:  # type: ignore[override]
        if start >= 0 and length > 0 and not self.writable:
            raise fail(errno.EBADF)  # vfs_fallocate()
        super().allocate(start, length)

    def close(self) -> None:
        pipe = self.pipe
        pipe.ends.remove(self)
        pipe.readers -= self.readable
        pipe.writers -= self.writable
        pipe.changed()

    # --- opening a fifo -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to open a fifo, as fifo_open() does, and note if its other end has yet to be opened."""
        pipe = self.pipe
        if self.readable and not pipe.writers:
            self._alone_since = pipe.ever_written
        elif self.writable and not pipe.readers:
            self._alone_since = pipe.ever_read

    def has_partner(self) -> bool:
        """Return True if the other end was open, or has been opened since `begin`; open(2) waits for that
        (wait_for_partner())."""
        other = self.pipe.ever_written if self.readable else self.pipe.ever_read
        return self._alone_since != other

    def __str__(self) -> str:
        return f"{self.pipe.name} ({'read' if self.readable else 'write'} end)"


class ReadEnd(End):
    """Read end of a pipe."""


class WriteEnd(End):
    """Write end of a pipe."""


def make_pipe(flags: int = 0, name: str = "a pipe") -> tuple[ReadEnd, WriteEnd]:
    """Return the read end and the write end of a new pipe, as pipe2(2) does, but without descriptors."""
    if flags & ~(os.O_CLOEXEC | os.O_NONBLOCK | _PACKETS):
        # O_NOTIFICATION_PIPE is O_EXCL, and needs a kernel that was built with it.
        raise fail(errno.ENOPKG if flags & os.O_EXCL else errno.EINVAL)
    kept = flags & ~os.O_CLOEXEC
    pipe = Pipe(name)
    return ReadEnd(pipe, os.O_RDONLY | kept), WriteEnd(pipe, os.O_WRONLY | kept)


def splice_pipes(source: End, target: End, count: int) -> int:
    """Move up to `count` bytes from one pipe to another, as splice(2) does, but without waiting (splice_pipe_to_pipe()
    in fs/splice.c). Returns their number."""
    if not source.readable or not target.writable:
        raise fail(errno.EBADF)
    taken, given = source.pipe, target.pipe
    if taken is given:
        raise fail(errno.EINVAL)
    if not taken.slots and taken.writers:
        raise fail(errno.EAGAIN)
    given.check_readers()
    if len(given.slots) >= given.capacity:
        raise fail(errno.EAGAIN)
    moved = 0
    while moved < count and taken.slots and len(given.slots) < given.capacity:
        slot = taken.slots[0]
        if len(slot) <= count - moved:
            given.slots.append(taken.slots.popleft())
            moved += len(slot)
        else:
            part = Slot(slot.data[slot.start : slot.start + count - moved], mergeable=False)
            part.packet = slot.packet
            slot.start += len(part)
            given.slots.append(part)
            moved += len(part)
    if moved:
        taken.changed()
        given.wrote()
    return moved


def insert(pipe: Pipe, data: memoryview, offset: int) -> int:
    """Append data from position `offset` of a file to a pipe, each page of the file in a slot of its own, as splice(2)
    and sendfile(2) do. The caller has checked that a slot is free. Returns the number of bytes appended."""
    done = 0
    while done < len(data) and len(pipe.slots) < pipe.capacity:
        size = PAGE - (offset + done) % PAGE
        pipe.slots.append(Slot(data[done : done + size], mergeable=False))
        done = min(done + size, len(data))
    if done:
        pipe.wrote()
    return done
