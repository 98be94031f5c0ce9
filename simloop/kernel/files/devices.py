"""Open files of fifos (named pipes) and of a few character devices.

The devices are /dev/null, /dev/zero, /dev/full, /dev/random and /dev/urandom (null(4), random(4)).
"""

from __future__ import annotations

import errno
import os
import stat as _stat
from typing import TYPE_CHECKING

from simloop.kernel.errors import fail
from simloop.kernel.files.description import COUNT_MAX, Description, kept_flags
from simloop.kernel.files.inodes import Inode, Special
from simloop.kernel.ipc.pipes import End, Pipe

if TYPE_CHECKING:
    from simloop.kernel.files.filesystem import FileSystem
    from simloop.kernel.files.resolve import Credentials

_NULL, _ZERO, _FULL, _RANDOM, _URANDOM = (os.makedev(1, minor) for minor in (3, 5, 7, 8, 9))
_KNOWN = (_NULL, _ZERO, _FULL, _RANDOM, _URANDOM)
# The controlling terminal (tty(4)), of which simulated processes have none.
_TTY = os.makedev(5, 0)


class UnsimulatedFileError(OSError):
    """Error when opening a device, a fifo of the real machine, or a file of /proc, that is not simulated: ENXIO, as for
    a device without a driver."""

    def __init__(self, what: str = "the device or fifo") -> None:
        super().__init__(errno.ENXIO, os.strerror(errno.ENXIO))
        self.what = what


class Device(Description):
    """Open file description of a character device."""

    pollable = True

    def _read(self, start: int, count: int) -> bytes:
        if not self.readable:
            raise fail(errno.EBADF)
        if count < 0:
            raise fail(errno.EINVAL)
        self.fs.disk.limit("read", self.path, count)
        kind = self.inode.rdev
        if kind == _NULL:
            return b""
        count = min(count, COUNT_MAX)
        return bytes(count) if kind in (_ZERO, _FULL) else self.fs.entropy(count)

    def _read_into(self, start: int, view: memoryview) -> int:
        data = self._read(start, len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: memoryview) -> int:
        return self._write(0, data)

    def _write(self, start: int, data: memoryview) -> int:
        if not self.writable:
            raise fail(errno.EBADF)
        self.fs.disk.limit("write", self.path, len(data))
        if self.inode.rdev == _FULL and len(data):
            raise fail(errno.ENOSPC)
        return min(len(data), COUNT_MAX)

    def lseek(self, offset: int, whence: int) -> int:
        # null_lseek() in drivers/char/mem.c: there is nowhere to go.
        self.offset = 0
        return 0

    def sync(self, *, data_only: bool = False) -> None:
        raise fail(errno.EINVAL)


class Fifo(End):
    """Open end of a fifo (named pipe, see fifo(7)). Its data is lost when the last descriptor of either end is
    closed."""

    def __init__(self, fs: FileSystem, inode: Special, flags: int) -> None:
        self.inode = inode
        self._pipes = fs.pipes
        pipe = self._pipes.get(inode.ino)
        if pipe is None:
            pipe = Pipe(inode.path)
            pipe.inode = inode
        # fifo_open(): an open(2) that does not wait finds a reader, or fails.
        access = flags & os.O_ACCMODE
        if access == os.O_ACCMODE:
            raise fail(errno.EINVAL)
        if access == os.O_WRONLY and flags & os.O_NONBLOCK and not pipe.readers:
            raise fail(errno.ENXIO)
        self._pipes[inode.ino] = pipe
        super().__init__(pipe, kept_flags(flags))
        self.begin()

    def close(self) -> None:
        super().close()
        if not self.pipe.ends:
            self._pipes.pop(self.inode.ino, None)


def opened(fs: FileSystem, inode: Inode, flags: int, path: str, credentials: Credentials) -> Description | Fifo:
    """Return a new open file description for an inode of any type."""
    if isinstance(inode, Special) and not flags & os.O_PATH:
        if _stat.S_ISSOCK(inode.mode) or (_stat.S_ISCHR(inode.mode) and inode.rdev == _TTY):
            raise fail(errno.ENXIO)  # open(2)
        if _stat.S_ISFIFO(inode.mode) and not inode.real:
            return Fifo(fs, inode, flags)
        if not _stat.S_ISCHR(inode.mode) or inode.rdev not in _KNOWN:
            raise UnsimulatedFileError
        return Device(fs, inode, flags, path, credentials)
    return Description(fs, inode, flags, path, credentials)
