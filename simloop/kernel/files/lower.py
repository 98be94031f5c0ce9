"""Lower layer of the overlay file system: the real files, which are only read, and whose contents are cached.

The functions of the module `posix` are saved at import, so that no shim intercepts these calls.
"""

from __future__ import annotations

import errno
import os
import posix

_lstat = posix.lstat
_listdir = posix.listdir
_readlink = posix.readlink
_open = posix.open
_read = posix.read
_close = posix.close
_getcwd = posix.getcwd
_READ_SIZE = 1 << 20


class LowerLayer:
    """Read-only lower layer of the overlay file system: the real files. All hosts of a world share it, and contents are
    read once for all of them."""

    __slots__ = ("_contents",)

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def stat(self, path: str) -> os.stat_result | None:
        """Return the attributes of a real file, as lstat(2) does; None if there is no such file."""
        try:
            return _lstat(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise OSError(error.errno, error.strerror) from None

    def names(self, path: str) -> list[str]:
        """Return the names in a real directory, sorted, since their real order differs from machine to machine."""
        try:
            return sorted(_listdir(path))
        except OSError as error:
            raise OSError(error.errno, error.strerror) from None

    def target(self, path: str) -> str:
        """Return the target of a real symbolic link."""
        return _readlink(path)

    def contents(self, path: str) -> bytes:
        """Return the contents of a real file."""
        data = self._contents.get(path)
        if data is None:
            try:
                data = self._contents[path] = _contents(path)
            except OSError as error:
                raise OSError(error.errno, error.strerror) from None
        return data


def _contents(path: str) -> bytes:
    # O_NONBLOCK: should the file have become a fifo meanwhile, nobody waits for its writer.
    fd = _open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        pieces = []
        while piece := _read(fd, _READ_SIZE):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        _close(fd)


def real_cwd() -> str:
    """Return the working directory of the real process; "/" if it was removed."""
    try:
        return _getcwd()
    except OSError:
        return "/"
