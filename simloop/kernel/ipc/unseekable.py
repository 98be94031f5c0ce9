"""Base class of files that have no position, such as pipes, sockets, eventfds and timerfds."""

from __future__ import annotations

import errno
from typing import NoReturn

from simloop.kernel.descriptors import File
from simloop.kernel.errors import fail


class Unseekable(File):
    """Base class of non-seekable files. Where Linux would block, `read` and `write` fail with EAGAIN instead; their
    callers wait."""

    def __init__(self, flags: int) -> None:
        super().__init__()
        #: File status flags, as F_GETFL returns them.
        self.flags = flags

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes, as read(2) does."""
        raise NotImplementedError

    def write(self, data: memoryview) -> int:
        """Write `data`, as write(2) does. Returns the number of bytes written."""
        raise NotImplementedError

    # What files can do and these cannot.

    def pread(self, count: int, offset: int) -> NoReturn:
        # ksys_pread64() looks at the offset first.
        raise fail(errno.EINVAL if offset < 0 else errno.ESPIPE)

    def pwrite(self, data: memoryview, offset: int) -> NoReturn:
        raise fail(errno.EINVAL if offset < 0 else errno.ESPIPE)

    def lseek(self, offset: int, whence: int) -> NoReturn:
        raise fail(errno.ESPIPE)

    def allocate(self, start: int, length: int) -> NoReturn:
        raise fail(errno.EINVAL if start < 0 or length <= 0 else errno.ESPIPE)

    def truncate(self, size: int) -> NoReturn:
        raise fail(errno.EINVAL)

    def sync(self, *, data_only: bool = False) -> NoReturn:
        raise fail(errno.EINVAL)
