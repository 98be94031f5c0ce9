"""VFS (file system layer) of SQLite (https://www.sqlite.org/vfs.html) over the files of the current simulated process.

It is registered with the same library that `_sqlite3` is linked to, and is SQLite's default VFS while `sqlite3` opens
databases inside of a world: a connection keeps the VFS with which it was opened.
"""

from __future__ import annotations

import _sqlite3
import contextlib
import ctypes
import errno
import os
import sqlite3
import time
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_void_p
from typing import TYPE_CHECKING, Any

from simloop.kernel.errors import fail
from simloop.shims.os.paths import charge
from simloop.shims.patch import original
from simloop.shims.sqlite3 import calls, files
from simloop.shims.sqlite3.files import DatabaseFile, ErrorCode
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

NAME = b"simloop"

_real_time = original(time, "time_ns")
# unixCurrentTimeInt64(): the Unix epoch as a Julian day, in milliseconds.
_EPOCH_MS = 24_405_875 * 8_640_000
_DAY_MS = 86_400_000
# From sqlite3.h.
_VFS_VERSION, _METHODS_VERSION = 2, 1
_ACCESS_READWRITE = 1
_LOCKSTATE, _LAST_ERRNO, _POWERSAFE_OVERWRITE, _HAS_MOVED = 1, 4, 13, 20
_IOCAP_POWERSAFE_OVERWRITE = 0x1000
# SQLITE_DEFAULT_SECTOR_SIZE.
_SECTOR_SIZE = 4096


class _Vfs(ctypes.Structure):
    """C structure sqlite3_vfs of version 2, with the fields that version 3 appends."""

    _fields_ = (
        ("version", c_int), ("file_size", c_int), ("path_max", c_int), ("next", c_void_p), ("name", c_char_p),
        ("data", c_void_p), ("open", c_void_p), ("delete", c_void_p), ("access", c_void_p), ("full_path", c_void_p),
        ("dl_open", c_void_p), ("dl_error", c_void_p), ("dl_sym", c_void_p), ("dl_close", c_void_p),
        ("randomness", c_void_p), ("sleep", c_void_p), ("current_time", c_void_p), ("last_error", c_void_p),
        ("current_time_ms", c_void_p), ("system_calls", c_void_p * 3),
    )  # fmt: skip


class _Methods(ctypes.Structure):
    """C structure sqlite3_io_methods, version 1: without methods for shared memory, so that SQLite has no write-ahead
    log."""

    _fields_ = (("version", c_int), ("entries", c_void_p * 12))


class _File(ctypes.Structure):
    """C structure sqlite3_file."""

    _fields_ = (("methods", c_void_p),)


# By address of their structure, which SQLite allocates.
_files: dict[int, DatabaseFile] = {}
_last_errno = 0
_entropy = b""


def _guarded(failure: int) -> Callable[[Callable[..., int | None]], Callable[..., int]]:
    """Return a decorator for callbacks of C that return a result code: on `OSError` they return `failure`. Any other
    exception is stored in the library call in progress, which raises it when it returns."""

    def decorate(function: Callable[..., int | None]) -> Callable[..., int]:
        def call(*args: Any) -> int:
            global _last_errno
            world = active.here()
            try:
                if world is None:
                    raise fail(errno.EIO)
                try:
                    return function(world, *args) or sqlite3.SQLITE_OK
                finally:
                    _pass_time(world)
            except ErrorCode as error:
                return error.code
            except OSError as error:
                _last_errno = error.errno or 0
                full = error.errno == errno.ENOSPC and failure == sqlite3.SQLITE_IOERR_WRITE
                return sqlite3.SQLITE_FULL if full else failure
            except BaseException as error:
                going_on = None if world is None else calls.current(world)
                if going_on is not None and going_on.error is None:
                    going_on.error = error
                return failure

        return call

    return decorate


def _pass_time(world: World) -> None:
    """Advance virtual time by what the disk has taken for the calls of SQLite since this was last done."""
    fs = world.current.host.fs
    if fs is None or not fs.disk.deferred_ns:
        return
    if calls.current(world) is not None:
        charge(world, fs)
    else:
        # In a finalizer: nobody must go first.
        world.scheduler.clock.now += fs.disk.take_ns()


# --- methods of the VFS ---------------------------------------------------------------------------------


@_guarded(sqlite3.SQLITE_CANTOPEN)
def _open(world: World, vfs: int, name: bytes | None, address: int, flags: int, flags_out: Any) -> None:
    struct = _File.from_address(address)
    # "xOpen must set the pMethods to NULL if it fails": else the file is closed.
    struct.methods = None
    file, flags = files.open_file(world, None if name is None else os.fsdecode(name), flags)
    _files[address] = file
    struct.methods = ctypes.addressof(_methods)
    if flags_out:
        flags_out[0] = flags


@_guarded(sqlite3.SQLITE_IOERR_DELETE)
def _delete(world: World, vfs: int, name: bytes, durably: int) -> None:
    files.delete(world, os.fsdecode(name), durably=bool(durably & 1))


@_guarded(sqlite3.SQLITE_IOERR_ACCESS)
def _access(world: World, vfs: int, name: bytes, flags: int, found: Any) -> None:
    found[0] = files.is_accessible(world, os.fsdecode(name), writable=flags == _ACCESS_READWRITE)


@_guarded(sqlite3.SQLITE_CANTOPEN)
def _full_path(world: World, vfs: int, name: bytes, size: int, buffer: int) -> None:
    path = os.fsencode(files.full_path(world, os.fsdecode(name))) + b"\0"
    if len(path) > size:
        raise fail(errno.ENAMETOOLONG)
    ctypes.memmove(buffer, path, len(path))


def _randomness(vfs: int, size: int, buffer: int) -> int:
    data = _entropy[:size]
    ctypes.memmove(buffer, data, len(data))
    return len(data)


@_guarded(sqlite3.SQLITE_ERROR)
def _wait(world: World, microseconds: int) -> None:
    if calls.current(world) is not None:
        world.block(lambda: False, microseconds / 1e6)
        # Somebody may have opened a real database meanwhile, and sqlite3_sleep() goes by the default.
        make_default(simulated=True)
    else:
        world.scheduler.clock.now += microseconds * 1000


def _sleep(vfs: int, microseconds: int) -> int:
    _wait(microseconds)
    return microseconds


def _now_ms() -> int:
    world = active.here()
    return (_real_time() if world is None else world.current.host.wall.now) // 1_000_000 + _EPOCH_MS


def _current_time(vfs: int, day: Any) -> int:
    day[0] = _now_ms() / _DAY_MS
    return sqlite3.SQLITE_OK


def _current_time_ms(vfs: int, ms: Any) -> int:
    ms[0] = _now_ms()
    return sqlite3.SQLITE_OK


def _last_error(vfs: int, size: int, buffer: int) -> int:
    return _last_errno


# --- methods of files -----------------------------------------------------------------------------------


def _close(address: int) -> int:
    with contextlib.suppress(OSError):
        _files.pop(address).close()
    return sqlite3.SQLITE_OK


@_guarded(sqlite3.SQLITE_IOERR_READ)
def _read(world: World, address: int, buffer: int, count: int, offset: int) -> int | None:
    data = _files[address].read(count, offset)
    ctypes.memmove(buffer, data, len(data))
    if len(data) == count:
        return None
    # "it must fill the remaining space with zeros" (sqlite3_io_methods).
    ctypes.memset(buffer + len(data), 0, count - len(data))
    return sqlite3.SQLITE_IOERR_SHORT_READ


@_guarded(sqlite3.SQLITE_IOERR_WRITE)
def _write(world: World, address: int, buffer: int, count: int, offset: int) -> None:
    _files[address].write(ctypes.string_at(buffer, count), offset)


@_guarded(sqlite3.SQLITE_IOERR_TRUNCATE)
def _truncate(world: World, address: int, size: int) -> None:
    _files[address].truncate(size)


@_guarded(sqlite3.SQLITE_IOERR_FSYNC)
def _sync(world: World, address: int, flags: int) -> None:
    _files[address].sync()


@_guarded(sqlite3.SQLITE_IOERR_FSTAT)
def _size(world: World, address: int, size: Any) -> None:
    size[0] = _files[address].size()


@_guarded(sqlite3.SQLITE_IOERR_LOCK)
def _lock(world: World, address: int, level: int) -> int | None:
    try:
        _files[address].lock(level)
    except BlockingIOError:
        return sqlite3.SQLITE_BUSY
    return None


@_guarded(sqlite3.SQLITE_IOERR_UNLOCK)
def _unlock(world: World, address: int, level: int) -> None:
    _files[address].unlock(level)


@_guarded(sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK)
def _is_reserved(world: World, address: int, found: Any) -> None:
    found[0] = _files[address].is_reserved()


@_guarded(sqlite3.SQLITE_IOERR)
def _control(world: World, address: int, operation: int, argument: int) -> int | None:
    file = _files[address]
    if operation == _LOCKSTATE:
        answer = file.level
    elif operation == _LAST_ERRNO:
        answer = _last_errno
    elif operation == _POWERSAFE_OVERWRITE:
        answer = 1
    elif operation == _HAS_MOVED:
        answer = file.has_moved()
    else:
        return sqlite3.SQLITE_NOTFOUND
    c_int.from_address(argument).value = answer
    return None


def _sector_size(address: int) -> int:
    return _SECTOR_SIZE


def _characteristics(address: int) -> int:
    # As unixDeviceCharacteristics() has it by default. Power cuts tear pages between what was and what is written.
    return _IOCAP_POWERSAFE_OVERWRITE


# --- structures -----------------------------------------------------------------------------------------

# Callbacks of C are kept as long as C may call them.
_kept: list[object] = []


def _pointer(function: Callable[..., int], *types: Any) -> int:
    """Return the address of a C callback that calls `function`, with arguments of the given `ctypes` types and an int
    as result."""
    callback = ctypes.CFUNCTYPE(c_int, *types)(function)
    _kept.append(callback)
    address = ctypes.cast(callback, c_void_p).value
    assert address is not None
    return address


_methods = _Methods(
    _METHODS_VERSION,
    (c_void_p * 12)(
        _pointer(_close, c_void_p),
        _pointer(_read, c_void_p, c_void_p, c_int, c_int64),
        _pointer(_write, c_void_p, c_void_p, c_int, c_int64),
        _pointer(_truncate, c_void_p, c_int64),
        _pointer(_sync, c_void_p, c_int),
        _pointer(_size, c_void_p, POINTER(c_int64)),
        _pointer(_lock, c_void_p, c_int),
        _pointer(_unlock, c_void_p, c_int),
        _pointer(_is_reserved, c_void_p, POINTER(c_int)),
        _pointer(_control, c_void_p, c_int, c_void_p),
        _pointer(_sector_size, c_void_p),
        _pointer(_characteristics, c_void_p),
    ),
)


def _library() -> Any:
    """Return the SQLite library that `_sqlite3` is linked to, found among the symbols of that module and of its
    dependencies."""
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    library.sqlite3_vfs_find.argtypes = (c_char_p,)
    library.sqlite3_vfs_register.argtypes = (POINTER(_Vfs), c_int)
    library.sqlite3_randomness.argtypes = (c_int, c_void_p)
    return library


_sqlite = _library()
_real = _sqlite.sqlite3_vfs_find(None)
# Extensions are loaded as by the real one.
_ours = _Vfs.from_buffer_copy(_real.contents)
_ours.version, _ours.file_size, _ours.name = _VFS_VERSION, ctypes.sizeof(_File), NAME
_ours.open = _pointer(_open, c_void_p, c_char_p, c_void_p, c_int, POINTER(c_int))
_ours.delete = _pointer(_delete, c_void_p, c_char_p, c_int)
_ours.access = _pointer(_access, c_void_p, c_char_p, c_int, POINTER(c_int))
_ours.full_path = _pointer(_full_path, c_void_p, c_char_p, c_int, c_void_p)
_ours.randomness = _pointer(_randomness, c_void_p, c_int, c_void_p)
_ours.sleep = _pointer(_sleep, c_void_p, c_int)
_ours.current_time = _pointer(_current_time, c_void_p, POINTER(c_double))
_ours.last_error = _pointer(_last_error, c_void_p, c_int, c_void_p)
_ours.current_time_ms = _pointer(_current_time_ms, c_void_p, POINTER(c_int64))
_sqlite.sqlite3_vfs_register(_ours, 0)


def make_default(*, simulated: bool) -> None:
    """Set the default VFS for connections that are opened from now on: the simulated one, or the real one."""
    _sqlite.sqlite3_vfs_register(_ours if simulated else _real, 1)


def seed(entropy: bytes = b"") -> None:
    """Reseed SQLite's random generator, of which there is one for the whole process, by the default VFS: the simulated
    one passes it `entropy`."""
    global _entropy
    # The library holds a mutex while it asks for them: they are drawn before, since whoever draws may be preempted.
    _entropy = entropy
    # "If N is less than one [...] the internal PRNG is reset" (sqlite3_randomness).
    _sqlite.sqlite3_randomness(0, None)
    _sqlite.sqlite3_randomness(1, ctypes.create_string_buffer(1))


def release() -> None:
    """Detach the files that are still open from their world, which has ended."""
    for file in _files.values():
        file.world = None
