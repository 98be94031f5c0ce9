"""The same calls on pipes and fifos, made on Linux and on the simulated kernel. None of them waits."""

from __future__ import annotations

import fcntl
import os
import posix
import select
import struct
import termios
from pathlib import Path
from typing import Any

from simloop.kernel.clock import Clock
from simloop.kernel.descriptors import DescriptorTable
from simloop.kernel.files.calls import FileCalls
from simloop.kernel.files.filesystem import FileSystem
from simloop.kernel.files.resolve import Credentials
from simloop.kernel.ipc.pipes import End, make_pipe, splice_pipes
from simloop.kernel.wall import WallClock

MASK_BITS = select.POLLIN | select.POLLOUT | select.POLLERR | select.POLLHUP
#: F_GETFL says it of files opened by a path on 64 bits (force_o_largefile()); the simulated kernel has one kind.
LARGE = 0o100000


class RealPipes:
    """Linux, through the functions of `posix`."""

    def __init__(self, root: Path) -> None:
        self.fifo = str(root / "fifo")
        posix.mkfifo(self.fifo)
        self.open_fds: set[int] = set()

    def finish(self) -> None:
        for fd in self.open_fds:
            posix.close(fd)
        posix.unlink(self.fifo)

    def pipe(self, flags: int) -> tuple[int, int]:
        ends = posix.pipe2(flags)
        self.open_fds.update(ends)
        return ends

    def open_fifo(self, flags: int) -> int:
        fd = posix.open(self.fifo, flags | os.O_NONBLOCK)
        self.open_fds.add(fd)
        return fd

    def dup(self, fd: int) -> int:
        copy = posix.dup(fd)
        self.open_fds.add(copy)
        return copy

    def close(self, fd: int) -> None:
        posix.close(fd)
        self.open_fds.discard(fd)

    def set_size(self, fd: int, size: int) -> int:
        return fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)

    def get_size(self, fd: int) -> int:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)

    def flags(self, fd: int) -> int:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & ~LARGE

    def packets(self, fd: int, on: bool) -> None:
        before = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, before | os.O_DIRECT if on else before & ~os.O_DIRECT)

    def available(self, fd: int) -> int:
        found: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
        return found

    def mask(self, fd: int) -> int:
        poll = select.poll()
        poll.register(fd, select.POLLIN | select.POLLOUT)
        return dict(poll.poll(0)).get(fd, 0) & MASK_BITS

    def kind(self, fd: int) -> Any:
        found = posix.fstat(fd)
        return oct(found.st_mode), found.st_nlink, found.st_size, found.st_blocks, found.st_blksize

    def splice(self, source: int, target: int, count: int) -> int:
        return posix.splice(source, target, count, flags=os.SPLICE_F_NONBLOCK)

    read = staticmethod(posix.read)
    write = staticmethod(posix.write)
    writev = staticmethod(posix.writev)
    lseek = staticmethod(posix.lseek)
    pread = staticmethod(posix.pread)
    pwrite = staticmethod(posix.pwrite)
    ftruncate = staticmethod(posix.ftruncate)
    fallocate = staticmethod(posix.posix_fallocate)
    fsync = staticmethod(posix.fsync)
    fchmod = staticmethod(posix.fchmod)


class SimPipes:
    """One process of a simulated host, without a world."""

    def __init__(self) -> None:
        self.descriptors = DescriptorTable()
        self.calls = FileCalls(
            FileSystem(WallClock(Clock())), self.descriptors, Credentials(os.geteuid(), os.getegid())
        )
        self.calls.set_umask(0o022)
        self.calls.mknod("/fifo", 0o010666)

    def finish(self) -> None:
        for fd in list(self.descriptors.files):
            self.descriptors.close(fd)
        assert not self.calls.fs.pipes

    def file(self, fd: int) -> End:
        found = self.descriptors.files[fd]
        assert isinstance(found, End)
        return found

    def pipe(self, flags: int) -> tuple[int, int]:
        read_end, write_end = make_pipe(flags)
        return self.descriptors.open(read_end), self.descriptors.open(write_end)

    def open_fifo(self, flags: int) -> int:
        return self.descriptors.open(self.calls.open("/fifo", flags | os.O_NONBLOCK))

    def dup(self, fd: int) -> int:
        return self.descriptors.open(self.file(fd))

    def close(self, fd: int) -> None:
        self.descriptors.close(fd)

    def set_size(self, fd: int, size: int) -> int:
        return self.file(fd).pipe.resize(size)

    def get_size(self, fd: int) -> int:
        return self.file(fd).pipe.capacity * 4096

    def flags(self, fd: int) -> int:
        return self.file(fd).flags

    def packets(self, fd: int, on: bool) -> None:
        file = self.file(fd)
        file.flags = file.flags | os.O_DIRECT if on else file.flags & ~os.O_DIRECT

    def available(self, fd: int) -> int:
        return self.file(fd).pipe.size()

    def mask(self, fd: int) -> int:
        return self.file(fd).mask()

    def kind(self, fd: int) -> Any:
        found = self.calls.stat(fd)
        return oct(found.mode), found.nlink, found.size, found.blocks, found.blksize

    def splice(self, source: int, target: int, count: int) -> int:
        return splice_pipes(self.file(source), self.file(target), count)

    def read(self, fd: int, count: int) -> bytes:
        return self.file(fd).read(count)

    def write(self, fd: int, data: bytes) -> int:
        return self.file(fd).write(memoryview(data))

    def writev(self, fd: int, pieces: list[bytes]) -> int:
        return self.file(fd).write(memoryview(b"".join(pieces)))

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        return self.file(fd).lseek(offset, whence)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return self.file(fd).pread(count, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return self.file(fd).pwrite(memoryview(data), offset)

    def ftruncate(self, fd: int, size: int) -> None:
        self.file(fd).truncate(size)

    def fallocate(self, fd: int, start: int, length: int) -> None:
        self.file(fd).allocate(start, length)

    def fsync(self, fd: int) -> None:
        self.file(fd).sync()

    def fchmod(self, fd: int, mode: int) -> None:
        self.calls.chmod(fd, mode)
