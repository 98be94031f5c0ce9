"""Inodes: regular files, directories, symbolic links, devices.

An inode for a real file is created when a program first looks up its name. The result of that look-up, even that there
is no such file, is kept for the rest of the run.
"""

from __future__ import annotations

import stat as _stat
from typing import TYPE_CHECKING, Protocol

from simloop.kernel.files.contents import PAGE, Contents, pages
from simloop.kernel.files.writeback import WriteBack

if TYPE_CHECKING:
    from simloop.kernel.files.locks import Locks

# What one block of an ext4 file system holds; that is how large a directory starts.
DIRECTORY_SIZE = PAGE
_SECTORS = PAGE // 512
_NO_XATTRS: dict[str, bytes] = {}


class Volume(Protocol):
    """Structural type of a file system, as its inodes see it."""

    name: str

    #: Files that were written in this world, by inode number.
    written: dict[int, Regular]

    def next_ino(self) -> int:
        """Return a new inode number. Inodes are numbered in the order in which they are created or first looked up."""

    def now(self) -> int:
        """Return the time of the wall clock in nanoseconds."""

    def encode(self, name: str) -> bytes:
        """Return a file name encoded as bytes, as stored on disk."""

    def lower_contents(self, path: str) -> bytes:
        """Return the contents of a real file."""

    def lower_names(self, path: str) -> list[str]:
        """Return the names in a real directory."""

    def from_lower(self, directory: Directory, name: str, path: str) -> Inode | None:
        """Return a new inode for a real file, when its name is first looked up; None if there is no such file.

        `directory` and `name` are its place in this file system, `path` is its real path.
        """


class Inode:
    """Base class of inodes: owner, mode, times, link count and so on."""

    __slots__ = (
        "atime",
        "ctime",
        "dev",
        "fs",
        "gid",
        "home",
        "ino",
        "locks",
        "mode",
        "mtime",
        "nlink",
        "rdev",
        "uid",
        "xattrs",
    )

    def __init__(self, fs: Volume, mode: int, dev: int) -> None:
        self.fs = fs
        self.ino = fs.next_ino()
        self.dev = dev
        self.rdev = 0
        self.mode = mode
        self.nlink = 0
        self.uid = self.gid = 0
        #: Times in nanoseconds of the wall clock.
        self.atime = self.mtime = self.ctime = fs.now()
        #: Directory and name by which it was last found, from which `path` is made; it may have been removed since.
        self.home: tuple[Directory, str] | None = None
        #: Advisory locks (flock(2), fcntl(2)); None until the first one.
        self.locks: Locks | None = None
        #: Extended attributes. Never changed in place, since all inodes begin with one empty dict.
        self.xattrs: dict[str, bytes] = _NO_XATTRS

    @property
    def kind(self) -> int:
        """File type, such as S_IFREG: a part of the mode."""
        return _stat.S_IFMT(self.mode)

    @property
    def path(self) -> str:
        """Path of the inode, for choice points and faults; after its removal, the last one."""
        parts: list[str] = []
        inode: Inode = self
        while inode.home is not None:
            inode, name = inode.home
            parts.append(name)
        return "/" + "/".join(reversed(parts))

    @property
    def size(self) -> int:
        """Size in bytes (st_size)."""
        return 0

    @property
    def sectors(self) -> int:
        """Space on disk in units of 512 bytes (st_blocks, see stat(2))."""
        return 0

    def changed(self) -> None:
        """Update the ctime, since something other than the data was changed."""
        self.ctime = self.fs.now()

    def modified(self) -> None:
        """Update the mtime and the ctime, since the data was changed."""
        self.mtime = self.ctime = self.fs.now()

    def used(self) -> None:
        """Update the atime, since the data was read, by the rule of the mount option relatime, the default of Linux:
        only if it is not later than the last change, or a day old (mount(8))."""
        now = self.fs.now()
        if self.atime <= self.mtime or self.atime <= self.ctime or now - self.atime >= 86_400 * 10**9:
            self.atime = now

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ino} {self.path}>"


class Regular(Inode):
    """Inode of a regular file: its contents in memory, and which part of them is on disk."""

    __slots__ = ("_contents", "_real", "_sectors", "_size", "cached", "errors", "opens", "writeback")

    def __init__(self, fs: Volume, mode: int, dev: int, real: str | None = None, size: int = 0) -> None:
        super().__init__(fs, mode, dev)
        self._real = real
        self._size = size
        self._sectors = 0
        self._contents: Contents | None = Contents() if real is None else None
        #: State of the data that is not on disk yet.
        self.writeback = WriteBack(size)
        #: Number of open file descriptions. While there are any, an unlinked file keeps its space.
        self.opens = 0
        #: Number of failed write-backs. Each open file description reports each failure once (errseq_t).
        self.errors = 0
        #: True if it is in the page cache; a restart of the machine sets this to False.
        self.cached = True

    @property
    def is_real(self) -> bool:
        """True if the file came from the real disk."""
        return self._real is not None

    @property
    def real_path(self) -> str | None:
        """Path of the real file with the same contents; None if it was written in this world."""
        return None if self.ino in self.fs.written else self._real

    @property
    def of_proc(self) -> str | None:
        """Real path, if this is a file under /proc that was not changed in this world; otherwise None."""
        real = self._real
        return self.real_path if real is not None and real.startswith("/proc/") else None

    def say(self, data: bytes) -> None:
        """Set the contents of a file that is in no directory and on no disk, such as one that stands for a file of
        /proc."""
        self._contents = Contents(data)

    @property
    def contents(self) -> Contents:
        """Contents of the file. Those of a real file are read when this is first accessed."""
        if self._contents is None:
            assert self._real is not None
            self._contents = Contents(self.fs.lower_contents(self._real))
            self.writeback.disk_size = self._contents.size
        return self._contents

    @property
    def size(self) -> int:
        return self._size if self._contents is None else self._contents.size

    @property
    def sectors(self) -> int:
        return pages(self._size) * _SECTORS if self._contents is None else self._contents.blocks * _SECTORS


class Symlink(Inode):
    """Inode of a symbolic link. Its target never changes."""

    __slots__ = ("target",)

    def __init__(self, fs: Volume, mode: int, dev: int, target: str) -> None:
        super().__init__(fs, mode, dev)
        self.target = target

    @property
    def size(self) -> int:
        return len(self.fs.encode(self.target))


class Special(Inode):
    """Inode of a device, fifo or unix socket."""

    __slots__ = ("real",)

    def __init__(self, fs: Volume, mode: int, dev: int, *, real: bool = False) -> None:
        super().__init__(fs, mode, dev)
        #: True for a file of the real machine, which real processes may have open.
        self.real = real


class Directory(Inode):
    """Inode of a directory: a mapping of names to inodes."""

    __slots__ = ("_complete", "_entries", "_real", "dead", "parent")

    def __init__(self, fs: Volume, mode: int, dev: int, parent: Directory | None, real: str | None = None) -> None:
        super().__init__(fs, mode, dev)
        self.parent = self if parent is None else parent
        self._real = real
        #: Entries known so far. The value None means that the name does not exist, even if it does on the real disk.
        self._entries: dict[str, Inode | None] = {}
        #: True once all names of the real directory are known.
        self._complete = real is None
        #: True once it was removed: nothing can be created in it any more (IS_DEADDIR() in the kernel).
        self.dead = False

    @property
    def size(self) -> int:
        return DIRECTORY_SIZE

    @property
    def sectors(self) -> int:
        return _SECTORS

    def get(self, name: str) -> Inode | None:
        """Return the inode with this name, or None if there is none."""
        try:
            found = self._entries[name]
        except KeyError:
            if self._complete or self._real is None:
                return None
        else:
            if found is not _UNSEEN:
                return found
        inode = self._entries[name] = self.fs.from_lower(self, name, self._real_path(name))
        return inode

    def _real_path(self, name: str) -> str:
        assert self._real is not None
        return f"{self._real}/{name}" if self._real != "/" else f"/{name}"

    @property
    def real_path(self) -> str | None:
        """Path of the real directory, even if entries of it were changed in this world; None if it was created in this
        world."""
        return self._real

    @property
    def of_proc(self) -> str | None:
        """Real path, if this is /proc or a directory under it; otherwise None."""
        real = self._real
        return real if real is not None and f"{real}/".startswith("/proc/") else None

    def names(self) -> list[str]:
        """Return all names except ``.`` and ``..``. They are sorted for repeatable runs; Linux guarantees no order."""
        if not self._complete and self._real is not None:
            for name in self.fs.lower_names(self._real):
                self._entries.setdefault(name, _UNSEEN)
            self._complete = True
        return sorted(name for name, inode in self._entries.items() if inode is not None)

    def is_empty(self) -> bool:
        """Return True if the directory has no entries except ``.`` and ``..``."""
        return not self.names()

    def set(self, name: str, inode: Inode | None) -> None:
        """Set the inode for a name; None removes the name. Updates link counts, and ``..`` of a subdirectory."""
        before = self.get(name)
        if before is not None:
            before.nlink -= 1
            if isinstance(before, Directory):
                before.nlink -= 1  # its own "."
                self.nlink -= 1  # its ".."
        self._entries[name] = inode
        if inode is None:
            return
        inode.nlink += 1
        inode.home = (self, name)
        if isinstance(inode, Directory):
            inode.nlink += 1
            inode.parent = self
            inode.dead = False
            self.nlink += 1

    def forget(self) -> list[Inode]:
        """Clear the directory at the end of the world, to break reference cycles. Returns the inodes that were in
        it."""
        known = [inode for inode in self._entries.values() if inode is not None and inode is not _UNSEEN]
        self._entries.clear()
        del self.parent
        return known

    def contains(self, other: Directory) -> bool:
        """Return True if `other` is this directory, or a direct or indirect subdirectory of it."""
        while other is not self:
            if other.parent is other:
                return False
            other = other.parent
        return True


class _Unseen(Inode):
    """Placeholder for the inode of a name that was listed in a real directory, but not looked up yet."""

    __slots__ = ()

    def __init__(self) -> None:
        pass


_UNSEEN = _Unseen()
