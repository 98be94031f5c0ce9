"""Open file descriptions of regular files and directories, and the system calls on them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from simloop.kernel.descriptors import IN, OUT, DescriptorTable, File
from simloop.kernel.errors import fail
from simloop.kernel.files.contents import PAGE
from simloop.kernel.files.inodes import Directory, Inode, Regular
from simloop.kernel.files.journal import SizeChange
from simloop.kernel.files.locks import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, Locks

if TYPE_CHECKING:
    from simloop.kernel.files.filesystem import FileSystem
    from simloop.kernel.files.resolve import Credentials

# The most that one read or write moves (MAX_RW_COUNT in include/linux/fs.h).
COUNT_MAX = 0x7FFF_F000
# ext4 with blocks of 4 KiB holds no larger file (s_maxbytes, see ext4_max_size() in fs/ext4/super.c).
SIZE_MAX = 0xFFFF_FFFF * PAGE
# The page in memory and on the device is what O_DIRECT must agree with, at least the device's sector (open(2)).
DIRECT_ALIGN = 512

_APPEND = os.O_APPEND
_DSYNC = os.O_DSYNC
_SYNC = os.O_SYNC
_PATH = os.O_PATH
_DIRECT = os.O_DIRECT


class Stat(NamedTuple):
    """Result of stat(2). Times are nanoseconds of the wall clock."""

    mode: int
    ino: int
    dev: int
    nlink: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    blksize: int
    blocks: int
    rdev: int


def stat_of(inode: Inode) -> Stat:
    """Return the attributes of an inode, as stat(2) reports them."""
    return Stat(
        inode.mode, inode.ino, inode.dev, max(inode.nlink, 0), inode.uid, inode.gid, inode.size,
        inode.atime, inode.mtime, inode.ctime, PAGE, inode.sectors, inode.rdev,
    )  # fmt: skip


def kept_flags(flags: int) -> int:
    """Return the flags that F_GETFL reports: all but those that matter only when opening."""
    return flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_TRUNC | os.O_CLOEXEC)


class Description(File):
    """Open file description (open(2)) of a file or directory: its offset and flags. Descriptors that refer to it share
    the offset."""

    #: False, since epoll(7) refuses regular files and directories with EPERM; poll(2) always reports them ready.
    pollable = False

    def __init__(self, fs: FileSystem, inode: Inode, flags: int, path: str, credentials: Credentials) -> None:
        super().__init__()
        self.fs = fs
        self.inode = inode
        self._credentials = credentials
        self.flags = kept_flags(flags)
        #: Path of the file when it was opened, against which the patterns of injected faults are matched.
        self.path = path
        self.offset = 0
        access = flags & os.O_ACCMODE
        named_only = bool(flags & _PATH)
        self.readable = access in (os.O_RDONLY, os.O_RDWR) and not named_only
        self.writable = access in (os.O_WRONLY, os.O_RDWR) and not named_only
        self._errors = 0
        if isinstance(inode, Regular):
            inode.opens += 1
            self._errors = inode.errors

    def mask(self) -> int:
        return IN | OUT

    def close(self) -> None:
        inode = self.inode
        if inode.locks is not None:
            inode.locks.closed(self)
        if isinstance(inode, Regular):
            inode.opens -= 1
            if not inode.opens and inode.nlink <= 0:
                self.fs.released(inode)

    def descriptor_closed(self, table: DescriptorTable) -> None:
        if self.inode.locks is not None:
            self.inode.locks.descriptor_closed(table)

    def __repr__(self) -> str:
        return f"<Description {self.path} {self.flags:#o}>"

    def __str__(self) -> str:
        return self.path

    # --- reading --------------------------------------------------------------------------------------

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes from the offset, as read(2) does, and advance the offset."""
        data = self._read(self.offset, count)
        self.offset += len(data)
        return data

    def pread(self, count: int, offset: int) -> bytes:
        """Return up to `count` bytes from position `offset`, as pread(2) does; the description's own offset stays."""
        self._check_offset(offset)
        return self._read(offset, count)

    def read_into(self, view: memoryview) -> int:
        """Read into a buffer from the offset, without a copy in between, and advance the offset. Returns the number of
        bytes read."""
        count = self._read_into(self.offset, view)
        self.offset += count
        return count

    def pread_into(self, view: memoryview, offset: int) -> int:
        """Read into a buffer from position `offset`; the description's own offset stays. Returns the number of bytes
        read."""
        self._check_offset(offset)
        return self._read_into(offset, view)

    def _read(self, start: int, count: int) -> bytes:
        if count < 0:
            raise fail(errno.EINVAL)
        file, count = self._reading(start, count)
        return file.contents.read(start, count)

    def _read_into(self, start: int, view: memoryview) -> int:
        file, count = self._reading(start, len(view))
        return file.contents.read_into(start, view if count == len(view) else view[:count])

    def _reading(self, start: int, count: int) -> tuple[Regular, int]:
        if not self.readable:
            raise fail(errno.EBADF)
        file = self._regular()
        if self.flags & _DIRECT:
            self._check_direct(start, count)
        fs = self.fs
        disk = fs.disk
        count = disk.limit("read", self.path, count if count < COUNT_MAX else COUNT_MAX)
        moved = file.contents.size - start
        moved = count if count < moved else max(0, moved)
        if disk.spoils:
            disk.spoils = False
            file.contents.spoil(start)
        if file.ino in fs.written:
            timing = disk.timing
            disk.deferred_ns += timing.call_ns + timing.copy_ns(moved)
            if not file.cached:
                # Read-ahead brings the rest along.
                file.cached = True
                disk.deferred_ns += disk.timing.read_latency_ns + disk.timing.transfer_ns(file.contents.size)
        if moved:
            file.used()
        return file, count

    # --- writing --------------------------------------------------------------------------------------

    def write(self, data: memoryview) -> int:
        """Write bytes at the offset, as write(2) does, and advance it. Returns the number of bytes written, which is
        less than all if the disk is full."""
        # generic_write_checks(): to write nothing moves nothing.
        if self.flags & _APPEND and self.writable and len(data):
            self.offset = self._regular().contents.size
        count = self._write(self.offset, data)
        self.offset += count
        return count

    def pwrite(self, data: memoryview, offset: int) -> int:
        """Write bytes at position `offset`, as pwrite(2) does. "On Linux, pwrite() appends data to the end of the file,
        regardless of the value of offset" if it was opened with O_APPEND (pwrite(2), BUGS)."""
        self._check_offset(offset)
        if self.flags & _APPEND and self.writable:
            offset = self._regular().contents.size
        return self._write(offset, data)

    def _write(self, start: int, data: memoryview) -> int:
        if not self.writable:
            raise fail(errno.EBADF)
        file = self._regular()
        count = len(data)
        if self.flags & _DIRECT:
            self._check_direct(start, count)
        if not count:
            return 0
        fs = self.fs
        disk = fs.disk
        count = disk.limit("write", self.path, count if count < COUNT_MAX else COUNT_MAX)
        if start + count > SIZE_MAX:
            if start >= SIZE_MAX:
                raise fail(errno.EFBIG)
            count = SIZE_MAX - start
        if disk.capacity is not None:
            count = fs.room(file, start, count)
        self._credentials.strip(file)
        fs.write(file, start, data[:count] if count < len(data) else data)
        if self.flags & _DSYNC:
            self.sync(data_only=self.flags & _SYNC != _SYNC)
        return count

    def truncate(self, size: int) -> None:
        """Set the size of the file, as ftruncate(2) does."""
        if size < 0:
            raise fail(errno.EINVAL)
        if self.flags & _PATH:
            raise fail(errno.EBADF)
        if not self.writable or not isinstance(self.inode, Regular):
            raise fail(errno.EINVAL)
        self._credentials.strip(self.inode)
        self.fs.truncate(self.inode, size, self.path)

    def allocate(self, start: int, length: int) -> None:
        """Reserve disk space for a range of bytes, as posix_fallocate(3) does. A file that ends before the end of the
        range is extended."""
        if self.flags & _PATH:
            raise fail(errno.EBADF)
        if start < 0 or length <= 0:
            raise fail(errno.EINVAL)
        if not self.writable:
            raise fail(errno.EBADF)
        if not isinstance(self.inode, Regular):
            raise fail(errno.ENODEV)
        file, fs = self.inode, self.fs
        end = start + length
        if end > SIZE_MAX:
            raise fail(errno.EFBIG)
        fs.disk.check("write", self.path)
        if fs.disk.capacity is not None and fs.room(file, start, length) < length:
            raise fail(errno.ENOSPC)
        fs.prepare_change(file)
        if end > file.contents.size:
            fs.note(SizeChange(file, end))
            file.contents.resize(end)
        self._credentials.strip(file)
        file.contents.reserve(start, end)
        file.modified()

    def sync(self, *, data_only: bool = False) -> None:
        """Flush the file to disk, as fsync(2) does, or fdatasync(2) if `data_only` is True. A write-back error that
        occurred in another call is reported here too, once."""
        if self.flags & _PATH:
            raise fail(errno.EBADF)
        inode, fs = self.inode, self.fs
        fs.disk.deferred_ns += fs.disk.timing.call_ns
        try:
            fs.disk.check("fsync", self.path)
        except OSError:
            if isinstance(inode, Regular):
                inode.writeback.mark_failed()
                inode.errors += 1
                self._errors = inode.errors
            raise
        if isinstance(inode, Regular):
            fs.sync_file(inode, data_only=data_only)
            if self._errors != inode.errors:
                self._errors = inode.errors
                raise fail(errno.EIO)
        else:
            fs.sync_other(inode)

    # --- where it stands, what is locked --------------------------------------------------------------

    def lseek(self, offset: int, whence: int) -> int:
        """Set the offset, as lseek(2) does, including SEEK_DATA and SEEK_HOLE. Returns the new offset."""
        if self.flags & _PATH:
            raise fail(errno.EBADF)
        inode = self.inode
        size = inode.size if not isinstance(inode, Regular) else inode.contents.size
        if whence == os.SEEK_SET:
            target: int | None = offset
        elif whence == os.SEEK_CUR:
            target = self.offset + offset
        elif whence == os.SEEK_END:
            target = size + offset
        elif whence in (os.SEEK_DATA, os.SEEK_HOLE) and isinstance(inode, Regular):
            if not 0 <= offset < size:
                raise fail(errno.ENXIO)
            found = inode.contents.next_data(offset) if whence == os.SEEK_DATA else inode.contents.next_hole(offset)
            if found is None or found > size:
                raise fail(errno.ENXIO)
            target = found
        else:
            target = None
        if target is None or not 0 <= target <= SIZE_MAX:
            raise fail(errno.EINVAL)
        self.offset = target
        return target

    def flock(self, operation: int) -> None:
        """Lock or unlock the file, as flock(2) does, but never block: raises `OSError` (EAGAIN) even without
        LOCK_NB."""
        if operation & ~LOCK_NB not in (LOCK_SH, LOCK_EX, LOCK_UN):
            raise fail(errno.EINVAL)
        if self.flags & _PATH:
            raise fail(errno.EBADF)
        self.locks.flock(self, operation)

    @property
    def locks(self) -> Locks:
        """Advisory locks on the file."""
        if self.inode.locks is None:
            self.inode.locks = Locks()
        return self.inode.locks

    def stat(self) -> Stat:
        """Return the attributes of the file, as fstat(2) does."""
        self.fs.disk.check("stat", self.path)
        return stat_of(self.inode)

    # --- arguments ------------------------------------------------------------------------------------

    def _regular(self) -> Regular:
        if isinstance(self.inode, Regular):
            return self.inode
        raise fail(errno.EISDIR if isinstance(self.inode, Directory) else errno.EINVAL)

    @staticmethod
    def _check_offset(offset: int) -> None:
        if offset < 0:
            raise fail(errno.EINVAL)

    @staticmethod
    def _check_direct(start: int, count: int) -> None:
        if start % DIRECT_ALIGN or count % DIRECT_ALIGN:
            raise fail(errno.EINVAL)
