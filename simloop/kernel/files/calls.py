"""System calls of one process that take paths: they create, open, find, rename and remove files.

Results and errnos are those of Linux; where the order of checks matters, comments name the function in fs/namei.c or
fs/open.c of Linux 6. The errors carry no file name, which callers add.
"""

from __future__ import annotations

import errno
import os
import stat as _stat
from typing import NamedTuple, NoReturn

from simloop.kernel.errors import fail
from simloop.kernel.files import proc
from simloop.kernel.files.contents import PAGE
from simloop.kernel.files.description import Description
from simloop.kernel.files.devices import Fifo, UnsimulatedFileError, opened
from simloop.kernel.files.inodes import Directory, Inode, Regular, Special, Symlink
from simloop.kernel.files.journal import EntryChange, Forced
from simloop.kernel.files.resolve import MAY_EXEC, MAY_READ, MAY_WRITE, PATH_MAX, Kind, Last
from simloop.kernel.files.xattrs import XattrCalls

_O_TMPFILE = os.O_TMPFILE
# MFD_NAME_MAX_LEN in mm/memfd.c.
_MEMORY_NAME_MAX = 249
_PATH_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    """Directory entry: a name, its inode number (d_ino) and file type (d_type), see readdir(3)."""

    name: str
    ino: int
    kind: int


class FileCalls(XattrCalls):
    """System calls of one process that create, open, find, rename and remove files."""

    # --- opening --------------------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> Description | Fifo:
        """Open a file, as openat(2) does, and return its open file description. The caller allocates a descriptor for
        it, and for a fifo waits until the other end is opened.

        O_TMPFILE fails with EOPNOTSUPP, as on file systems that do not support it; programs have a fallback for that.
        """
        self._check("open", path, dir_fd)
        if flags & os.O_PATH:
            flags &= _PATH_FLAGS
        base, walk = self._base(dir_fd), self._walk()
        if flags & _O_TMPFILE == _O_TMPFILE:
            self._refuse_unnamed(walk.inode(path, base), flags)
        if flags & os.O_CREAT and flags & os.O_DIRECTORY:
            raise fail(errno.EINVAL)  # build_open_flags(), since Linux 6.4
        making = bool(flags & os.O_CREAT)
        # O_EXCL: "if pathname is a symbolic link, then open() fails regardless of where it points" (open(2)).
        follow = not flags & os.O_NOFOLLOW and not (making and flags & os.O_EXCL)
        last, inode = walk.target(walk.parent(path, base), follow, making=making)
        if inode is None:
            if not making:
                raise fail(errno.ENOENT)
            made = self._make(last, Regular(self.fs, _stat.S_IFREG | (mode & 0o7777 & ~self.umask), last.directory.dev))
            return opened(self.fs, made, flags, made.path, self.credentials)
        if making and flags & os.O_EXCL:
            raise fail(errno.EEXIST)
        self._may_open(inode, flags, must_be_directory=last.slash or bool(flags & os.O_DIRECTORY))
        if isinstance(inode, Regular) and inode.of_proc is not None and not flags & (os.O_ACCMODE | os.O_PATH):
            said = proc.text(inode.of_proc, self.fs, self._descriptors)
            if said is not None:
                path, mode, dev = inode.path, inode.mode, inode.dev
                inode = Regular(self.fs, mode, dev)
                inode.say(said.encode())
                return Description(self.fs, inode, flags, path, self.credentials)
        description = opened(self.fs, inode, flags, inode.path, self.credentials)
        if isinstance(inode, Regular) and not flags & os.O_PATH:
            try:
                if flags & os.O_TRUNC:
                    self.credentials.strip(inode)
                    self.fs.truncate(inode, 0, inode.path)
                else:
                    inode.contents  # noqa: B018  the lower layer is read now, or fails now
            except OSError:
                description.close()
                raise
        return description

    def memory(self, name: str) -> Description:
        """Create an anonymous file in no directory, as memfd_create(2) does, and return its open file description."""
        if len(os.fsencode(name)) > _MEMORY_NAME_MAX:
            raise fail(errno.EINVAL)
        inode = Regular(self.fs, _stat.S_IFREG | 0o777, self.fs.root.dev)
        inode.uid, inode.gid = self.credentials.uid, self.credentials.gid
        return Description(self.fs, inode, os.O_RDWR, f"/memfd:{name} (deleted)", self.credentials)

    def _may_open(self, inode: Inode, flags: int, *, must_be_directory: bool) -> None:
        """Raise `OSError` if the process may not open the file, as do_open() and may_open() do."""
        directory = isinstance(inode, Directory)
        if flags & os.O_CREAT and directory:
            raise fail(errno.EISDIR)
        if must_be_directory and not directory:
            raise fail(errno.ENOTDIR)
        if flags & os.O_PATH:
            return
        if isinstance(inode, Symlink):
            raise fail(errno.ELOOP)
        access = flags & os.O_ACCMODE
        want = MAY_READ if access in (os.O_RDONLY, os.O_RDWR) else 0
        if access in (os.O_WRONLY, os.O_RDWR) or flags & os.O_TRUNC:
            if directory:
                raise fail(errno.EISDIR)
            want |= MAY_WRITE
        self.credentials.check(inode, want)

    def _refuse_unnamed(self, inode: Inode, flags: int) -> NoReturn:
        if flags & os.O_ACCMODE == os.O_RDONLY:
            raise fail(errno.EINVAL)
        raise fail(errno.EOPNOTSUPP if isinstance(inode, Directory) else errno.ENOTDIR)

    # --- making ---------------------------------------------------------------------------------------

    def _create(self, path: str, dir_fd: int | None, *, directory: bool = False) -> Last:
        """Return the directory and name at which something new can be created, as filename_create() does. Raises
        `OSError` if something exists there."""
        walk = self._walk()
        last = walk.parent(path, self._base(dir_fd))
        if last.kind is not Kind.NAME or walk.step(last) is not None:
            raise fail(errno.EEXIST)
        if last.slash and not directory:
            raise fail(errno.ENOENT)
        return last

    def _may_create(self, directory: Directory) -> None:
        """Raise `OSError` if the process may not create a name in `directory`, as may_create() does."""
        if directory.dead:
            raise fail(errno.ENOENT)
        self.credentials.check(directory, MAY_WRITE | MAY_EXEC)

    def _make(self, last: Last, inode: Inode) -> Inode:
        """Add a directory entry for a new inode, whose owner is set as inode_init_owner() does. Returns the inode."""
        directory = last.directory
        self._may_create(directory)
        inode.uid = self.credentials.uid
        inode.gid = self.credentials.gid
        if directory.mode & _stat.S_ISGID:
            inode.gid = directory.gid
            if isinstance(inode, Directory):
                inode.mode |= _stat.S_ISGID
        self._link(directory, last.name, inode)
        return inode

    def _link(self, directory: Directory, name: str, inode: Inode) -> None:
        self.fs.note(EntryChange(directory, name, None, inode))
        directory.set(name, inode)
        directory.modified()

    def mkdir(self, path: str, mode: int = 0o777, dir_fd: int | None = None) -> None:
        """Create a directory, as mkdirat(2) does."""
        self._check("mkdir", path, dir_fd)
        last = self._create(path, dir_fd, directory=True)
        self._may_create(last.directory)
        self.fs.disk.need(PAGE, self.fs.used())
        # Of the special bits only the sticky one counts (mkdir(2)).
        bits = mode & 0o1777 & ~self.umask
        self._make(last, Directory(self.fs, _stat.S_IFDIR | bits, last.directory.dev, last.directory))

    def mknod(self, path: str, mode: int = 0o600, device: int = 0, dir_fd: int | None = None) -> None:
        """Create a fifo, a device file or a regular file, as mknodat(2) does."""
        self._check("open", path, dir_fd)
        kind = _stat.S_IFMT(mode) or _stat.S_IFREG
        if kind not in _NODES:
            raise fail(errno.EPERM if kind == _stat.S_IFDIR else errno.EINVAL)  # may_mknod()
        last = self._create(path, dir_fd)
        self._may_create(last.directory)
        if kind in (_stat.S_IFCHR, _stat.S_IFBLK) and self.credentials.uid:
            raise fail(errno.EPERM)  # CAP_MKNOD
        mode = kind | (mode & 0o7777 & ~self.umask)
        if kind == _stat.S_IFREG:
            self._make(last, Regular(self.fs, mode, last.directory.dev))
            return
        node = Special(self.fs, mode, last.directory.dev)
        if kind in (_stat.S_IFCHR, _stat.S_IFBLK):
            node.rdev = device
        self._make(last, node)

    def make_socket(self, path: str, mode: int, *, only_check: bool = False) -> Special | None:
        """Create the file of a unix socket, as unix_bind_bsd() does, and return its inode. If `only_check` is True,
        only check if that is possible, and return None."""
        self._check("open", path, None)
        try:
            last = self._create(path, None)
        except FileExistsError:
            raise fail(errno.EADDRINUSE) from None
        self._may_create(last.directory)
        if only_check:
            return None
        node = Special(self.fs, _stat.S_IFSOCK | (mode & ~self.umask), last.directory.dev)
        self._make(last, node)
        return node

    def find_socket(self, path: str) -> Inode:
        """Return the inode of the unix socket at `path`, to connect to it, as unix_find_bsd() does."""
        inode = self._inode("open", path, None, True)
        self.credentials.check(inode, MAY_WRITE)
        if not _stat.S_ISSOCK(inode.mode):
            raise fail(errno.ECONNREFUSED)
        if isinstance(inode, Special) and inode.real:
            raise UnsimulatedFileError
        return inode

    def symlink(self, target: str, path: str, dir_fd: int | None = None) -> None:
        """Create a symbolic link, as symlinkat(2) does."""
        self._check("symlink", path, dir_fd)
        if not target:
            raise fail(errno.ENOENT)
        if len(os.fsencode(target)) >= PATH_MAX:
            raise fail(errno.ENAMETOOLONG)
        last = self._create(path, dir_fd)
        self._may_create(last.directory)
        self._make(last, Symlink(self.fs, _stat.S_IFLNK | 0o777, last.directory.dev, target))

    def link(
        self,
        source: str,
        path: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow: bool = False,
    ) -> None:
        """Create a hard link, as linkat(2) does; `follow` is AT_SYMLINK_FOLLOW."""
        self._check("link", source, src_dir_fd)
        self._check("link", path, dst_dir_fd)
        inode = self._walk().inode(source, self._base(src_dir_fd), follow)
        last = self._create(path, dst_dir_fd)
        if inode.dev != last.directory.dev:
            raise fail(errno.EXDEV)
        if not self._may_link(inode):
            raise fail(errno.EPERM)
        self._may_create(last.directory)
        if isinstance(inode, Directory):
            raise fail(errno.EPERM)
        self._link(last.directory, last.name, inode)
        inode.changed()

    def _may_link(self, inode: Inode) -> bool:
        """Return True if the process may create a hard link to this inode, as may_linkat() does with
        fs.protected_hardlinks set (proc_sys_fs(5)), which is usual: nobody may link to others' files that they could
        not write."""
        mode = inode.mode
        strange = mode & _stat.S_ISUID or mode & (_stat.S_ISGID | _stat.S_IXGRP) == _stat.S_ISGID | _stat.S_IXGRP
        return self.credentials.owns(inode) or (
            isinstance(inode, Regular) and not strange and self.credentials.allowed(inode, MAY_READ | MAY_WRITE)
        )

    # --- removing -------------------------------------------------------------------------------------

    def _may_delete(self, directory: Directory, inode: Inode, as_directory: bool) -> None:
        """Raise `OSError` if the process may not remove the name of `inode` from `directory`, as may_delete() does."""
        credentials = self.credentials
        credentials.check(directory, MAY_WRITE | MAY_EXEC)
        if directory.mode & _stat.S_ISVTX and not credentials.owns(directory) and not credentials.owns(inode):
            raise fail(errno.EPERM)  # check_sticky()
        if as_directory and not isinstance(inode, Directory):
            raise fail(errno.ENOTDIR)
        if not as_directory and isinstance(inode, Directory):
            raise fail(errno.EISDIR)

    def unlink(self, path: str, dir_fd: int | None = None) -> None:
        """Remove a name, as unlinkat(2) does without AT_REMOVEDIR."""
        self._check("unlink", path, dir_fd)
        walk = self._walk()
        last = walk.parent(path, self._base(dir_fd))
        if last.kind is not Kind.NAME:
            raise fail(errno.EISDIR)
        inode = walk.step(last)
        if inode is None:
            raise fail(errno.ENOENT)
        if last.slash:
            raise fail(errno.EISDIR if isinstance(inode, Directory) else errno.ENOTDIR)
        directory = last.directory
        self._may_delete(directory, inode, False)
        self.fs.note(EntryChange(directory, last.name, inode, None))
        directory.set(last.name, None)
        directory.modified()
        self._lost_name(inode)

    def _lost_name(self, inode: Inode) -> None:
        inode.changed()
        if isinstance(inode, Regular) and inode.nlink <= 0 and not inode.opens:
            self.fs.released(inode)

    def rmdir(self, path: str, dir_fd: int | None = None) -> None:
        """Remove an empty directory, as rmdir(2) does."""
        self._check("rmdir", path, dir_fd)
        walk = self._walk()
        last = walk.parent(path, self._base(dir_fd))
        if last.kind is not Kind.NAME:
            raise fail(_RMDIR_DOTS[last.kind])
        inode = walk.step(last)
        if inode is None:
            raise fail(errno.ENOENT)
        self._may_delete(last.directory, inode, True)
        assert isinstance(inode, Directory)
        if not inode.is_empty():
            raise fail(errno.ENOTEMPTY)
        self.fs.note(EntryChange(last.directory, last.name, inode, None))
        last.directory.set(last.name, None)
        inode.dead = True
        inode.changed()
        last.directory.modified()

    def rename(self, source: str, path: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        """Rename a file from `source` to `path`, as renameat(2) does; a file at `path` is replaced."""
        self._check("rename", source, src_dir_fd)
        self._check("rename", path, dst_dir_fd)
        walk = self._walk()
        old = walk.parent(source, self._base(src_dir_fd))
        new = walk.parent(path, self._base(dst_dir_fd))
        if old.directory.dev != new.directory.dev:
            raise fail(errno.EXDEV)
        if old.kind is not Kind.NAME or new.kind is not Kind.NAME:
            raise fail(errno.EBUSY)
        inode = walk.step(old)
        if inode is None:
            raise fail(errno.ENOENT)
        target = walk.step(new)
        directory = isinstance(inode, Directory)
        if not directory and (old.slash or new.slash):
            raise fail(errno.ENOTDIR)
        if isinstance(inode, Directory) and inode.contains(new.directory):
            raise fail(errno.EINVAL)
        if isinstance(target, Directory) and target.contains(old.directory):
            raise fail(errno.ENOTEMPTY)
        if inode is target:
            return
        self._may_delete(old.directory, inode, directory)
        if target is None:
            self._may_create(new.directory)
        else:
            self._may_delete(new.directory, target, directory)
        if directory and old.directory is not new.directory:
            self.credentials.check(inode, MAY_WRITE)  # its ".." changes
        if isinstance(target, Directory) and not target.is_empty():
            raise fail(errno.ENOTEMPTY)
        self._move(old, new, inode, target)

    def _move(self, old: Last, new: Last, inode: Inode, target: Inode | None) -> None:
        forced = None
        if (
            isinstance(inode, Regular)
            and isinstance(target, Regular)
            and inode.writeback.dirty
            and self.fs.disk.journals
        ):
            # ext4_rename() calls ext4_alloc_da_blocks() where something is replaced.
            forced = Forced(inode, inode.writeback.dirty.copy(), inode.contents.size)
        self.fs.note(
            EntryChange(old.directory, old.name, inode, None),
            EntryChange(new.directory, new.name, target, inode),
            forced=forced,
        )
        old.directory.set(old.name, None)
        new.directory.set(new.name, inode)
        inode.changed()
        for directory in (old.directory, new.directory):
            directory.modified()
        if isinstance(target, Directory):
            target.dead = True
            target.changed()
        elif target is not None:
            self._lost_name(target)

    # --- looking --------------------------------------------------------------------------------------

    def readlink(self, path: str, dir_fd: int | None = None) -> str:
        """Return the target of a symbolic link, as readlinkat(2) does."""
        inode = self._inode("stat", path, dir_fd, False)
        if not isinstance(inode, Symlink):
            raise fail(errno.EINVAL)
        home = inode.home
        if home is not None and home[0].of_proc is not None:
            proc.check(f"{home[0].of_proc}/{home[1]}")
        inode.used()
        return inode.target

    def listdir(self, path: str | int, dir_fd: int | None = None) -> list[str]:
        """Return the names in a directory, given by path or descriptor, sorted and without ``.`` and ``..``."""
        return self.directory(path, dir_fd).names()

    def entries(self, path: str | int) -> list[Entry]:
        """Return the entries of a directory, given by path or descriptor, as readdir(3) does."""
        directory = self.directory(path)
        found = ((name, directory.get(name)) for name in directory.names())
        return [Entry(name, inode.ino, inode.kind) for name, inode in found if inode is not None]

    def directory(self, path: str | int, dir_fd: int | None = None) -> Directory:
        """Return the inode of a directory, given by path or descriptor, once it is sure that it is one and that the
        process may list it."""
        if isinstance(path, int):
            if not isinstance(self.opened(path), Directory):
                raise fail(errno.ENOTDIR)
            description = self.description(path)
            self.fs.disk.check("listdir", description.path)
            inode, allowed = description.inode, description.readable
            # As os.listdir and os.scandir leave it, which wind the directory back.
            if isinstance(inode, Directory) and allowed:
                description.offset = 0
        else:
            inode, allowed = self._inode("listdir", path, dir_fd, True), True
        if not isinstance(inode, Directory):
            raise fail(errno.ENOTDIR)
        if not allowed:
            raise fail(errno.EBADF)
        if not isinstance(path, int):
            self.credentials.check(inode, MAY_READ)
        if inode.of_proc is not None:
            proc.check(f"{inode.of_proc}/")
        inode.used()
        return inode

    # --- the working directory ------------------------------------------------------------------------

    def chdir(self, path: str) -> None:
        """Change the working directory, as chdir(2) does."""
        self._enter(self._inode("stat", path, None, True))

    def fchdir(self, fd: int) -> None:
        """Change the working directory to the directory that a descriptor refers to, as fchdir(2) does."""
        self._enter(self.opened(fd))

    def _enter(self, inode: Inode) -> None:
        if not isinstance(inode, Directory):
            raise fail(errno.ENOTDIR)
        self.credentials.check(inode, MAY_EXEC)
        self.cwd = inode

    def getcwd(self) -> str:
        """Return the path of the working directory, as getcwd(2) does."""
        if self.cwd.dead:
            raise fail(errno.ENOENT)
        return self.cwd.path


_NODES = (_stat.S_IFREG, _stat.S_IFCHR, _stat.S_IFBLK, _stat.S_IFIFO, _stat.S_IFSOCK)
_RMDIR_DOTS = {Kind.DOT: errno.EINVAL, Kind.DOTDOT: errno.ENOTEMPTY, Kind.ROOT: errno.EBUSY}
