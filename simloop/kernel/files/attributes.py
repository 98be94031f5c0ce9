"""System calls of one process on attributes of files: stat, mode, owner, times and size."""

from __future__ import annotations

import errno
import os
import stat as _stat
from collections.abc import Callable
from posixpath import normpath
from typing import TYPE_CHECKING, NamedTuple

from simloop.kernel.errors import fail
from simloop.kernel.files.contents import PAGE
from simloop.kernel.files.description import Description, Stat, stat_of
from simloop.kernel.files.disk import NOMINAL_CAPACITY
from simloop.kernel.files.inodes import Directory, Inode, Regular, Special, Symlink
from simloop.kernel.files.journal import AttributeChange
from simloop.kernel.files.resolve import MAY_WRITE, NAME_MAX, Credentials, Walk
from simloop.kernel.ipc.pipes import End
from simloop.kernel.net.sockets import Socket

if TYPE_CHECKING:
    from simloop.kernel.descriptors import DescriptorTable
    from simloop.kernel.files.filesystem import FileSystem

# What most programs are started with.
DEFAULT_UMASK = 0o022
# Where pipes are, which no path leads to (pipefs): like all that is on no disk it has the major number 0.
_PIPE_DEVICE = os.makedev(0, 15)
# Where sockets are (sockfs).
_SOCKET_DEVICE = os.makedev(0, 9)
# What a fresh ext4 has taken for itself, its root directory and lost+found, as df(1) shows it: 24 KiB.
_OWN_BLOCKS = 6


class StatVfs(NamedTuple):
    """Result of statvfs(3)."""

    bsize: int
    frsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    favail: int
    flag: int
    namemax: int


class AttributeCalls:
    """System calls of one process on attributes of files. Also keeps the process's working directory, umask and
    credentials."""

    def __init__(self, fs: FileSystem, descriptors: DescriptorTable, credentials: Credentials | None = None) -> None:
        self.fs = fs
        self._descriptors = descriptors
        self.credentials = credentials or Credentials()
        self.cwd: Directory = fs.root
        self.umask = DEFAULT_UMASK

    # --- where paths begin ----------------------------------------------------------------------------

    def _walk(self) -> Walk:
        return Walk(self.fs.root, self.credentials)

    def _base(self, dir_fd: int | None) -> Callable[[], Directory]:
        """Return a function that returns the directory in which relative paths start: that of `dir_fd`, or the working
        directory. It is not called for absolute paths."""

        def base() -> Directory:
            if dir_fd is None:
                return self.cwd
            inode = self.opened(dir_fd)
            if not isinstance(inode, Directory):
                raise fail(errno.ENOTDIR)
            return inode

        return base

    def description(self, fd: int) -> Description:
        """Return the open file description of a descriptor of this process. Raises `OSError` (EBADF) if it has none."""
        file = self._descriptors.files.get(fd)
        if not isinstance(file, Description):
            raise fail(errno.EBADF)
        return file

    def opened(self, fd: int) -> Inode:
        """Return the inode of the file, fifo, pipe or socket that a descriptor of this process refers to."""
        file = self._descriptors.files.get(fd)
        if isinstance(file, Socket):
            if file.inode is None:
                # sock_alloc() in net/socket.c.
                file.inode = new = Special(self.fs, _stat.S_IFSOCK | 0o777, _SOCKET_DEVICE)
                new.nlink = 1
                new.uid, new.gid = self.credentials.uid, self.credentials.gid
                new.atime = new.mtime = new.ctime = 0
            assert isinstance(file.inode, Inode)
            return file.inode
        if not isinstance(file, End):
            return self.description(fd).inode
        pipe = file.pipe
        if pipe.inode is None:
            # get_pipe_inode() in fs/pipe.c, but for the times, which begin when somebody looks.
            pipe.inode = made = Special(self.fs, _stat.S_IFIFO | 0o600, _PIPE_DEVICE)
            made.nlink = 1
            made.uid, made.gid = self.credentials.uid, self.credentials.gid
        assert isinstance(pipe.inode, Inode)
        return pipe.inode

    def _check(self, operation: str, path: str, dir_fd: int | None) -> None:
        disk = self.fs.disk
        if disk.faults:  # else nobody needs the whole path
            if path[:1] != "/":
                path = f"{self._base(dir_fd)().path.rstrip('/')}/{path}"
            disk.check(operation, normpath(path))

    def _inode(self, operation: str, path: str | int, dir_fd: int | None, follow: bool) -> Inode:
        """Return the inode to which a path or a descriptor refers. `operation` is the name by which injected faults of
        the disk match the call."""
        if isinstance(path, int):
            if isinstance(self._descriptors.files.get(path), (End, Socket)):
                return self.opened(path)
            description = self.description(path)
            self.fs.disk.check(operation, description.path)
            return description.inode
        self._check(operation, path, dir_fd)
        return self._walk().inode(path, self._base(dir_fd), follow)

    # --- what C code would see ------------------------------------------------------------------------

    def seen_by_c(self, path: str) -> str | None:
        """Return the real path of a file, for C code that opens it without the simulation; None if the file was written
        in this world, so that no real one has its contents. No injected fault strikes this look-up."""
        inode = self._walk().inode(path, self._base(None), True)
        return inode.real_path if isinstance(inode, (Directory, Regular)) else None

    # --- looking --------------------------------------------------------------------------------------

    def stat(self, path: str | int, *, dir_fd: int | None = None, follow: bool = True) -> Stat:
        """Return the attributes of a file, as fstatat(2) and fstat(2) do."""
        return stat_of(self._inode("stat", path, dir_fd, follow))

    def access(self, path: str, mode: int, *, dir_fd: int | None = None, follow: bool = True) -> None:
        """Check permissions, as faccessat(2) does. Raises `OSError` (EACCES) if access is not permitted. Real and
        effective ids are the same."""
        if mode & ~7:
            raise fail(errno.EINVAL)
        self.credentials.check(self._inode("stat", path, dir_fd, follow), mode)

    def statvfs(self, path: str | int) -> StatVfs:
        """Return the size and the free space of the file system, as statvfs(3) does."""
        self._inode("stat", path, None, True)
        capacity = self.fs.disk.capacity
        blocks = (NOMINAL_CAPACITY if capacity is None else capacity) // PAGE
        free = max(0, blocks - self.fs.used() // PAGE)
        blocks += _OWN_BLOCKS
        inodes = blocks // 4  # ext4 makes one for 16 KiB (inode_ratio in mke2fs.conf(5))
        return StatVfs(PAGE, PAGE, blocks, free, free, inodes, inodes, inodes, os.ST_RELATIME, NAME_MAX)

    # --- changing -------------------------------------------------------------------------------------

    def _changing(self, inode: Inode) -> None:
        self.fs.note(AttributeChange(inode))
        inode.changed()

    def chmod(self, path: str | int, mode: int, *, dir_fd: int | None = None, follow: bool = True) -> None:
        """Change the file mode bits, as fchmodat(2) and fchmod(2) do."""
        inode = self._inode("chmod", path, dir_fd, follow)
        file = self._descriptors.files.get(path) if isinstance(path, int) else None
        if isinstance(file, Description) and file.flags & os.O_PATH:
            raise fail(errno.EBADF)
        if isinstance(inode, Symlink):
            raise fail(errno.EOPNOTSUPP)
        credentials = self.credentials
        if not credentials.owns(inode):
            raise fail(errno.EPERM)
        if credentials.uid and inode.gid != credentials.gid and inode.gid not in credentials.groups:
            mode &= ~_stat.S_ISGID  # chmod(2)
        self._changing(inode)
        inode.mode = inode.kind | (mode & 0o7777)

    def chown(self, path: str | int, uid: int, gid: int, *, dir_fd: int | None = None, follow: bool = True) -> None:
        """Change owner and group, as fchownat(2) and fchown(2) do. An id of -1 is left unchanged."""
        inode = self._inode("chmod", path, dir_fd, follow)
        credentials = self.credentials
        own_groups = (-1, inode.gid, credentials.gid, *credentials.groups)
        if credentials.uid and (
            uid not in (-1, inode.uid)
            or gid not in own_groups
            or (credentials.uid != inode.uid and (uid, gid) != (-1, -1))
        ):
            raise fail(errno.EPERM)
        self._changing(inode)
        inode.uid = inode.uid if uid == -1 else uid
        inode.gid = inode.gid if gid == -1 else gid
        if isinstance(inode, Regular):
            # should_remove_suid(): a set-group-ID bit without group execution once meant something else, and stays.
            inode.mode &= ~_stat.S_ISUID
            if inode.mode & _stat.S_IXGRP:
                inode.mode &= ~_stat.S_ISGID

    def utime(
        self,
        path: str | int,
        times_ns: tuple[int, int] | None = None,
        *,
        dir_fd: int | None = None,
        follow: bool = True,
    ) -> None:
        """Set the times of last access and last modification, as utimensat(2) and futimens(3) do; to the current time
        if `times_ns` is None."""
        inode = self._inode("utime", path, dir_fd, follow)
        credentials = self.credentials
        if not credentials.owns(inode):
            if times_ns is not None:
                raise fail(errno.EPERM)
            credentials.check(inode, MAY_WRITE)
        self._changing(inode)
        now = self.fs.now()
        inode.atime, inode.mtime = (now, now) if times_ns is None else times_ns

    def truncate(self, path: str, size: int) -> None:
        """Set the size of a file, as truncate(2) does."""
        if size < 0:
            raise fail(errno.EINVAL)
        inode = self._inode("truncate", path, None, True)
        if isinstance(inode, Directory):
            raise fail(errno.EISDIR)
        if not isinstance(inode, Regular):
            raise fail(errno.EINVAL)
        self.credentials.check(inode, MAY_WRITE)
        self.credentials.strip(inode)
        self.fs.truncate(inode, size, inode.path)

    def set_umask(self, mask: int) -> int:
        """Set the file mode creation mask, as umask(2) does. Returns the previous one."""
        before, self.umask = self.umask, mask & 0o777
        return before
