"""Path resolution: finds the inode for a path, by the rules of path_resolution(7)."""

from __future__ import annotations

import errno
import os
import posix
import stat as _stat
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from simloop.kernel.errors import fail
from simloop.kernel.files.inodes import Directory, Inode, Symlink

# From limits.h and namei.h of Linux; a path's length counts the byte that ends it.
NAME_MAX = 255
PATH_MAX = 4096
LINKS_MAX = 40

MAY_EXEC, MAY_WRITE, MAY_READ = 1, 2, 4


class Credentials(NamedTuple):
    """Credentials of a process: its user id and its group ids (credentials(7))."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()

    @staticmethod
    def real() -> Credentials:
        """Return the credentials of the real process."""
        return Credentials(posix.geteuid(), posix.getegid(), tuple(posix.getgroups()))

    def owns(self, inode: Inode) -> bool:
        """Return True if the process may do what is reserved to the owner of the inode, such as chmod(2): its user is
        the owner, or root."""
        return self.uid in (0, inode.uid)

    def allowed(self, inode: Inode, want: int) -> bool:
        """Return True if access is permitted, as generic_permission() in fs/namei.c decides. `want` is a bitwise OR of
        `MAY_READ`, `MAY_WRITE` and `MAY_EXEC`."""
        mode = inode.mode
        if self.uid == 0:
            # Root may do anything but run what nobody may run (CAP_DAC_OVERRIDE in capabilities(7)).
            return not want & MAY_EXEC or isinstance(inode, Directory) or bool(mode & 0o111)
        if self.uid == inode.uid:
            mode >>= 6
        elif inode.gid == self.gid or inode.gid in self.groups:
            mode >>= 3
        return not want & ~mode & 7

    def strip(self, inode: Inode) -> None:
        """Clear the set-user-ID and set-group-ID bits of a file whose data is changed by anyone but root
        (setattr_should_drop_suidgid() in fs/attr.c)."""
        if inode.mode & (_stat.S_ISUID | _stat.S_ISGID) and self.uid:
            inode.mode &= ~_stat.S_ISUID
            if inode.mode & _stat.S_IXGRP or (inode.gid != self.gid and inode.gid not in self.groups):
                inode.mode &= ~_stat.S_ISGID

    def check(self, inode: Inode, want: int) -> None:
        """Raise `OSError` (EACCES) if access is not permitted. `want` is a bitwise OR of `MAY_READ`, `MAY_WRITE` and
        `MAY_EXEC`."""
        if not self.allowed(inode, want):
            raise fail(errno.EACCES)


class Kind(Enum):
    """Kind of the last component of a path: a name, ``.``, ``..``, or none since the path is the root directory."""

    NAME = auto()
    DOT = auto()
    DOTDOT = auto()
    ROOT = auto()


_DOTS = {".": Kind.DOT, "..": Kind.DOTDOT}


class Last(NamedTuple):
    """Last component of a path, which was not looked up yet, and the directory that the path before it leads to."""

    directory: Directory
    name: str
    kind: Kind
    #: True if the path ends in a slash, and so has to be a directory.
    slash: bool


class Walk:
    """Path resolution for one system call, with the credentials of its process. The limit on the number of symbolic
    links applies to each path of the call."""

    __slots__ = ("_credentials", "_links", "_root")

    def __init__(self, root: Directory, credentials: Credentials) -> None:
        self._root = root
        self._credentials = credentials
        self._links = 0

    def parent(self, path: str, base: Callable[[], Directory]) -> Last:
        """Resolve all but the last component of a path. ``base()`` returns the directory in which relative paths start;
        it is not called for absolute ones."""
        self._links = 0
        if not path:
            raise fail(errno.ENOENT)
        # A cheap test first: no name takes more than 4 bytes for a character, mostly 1.
        if len(path) * 4 >= PATH_MAX and len(os.fsencode(path)) >= PATH_MAX:
            raise fail(errno.ENAMETOOLONG)
        return self._parent(path, self._root if path[0] == "/" else base())

    def _parent(self, path: str, base: Directory) -> Last:
        if path[0] == "/":
            base = self._root
        parts = [part for part in path.split("/") if part]
        if not parts:
            return Last(self._root, "", Kind.ROOT, True)
        name = parts.pop()
        for part in parts:
            base = self._enter(base, part)
        self._credentials.check(base, MAY_EXEC)
        return Last(base, name, _DOTS.get(name, Kind.NAME), path[-1] == "/")

    def _enter(self, directory: Directory, name: str) -> Directory:
        self._credentials.check(directory, MAY_EXEC)
        if name == ".":
            return directory
        if name == "..":
            return directory.parent
        inode = self.look(directory, name)
        if isinstance(inode, Symlink):
            inode = self._finish(self._follow(inode, directory), True)
        if inode is None:
            raise fail(errno.ENOENT)
        if not isinstance(inode, Directory):
            raise fail(errno.ENOTDIR)
        return inode

    @staticmethod
    def look(directory: Directory, name: str) -> Inode | None:
        """Return the inode with this name in `directory`, or None if there is none."""
        if len(name) * 4 > NAME_MAX and len(os.fsencode(name)) > NAME_MAX:
            raise fail(errno.ENAMETOOLONG)
        return directory.get(name)

    def _follow(self, link: Symlink, directory: Directory) -> Last:
        self._links += 1
        if self._links > LINKS_MAX:
            raise fail(errno.ELOOP)
        link.used()
        return self._parent(link.target, directory)

    def step(self, last: Last) -> Inode | None:
        """Return the inode of the last component of a path, or None if there is none. A symbolic link is not
        followed."""
        if last.kind is Kind.NAME:
            return self.look(last.directory, last.name)
        return last.directory.parent if last.kind is Kind.DOTDOT else last.directory

    def target(self, last: Last, follow: bool, *, making: bool = False) -> tuple[Last, Inode | None]:
        """Follow symbolic links in the last component of a path, if `follow` is True or the path ends in a slash.
        Return the last component of the path to which they lead, with its inode, or None in the place of the inode if
        there is nothing of that name. `making` is True for open(2) with O_CREAT, for which a slash at the end is an
        error (EISDIR)."""
        slash = False
        while True:
            slash = slash or last.slash
            if making and slash and last.kind is Kind.NAME:
                raise fail(errno.EISDIR)  # open_last_lookups() in fs/namei.c
            inode = self.step(last)
            if not isinstance(inode, Symlink) or not (follow or slash):
                return last._replace(slash=slash), inode
            last = self._follow(inode, last.directory)

    def _finish(self, last: Last, follow: bool) -> Inode:
        last, inode = self.target(last, follow)
        if inode is None:
            raise fail(errno.ENOENT)
        if last.slash and not isinstance(inode, Directory):
            raise fail(errno.ENOTDIR)
        return inode

    def inode(self, path: str, base: Callable[[], Directory], follow: bool = True) -> Inode:
        """Return the inode for a path. Raises `OSError` (ENOENT) if there is none. ``base()`` returns the directory in
        which relative paths start."""
        return self._finish(self.parent(path, base), follow)
