"""Open file descriptions, and the descriptor table of a process."""

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
    """Protocol of an observer that is notified when a file's poll mask may have changed."""

    def changed(self) -> None: ...


class Holder(Protocol):
    """Protocol of an object of the program that owns a descriptor, such as a socket object."""

    def forget(self) -> None:
        """Give up the descriptor at the end of the world, so that the object's finalizer closes nothing."""


class File:
    """Open file description (open(2)), which any number of descriptors refer to: base class of sockets, pipes,
    files."""

    #: True if epoll(7) accepts it.
    pollable = True
    #: True once a socket receives no more (POLLRDHUP).
    hung_up = False

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        #: Number of descriptors that refer to it.
        self.descriptors = 0

    def mask(self) -> int:
        """Return the poll mask: `IN`, `OUT`, `ERR` and `HUP`, as poll(2) reports them."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the description: its last descriptor was closed."""
        raise NotImplementedError

    def descriptor_closed(self, table: DescriptorTable) -> None:
        """Handle the close of one descriptor of this file in `table`; others may still be open."""

    def changed(self) -> None:
        """Notify the watchers that the poll mask may have changed."""
        for watcher in self.watchers:
            watcher.changed()


class DescriptorTable:
    """Descriptor table of one process (files_struct in include/linux/fdtable.h), and the owner of its record locks."""

    __slots__ = ("_free", "_next_fd", "files", "holders", "inheritable", "kept")

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self._free: list[int] = []
        self._next_fd = FIRST_FD
        #: Weak references to the program's objects, by the descriptor that each owns.
        self.holders: dict[int, weakref.ref[Holder]] = {}
        #: Other owners of descriptors, to be told when the world is over.
        self.kept: list[Holder] = []
        #: Descriptors without FD_CLOEXEC.
        self.inheritable: set[int] = set()

    def open(self, file: File) -> int:
        """Allocate a descriptor for `file`: the lowest free one, as POSIX wants it."""
        if self._free:
            fd = heapq.heappop(self._free)
        else:
            fd = self._next_fd
            self._next_fd += 1
        self.files[fd] = file
        file.descriptors += 1
        return fd

    def open_as(self, fd: int, file: File) -> None:
        """Make `fd` refer to `file`, whatever it referred to before, as dup2(2) does."""
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
        """Take over a descriptor from the parent process, under the same number."""
        if fd >= FIRST_FD:
            self.open_as(fd, file)
        else:
            self.files[fd] = file
            file.descriptors += 1
        self.inheritable.add(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor, as close(2) does. Raises `OSError` (EBADF) for one that is not open."""
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
        """Detach the program's objects that own descriptors: their finalizers do nothing from now on."""
        for reference in self.holders.values():
            held = reference()
            if held is not None:
                held.forget()
        self.holders.clear()
        for holder in self.kept:
            holder.forget()
        self.kept.clear()
