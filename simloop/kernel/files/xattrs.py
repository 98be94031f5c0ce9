"""Extended attributes of files (xattr(7)), and the system calls on them."""

from __future__ import annotations

import errno
import os
import stat as _stat

from simloop.kernel.errors import fail
from simloop.kernel.files.attributes import AttributeCalls
from simloop.kernel.files.contents import PAGE
from simloop.kernel.files.inodes import Directory, Inode, Regular
from simloop.kernel.files.journal import Change
from simloop.kernel.files.resolve import MAY_READ, MAY_WRITE

# XATTR_NAME_MAX and XATTR_SIZE_MAX in linux/limits.h.
_NAME_MAX, _SIZE_MAX = 255, 65536


class XattrChange(Change):
    """Change of the extended attributes of an inode, as part of a journalled operation."""

    __slots__ = ("_before",)

    def __init__(self, inode: Inode) -> None:
        """Save the current extended attributes. Must be called before they are changed."""
        super().__init__(inode)
        self._before = inode.xattrs

    def revert(self) -> None:
        self.inode.xattrs = self._before


class XattrCalls(AttributeCalls):
    """System calls of one process on extended attributes. Those of real files are not visible, since they belong to the
    users and security modules of the real machine."""

    def getxattr(self, path: str | int, name: str, *, follow: bool = True) -> bytes:
        """Return the value of an attribute, as getxattr(2), lgetxattr(2) and fgetxattr(2) do."""
        inode = self._xattr_inode(path, follow, name)
        self._may_xattr(inode, name, MAY_READ)
        try:
            return inode.xattrs[name]
        except KeyError:
            raise fail(errno.ENODATA) from None

    def setxattr(self, path: str | int, name: str, value: bytes, flags: int = 0, *, follow: bool = True) -> None:
        """Set the value of an attribute, as setxattr(2), lsetxattr(2) and fsetxattr(2) do."""
        if flags & ~(os.XATTR_CREATE | os.XATTR_REPLACE):
            raise fail(errno.EINVAL)
        inode = self._xattr_inode(path, follow, name)
        if len(value) > _SIZE_MAX:
            raise fail(errno.E2BIG)
        self._may_xattr(inode, name, MAY_WRITE)
        if flags & os.XATTR_REPLACE and name not in inode.xattrs:
            raise fail(errno.ENODATA)
        if flags & os.XATTR_CREATE and name in inode.xattrs:
            raise fail(errno.EEXIST)
        after = inode.xattrs | {name: value}
        # "the total bytes used by the names and values of all of a file's extended attributes must fit in a single
        # filesystem block" (xattr(7), of ext4).
        if sum(len(os.fsencode(name)) + len(value) for name, value in after.items()) > PAGE:
            raise fail(errno.ENOSPC)
        self.fs.note(XattrChange(inode))
        inode.xattrs = after
        inode.changed()

    def removexattr(self, path: str | int, name: str, *, follow: bool = True) -> None:
        """Remove an attribute, as removexattr(2), lremovexattr(2) and fremovexattr(2) do."""
        inode = self._xattr_inode(path, follow, name)
        self._may_xattr(inode, name, MAY_WRITE)
        if name not in inode.xattrs:
            raise fail(errno.ENODATA)
        self.fs.note(XattrChange(inode))
        inode.xattrs = {other: value for other, value in inode.xattrs.items() if other != name}
        inode.changed()

    def listxattr(self, path: str | int, *, follow: bool = True) -> list[str]:
        """Return the names of the attributes, as listxattr(2), llistxattr(2) and flistxattr(2) do."""
        inode = self._xattr_inode(path, follow)
        # Only root is told of trusted attributes (ext4_xattr_trusted_list()).
        return [name for name in inode.xattrs if not name.startswith("trusted.") or not self.credentials.uid]

    def _xattr_inode(self, path: str | int, follow: bool, name: str | None = None) -> Inode:
        if name is not None and not 0 < len(os.fsencode(name)) <= _NAME_MAX:
            raise fail(errno.ERANGE)
        if isinstance(path, int) and self.description(path).flags & os.O_PATH:
            raise fail(errno.EBADF)
        return self._inode("stat", path, None, follow)

    def _may_xattr(self, inode: Inode, name: str, want: int) -> None:
        """Raise `OSError` if access is not permitted, as xattr_permission() and xattr_resolve_name() in fs/xattr.c do.
        `want` is `MAY_READ` or `MAY_WRITE`."""
        writing, credentials = want == MAY_WRITE, self.credentials
        space, _, rest = name.partition(".")
        if space == "trusted" and credentials.uid:
            raise fail(errno.EPERM if writing else errno.ENODATA)
        if space == "user":
            if not isinstance(inode, (Regular, Directory)):
                raise fail(errno.EPERM if writing else errno.ENODATA)
            if writing and isinstance(inode, Directory) and inode.mode & _stat.S_ISVTX and not credentials.owns(inode):
                raise fail(errno.EPERM)
        if space in ("user", "trusted"):
            credentials.check(inode, want)
        elif space == "security" and writing and credentials.uid:
            raise fail(errno.EPERM)  # cap_inode_setxattr() in security/commoncap.c
        # No access control lists: the mount option noacl.
        if "." not in name or space not in ("user", "trusted", "security"):
            raise fail(errno.EOPNOTSUPP)
        if not rest:
            raise fail(errno.EINVAL)
