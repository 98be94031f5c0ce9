"""Base class of open files (open file descriptions), and the table of file descriptors of a process."""

from __future__ import annotations

import errno
import heapq
import os
import weakref
from typing import Protocol

# Above any number that the real kernel hands out (fs.nr_open is 2**20 by default), so that a simulated
# descriptor that reaches a real system call fails instead of hitting somebody else's file.
FIRST_FD = 1 << 20

IN, OUT, ERR, HUP = 0x1, 0x4, 0x8, 0x10  # POLLIN and so on, as in poll(2)


class Watcher(Protocol):
    """Structural type of an object that is notified when a file's poll mask may have changed."""

    def changed(self) -> None: ...


class Holder(Protocol):
    """Structural type of a Python object of the program that owns a descriptor, such as a `socket.socket`."""

    def forget(self) -> None:
        """Disown the descriptor at the end of the world, so that the object's finalizer closes nothing."""


class File:
    """Base class of open file descriptions (open(2)): sockets, pipes, regular files and so on. Any number of
    descriptors may refer to one."""

    #: True if it can be registered with epoll(7); False for regular files and directories.
    pollable = True
    #: True for a socket once it will receive no more data (POLLRDHUP).
    hung_up = False

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        #: Number of descriptors that refer to it, in all processes.
        self.descriptors = 0

    def mask(self) -> int:
        """Return the poll mask: a bitwise OR of `IN`, `OUT`, `ERR` and `HUP`, as in ``revents`` of poll(2)."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the description, after its last descriptor was closed."""
        raise NotImplementedError

    def descriptor_closed(self, table: DescriptorTable) -> None:
        """Note that one descriptor of this file in `table` was closed; others may still be open."""

    def changed(self) -> None:
        """Notify the watchers that the poll mask may have changed."""
        for watcher in self.watchers:
            watcher.changed()


class DescriptorTable:
    """Table of the file descriptors of one process (files_struct in include/linux/fdtable.h). It is also the owner of
    the record locks (fcntl(2)) of the process."""

    __slots__ = ("_free", "_next_fd", "files", "holders", "inheritable", "kept")

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self._free: list[int] = []
        self._next_fd = FIRST_FD
        #: Weak references to the Python objects that own a descriptor, by that descriptor.
        self.holders: dict[int, weakref.ref[Holder]] = {}
        #: Owners of several descriptors: their `forget` is called at the end of the world.
        self.kept: list[Holder] = []
        #: Descriptors without FD_CLOEXEC.
        self.inheritable: set[int] = set()

    def open(self, file: File) -> int:
        """Allocate the lowest free descriptor, as POSIX demands, let it refer to `file`, and return it."""
        if self._free:
            fd = heapq.heappop(self._free)
        else:
            fd = self._next_fd
            self._next_fd += 1
        self.files[fd] = file
        file.descriptors += 1
        return fd

    def open_as(self, fd: int, file: File) -> None:
        """Let `fd` refer to `file`, as dup2(2) does. If `fd` is open, it is closed first."""
        if fd in self.files:
            self.close(fd)
        for number in range(self._next_fd, fd + 1):
            heapq.heappush(self._free, number)
        self._next_fd = max(self._next_fd, fd + 1)
        self._free.remove(fd)
        heapq.heapify(self._free)
        self.files[fd] = file
        file.descriptors += 1

    def inherit(self, fd: int, file: File) -> None:
        """Add a descriptor of the parent process, under the same number and without FD_CLOEXEC."""
        if fd >= FIRST_FD:
            self.open_as(fd, file)
        else:
            self.files[fd] = file
            file.descriptors += 1
        self.inheritable.add(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor, as close(2) does. Raises `OSError` (EBADF) if it is not open."""
        file = self.files.pop(fd, None)
        if file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        heapq.heappush(self._free, fd)
        self.inheritable.discard(fd)
        file.descriptors -= 1
        file.descriptor_closed(self)
        if not file.descriptors:
            file.close()

    def forget_holders(self) -> None:
        """Call `forget` of each Python object that owns descriptors: their finalizers close nothing from now on."""
        for reference in self.holders.values():
            held = reference()
            if held is not None:
                held.forget()
        self.holders.clear()
        for holder in self.kept:
            holder.forget()
        self.kept.clear()
