"""Shims of `open` and of raw files (`io.FileIO`), over the files of the current simulated process.

Only the raw file is simulated; buffered and text files on top of it are the real classes of `io`.
"""

from __future__ import annotations

import _io
import _pyio  # type: ignore[import-not-found]
import builtins
import errno
import functools
import io
import os
import stat as _stat
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simloop.errors import WorldError
from simloop.kernel.errors import fail
from simloop.kernel.files.description import Description
from simloop.kernel.ipc.pipes import PAGE
from simloop.kernel.ipc.unseekable import Unseekable
from simloop.kernel.process.process import ProcessGone
from simloop.shims.fileio import real_FileIO
from simloop.shims.late import real
from simloop.shims.os.descriptors import view_of
from simloop.shims.os.paths import charge, current_world, named, ours
from simloop.shims.os.paths import open as open_path
from simloop.shims.patch import builtin
from simloop.shims.waiting import read_unless_empty, write_unless_full
from simloop.sources import level_of_caller
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

real_open = real(__name__, io)["open"]
# What is read at once where the size of a file says nothing.
_READ_SIZE = 1 << 16


class SimFileIO(real_FileIO):
    """Raw file of the current simulated process, in place of `io.FileIO`.

    It is a subclass in name only: libraries register handlers for raw files under the class `io.FileIO` before any run,
    as aiofiles does with `functools.singledispatch`. Nothing of the base class is used, and its descriptor is never
    set.
    """

    _fd = -1
    # In the class, too: since Python 3.14 the base class has it read-only.
    _blksize = 0
    _seekable: bool | None = None
    closed: Any = io.RawIOBase.closed

    def __init__(
        self,
        file: Any,
        mode: str = "r",
        closefd: bool = True,
        opener: Callable[[Any, int], int] | None = None,
    ) -> None:
        world = _files_world()
        if world is None:
            raise WorldError("a simulated file can only be opened inside a run")
        if self._fd >= 0:
            self.close()
        flags = self._parse(mode)
        self._world = world
        self._closefd = closefd
        self.name = file
        if isinstance(file, int):
            if file < 0:
                raise ValueError("negative file descriptor")
            fd = int(file)
        else:
            if not closefd:
                raise ValueError("Cannot use closefd=False with file name")
            fd = self._opened(file, flags, opener)
        self._process = world.current
        found = self._process.files.get(fd)
        try:
            if isinstance(found, Description):
                self._file: Description | None = found
                facts = found.stat()
                if _stat.S_ISDIR(facts.mode):
                    error = fail(errno.EISDIR)
                    error.filename = file
                    raise error
                self._blksize = facts.blksize
            elif isinstance(found, Unseekable):
                self._file, self._blksize = None, PAGE
            else:
                raise fail(errno.EBADF)
        except OSError:
            if not isinstance(file, int) and isinstance(found, Description):
                self._process.close(fd)
            raise
        self._fd = fd
        self._process.holders[fd] = weakref.ref(self)
        self._fs = world.files().fs
        if self._appending and self._file is not None:
            self._call(self._file.lseek, 0, os.SEEK_END)

    def _opened(self, file: Any, flags: int, opener: Callable[[Any, int], int] | None) -> int:
        if opener is None:
            return open_path(file, flags, 0o666)
        fd = opener(file, flags)
        if not isinstance(fd, int):
            raise TypeError("expected integer from opener")
        if fd < 0:
            raise ValueError(f"opener returned {fd}")
        return fd

    def _parse(self, mode: str) -> int:
        if not isinstance(mode, str):
            raise TypeError(f"FileIO() argument 'mode' must be str, not {type(mode).__name__}")
        flags, self._created, self._appending, self._reads, self._writes = _raw_mode(mode)
        return flags

    def _call(self, call: Callable[..., Any], *args: Any) -> Any:
        # As `syscall`, for the hot path: nothing here has a name to put into an error.
        try:
            return call(*args)
        finally:
            if self._fs.disk.deferred_ns:
                charge(self._world, self._fs)

    def _checked(self) -> Description | Unseekable:
        """Return the open file that the descriptor refers to now: the program may have closed it, or opened another
        file there."""
        if self._fd < 0:
            raise ValueError("I/O operation on closed file")
        found = self._process.files.get(self._fd)
        if not self._process.alive:
            raise ProcessGone
        if isinstance(found, Description):
            self._file = found
        elif isinstance(found, Unseekable):
            self._file = None
        else:
            raise fail(errno.EBADF)
        return found

    def _checked_reads(self) -> Description | Unseekable:
        found = self._checked()
        if not self._reads:
            raise io.UnsupportedOperation("File not open for reading")
        return found

    def _checked_writes(self) -> Description | Unseekable:
        found = self._checked()
        if not self._writes:
            raise io.UnsupportedOperation("File not open for writing")
        return found

    # --- data -----------------------------------------------------------------------------------------

    def readinto(self, buffer: Any, /) -> int | None:
        active.world()
        file = self._file
        if file is None or self._process.files.get(self._fd) is not file or not self._reads:
            found = self._checked_reads()
            if isinstance(found, Unseekable):
                view = view_of(buffer)
                data = read_unless_empty(self._world, found, len(view))
                if data is not None:
                    view[: len(data)] = data
                return data if data is None else len(data)
            file = found
        # As `_call`, on the hottest path.
        try:
            return file.read_into(view_of(buffer))
        finally:
            if self._fs.disk.deferred_ns:
                charge(self._world, self._fs)

    def read(self, size: int | None = -1, /) -> bytes | None:  # type: ignore[override]
        if size is None or size < 0:
            return self.readall()
        active.world()
        file = self._checked_reads()
        if isinstance(file, Unseekable):
            return read_unless_empty(self._world, file, size)
        data: bytes = self._call(file.read, size)
        return data

    def readall(self) -> bytes | None:  # type: ignore[override]
        active.world()
        file = self._checked_reads()
        pieces: list[bytes] = []
        if isinstance(file, Unseekable):
            while more := read_unless_empty(self._world, file, _READ_SIZE):
                pieces.append(more)
            return b"".join(pieces) if pieces or more is not None else None
        # One more than what is left, so that the end is seen in most cases without another call.
        size = max(0, file.inode.size - file.offset) + 1
        while piece := self._call(file.read, max(size, _READ_SIZE if pieces else 1)):
            pieces.append(piece)
            if len(piece) < size:
                size = 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        active.world()
        file = self._file
        if file is None or self._process.files.get(self._fd) is not file or not self._writes:
            found = self._checked_writes()
            if isinstance(found, Unseekable):
                return write_unless_full(self._world, found, view_of(data))
            file = found
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        # As `_call`, on the hottest path.
        try:
            return file.write(view_of(data))
        finally:
            if self._fs.disk.deferred_ns:
                charge(self._world, self._fs)

    def truncate(self, size: int | None = None, /) -> int:
        active.world()
        file = self._checked_writes()
        if size is None:
            size = self.tell()
        self._call(file.truncate, size)
        return size

    def seek(self, offset: int, whence: int = 0, /) -> int:
        file = self._checked()
        if not isinstance(offset, int):
            raise TypeError(f"'{type(offset).__name__}' object cannot be interpreted as an integer")
        position: int = self._call(file.lseek, offset, whence)
        return position

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    # --- what it is -----------------------------------------------------------------------------------

    def readable(self) -> bool:
        self._check_open()
        return self._reads

    def writable(self) -> bool:
        self._check_open()
        return self._writes

    def seekable(self) -> bool:
        self._check_open()
        if self._seekable is None:
            # Once and for all, as the real one.
            self._seekable = isinstance(self._process.files.get(self._fd), Description)
        return self._seekable

    def _check_open(self) -> None:
        if self._fd < 0:
            raise ValueError("I/O operation on closed file")

    def fileno(self) -> int:
        self._check_open()
        return self._fd

    def isatty(self) -> bool:
        self._check_open()
        return False

    @property
    def closefd(self) -> bool:
        """True if closing this object closes the descriptor."""
        return self._closefd

    @property
    def mode(self) -> str:  # type: ignore[override]
        if self._created:
            return "xb+" if self._reads else "xb"
        if self._appending:
            return "ab+" if self._reads else "ab"
        if self._reads:
            return "rb+" if self._writes else "rb"
        return "wb"

    def __repr__(self) -> str:
        name = type(self).__name__ if type(self) is not SimFileIO else "_io.FileIO"
        if self._fd < 0:
            return f"<{name} [closed]>"
        which = f"name={self.name!r}" if hasattr(self, "name") else f"fd={self._fd}"
        return f"<{name} {which} mode={self.mode!r} closefd={self._closefd}>"

    def __getstate__(self) -> Any:
        raise TypeError("cannot pickle '_io.FileIO' object")

    # --- the end --------------------------------------------------------------------------------------

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        try:
            # Flushes what a subclass holds back; `closed` is true for it from here on.
            super().close()
        finally:
            # A finished world has closed everything, and its descriptors mean nothing any more.
            if fd >= 0 and self._closefd and active.entered is self._world and self._process.alive:
                self._process.close(fd)

    def forget(self) -> None:
        self._fd = -1
        # What IOBase itself goes by, and with it the buffer above, which else would flush when it is collected.
        self.__dict__["__IOBase_closed"] = True

    def _dealloc_warn(self, source: Any) -> None:
        # io's buffers call this when they are collected without having been closed.
        if self._fd >= 0 and self._closefd and active.entered is self._world and self._process.alive:
            warnings.warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)

    def __del__(self) -> None:
        if self._fd >= 0:
            self._dealloc_warn(self)
            self.close()


# As tracebacks and `repr` show it.
SimFileIO.__name__ = SimFileIO.__qualname__ = "FileIO"
SimFileIO.__module__ = "_io"


class SubclassedFileIO(_pyio.FileIO):  # type: ignore[misc]
    """Base class that replaces `io.FileIO` in classes derived from it: the pure-Python `FileIO` of `_pyio`, which uses
    only functions of `os`, and so works inside of a world and outside."""

    def _checkClosed(self, msg: str | None = None) -> None:
        # The words of err_closed() in Modules/_io/fileio.c, where Lib/_pyio.py has a full stop.
        super()._checkClosed(msg or "I/O operation on closed file")


def _files_world() -> World | None:
    """Return the world whose files the calling code uses; None if it uses the real files."""
    world = active.here()
    return None if world is None or world.reaching_out else world


def open_raw(*args: Any, **kwargs: Any) -> Any:
    """Return a raw file for the arguments of `io.FileIO`: a simulated file, or a real one if the argument is a real
    descriptor."""
    world = _files_world()
    file = args[0] if args else kwargs.get("file")
    if isinstance(file, bool) and args:
        args = (_number(file), *args[1:])
    simulated = world is not None and not (isinstance(file, int) and not ours(world, file))
    return (SimFileIO if simulated else real_FileIO)(*args, **kwargs)


def _number(fd: bool) -> int:
    if sys.version_info >= (3, 13):
        warnings.warn("bool is used as a file descriptor", RuntimeWarning, stacklevel=level_of_caller())
    return int(fd)


def open(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[Any, int], int] | None = None,
) -> Any:
    world = _files_world()
    if isinstance(file, bool):
        file = _number(file)
    name = file if isinstance(file, int) else named(file) if world is not None else None
    if world is None or name is None or (isinstance(name, int) and not ours(world, name)):
        return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    kind, binary = _checked(mode, buffering, encoding, errors, newline)
    raw = SimFileIO(file if isinstance(file, int) else os.fspath(file), kind, closefd, opener)
    try:
        return _wrapped(raw, mode, binary, buffering, encoding, errors, newline)
    except BaseException:
        raw.close()
        raise


def _checked(mode: Any, buffering: Any, encoding: Any, errors: Any, newline: Any) -> tuple[str, bool]:
    """Check the arguments of `open` as _io_open_impl() in Modules/_io/_iomodule.c does. Return the mode of the raw
    file, and True for a binary file, False for a text file."""
    for name, value in (("mode", mode), ("encoding", encoding), ("errors", errors), ("newline", newline)):
        if not isinstance(value, str) and (value is not None or name == "mode"):
            kinds = "str" if name == "mode" else "str or None"
            raise TypeError(f"open() argument {name!r} must be {kinds}, not {type(value).__name__}")
    if not isinstance(buffering, int):
        raise TypeError(f"{type(buffering).__name__!r} object cannot be interpreted as an integer")
    kind, binary = _mode(mode)
    if binary:
        for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
            if value is not None:
                article = "an" if name in ("encoding", "errors") else "a"
                raise ValueError(f"binary mode doesn't take {article} {name} argument")
        if buffering == 1:
            warnings.warn(
                "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used",
                RuntimeWarning,
                stacklevel=level_of_caller(),
            )
    return kind, binary


# A program has few modes, and opens many files.
@functools.lru_cache(maxsize=64)
def _mode(mode: str) -> tuple[str, bool]:
    """Return the mode of the raw file for a mode of `open`, and True for a binary file, False for a text file."""
    if set(mode) - set("xrwabt+") or len(set(mode)) < len(mode):
        raise ValueError(f"invalid mode: {mode!r}")
    binary = "b" in mode
    if "t" in mode and binary:
        raise ValueError("can't have text and binary mode at once")
    if len(set(mode) & set("xrwa")) > 1:  # none at all is the raw file's affair
        raise ValueError("must have exactly one of create/read/write/append mode")
    return "".join(letter for letter in mode if letter in "xrwa+"), binary


@functools.lru_cache(maxsize=64)
def _raw_mode(mode: str) -> tuple[int, bool, bool, bool, bool]:
    """Return the flags of open(2) for a mode of `io.FileIO`, and four booleans: if the file is created, appended to,
    read, written."""
    if set(mode) - set("xrwab+"):
        raise ValueError(f"invalid mode: {mode}")
    if sum(mode.count(kind) for kind in "rwax") != 1 or mode.count("+") > 1:
        raise ValueError("Must have exactly one of create/read/write/append mode and at most one plus")
    reads, writes = "r" in mode or "+" in mode, "r" not in mode or "+" in mode
    flags = os.O_RDWR if reads and writes else os.O_RDONLY if reads else os.O_WRONLY
    for kind, more in (
        ("x", os.O_EXCL | os.O_CREAT), ("w", os.O_CREAT | os.O_TRUNC), ("a", os.O_APPEND | os.O_CREAT),
    ):  # fmt: skip
        if kind in mode:
            flags |= more
    return flags | os.O_CLOEXEC, "x" in mode, "a" in mode, reads, writes


def _wrapped(raw: SimFileIO, mode: str, binary: bool, buffering: int, encoding: Any, errors: Any, newline: Any) -> Any:
    lines = buffering == 1 and not binary
    if buffering < 0 or buffering == 1:
        if sys.version_info >= (3, 14):
            buffering = max(min(raw._blksize, 1 << 23), io.DEFAULT_BUFFER_SIZE)
        else:
            buffering = raw._blksize if raw._blksize > 1 else io.DEFAULT_BUFFER_SIZE
    if buffering == 0:
        if binary:
            return raw
        raise ValueError("can't have unbuffered text I/O")
    buffer: Any
    if "+" in mode:
        buffer = io.BufferedRandom(raw, buffering)
    elif "r" in mode:
        buffer = io.BufferedReader(raw, buffering)
    else:
        buffer = io.BufferedWriter(raw, buffering)
    if binary:
        return buffer
    level = level_of_caller() if sys.flags.warn_default_encoding else 2
    text = io.TextIOWrapper(buffer, io.text_encoding(encoding, level), errors, newline, lines)
    text.mode = mode  # type: ignore[misc]
    return text


_real_open_code = real(__name__, io)["open_code"]


def open_code(path: Any) -> Any:
    if current_world() is None or not isinstance(path, str):
        return _real_open_code(path)
    return open(path, "rb")


open.__module__ = open_code.__module__ = "_io"
_OPEN = builtin(open)

REPLACEMENTS: list[tuple[object, str, object]] = [
    *((module, "open", _OPEN) for module in (builtins, io, _io)),
    # Not that of _io: imports are real.
    (io, "open_code", builtin(open_code)),
]
