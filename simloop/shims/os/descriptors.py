"""Shims of the functions of `os` and `fcntl` that take descriptors, for files of the current simulated process.

Real descriptors, such as 0 to 2, are passed to the real functions. Sockets are handled in `shims.socket`.
"""

from __future__ import annotations

import errno
import fcntl as _fcntl
import os
import posix
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from simloop.kernel.descriptors import FIRST_FD, File
from simloop.kernel.errors import fail
from simloop.kernel.files.description import Description
from simloop.kernel.ipc.pipes import End
from simloop.kernel.ipc.unseekable import Unseekable
from simloop.kernel.net.sockets import Socket
from simloop.shims.late import real
from simloop.shims.opened import refuse
from simloop.shims.os.paths import (
    charge,
    current_world,
    only_path,
    ours,
    pathconf,
    result_of,
    stat,
    syscall,
)
from simloop.shims.os.pipes import control
from simloop.shims.patch import builtin
from simloop.shims.waiting import read_from, wait_for, write_to
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

_real = real(__name__)
_real_fcntl = real(__name__, _fcntl)

# Calls that change what is behind a descriptor, and calls that take something from it.
_CHANGING = frozenset({"ftruncate", "posix_fallocate", "pwrite", "pwritev", "write"})
_READING = frozenset({"read", "readv"})

Call = Callable[[Any], Any]


def _on(name: str, shape: Callable[..., Call]) -> Callable[..., Any]:
    """Return a shim of the function `name`, whose first argument is a descriptor. ``shape(*rest)`` is called with the
    other arguments and returns a function that makes the call on the open file."""
    real = _real[name]
    changes, reads = name in _CHANGING, name in _READING

    def shim(fd: Any, /, *args: Any) -> Any:
        world = current_world()
        if world is None or not isinstance(fd, int) or not ours(world, fd):
            if world is not None and (changes or reads):
                refuse(fd, reading=reads)
            return real(fd, *args)
        return syscall(world, _called, world, fd, shape(*args))

    shim.__name__ = shim.__qualname__ = name
    return shim


def _called(world: World, fd: int, call: Call) -> Any:
    file = world.current.files.get(fd)
    if isinstance(file, Unseekable):
        return wait_for(world, file, lambda: call(file))
    return call(world.files().description(fd))


def view_of(data: Any) -> memoryview:
    """Return a one-dimensional memoryview of the bytes of a buffer."""
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 and view.contiguous else view.cast("B")


def _views(buffers: Iterable[Any]) -> list[memoryview]:
    return [view_of(buffer) for buffer in buffers]


def _scatter(buffers: list[memoryview], data: bytes) -> int:
    at = 0
    for buffer in buffers:
        piece = data[at : at + len(buffer)]
        buffer[: len(piece)] = piece
        at += len(piece)
    return at


def _readv(buffers: Any) -> Call:
    views = _views(buffers)
    return lambda file: _scatter(views, file.read(sum(map(len, views))))


def _preadv(buffers: Any, offset: int, flags: int = 0) -> Call:
    views = _views(buffers)
    return lambda file: _scatter(views, file.pread(sum(map(len, views)), offset))


def _pwrite(data: Any, offset: int) -> Call:
    view = view_of(data)
    return lambda file: file.pwrite(view, offset)


def _pwritev(buffers: Any, offset: int, flags: int = 0) -> Call:
    data = memoryview(b"".join(_views(buffers)))
    return lambda file: file.pwrite(data, offset)


def _truncate(size: int) -> Call:
    return lambda file: file.truncate(size)


def _allocate(offset: int, size: int) -> Call:
    return lambda file: file.allocate(offset, size)


def _advice(*_: Any) -> Call:
    def check(file: Description | Unseekable) -> None:
        if isinstance(file, (End, Socket)):
            raise fail(errno.ESPIPE)  # generic_fadvise() in mm/fadvise.c

    return check


def _set_blocking(blocking: bool) -> Call:
    def change(file: Description | Unseekable) -> None:
        # Regular files take the flag, and heed it no more than without it (open(2)).
        file.flags = file.flags & ~os.O_NONBLOCK if blocking else file.flags | os.O_NONBLOCK

    return change


pread = _on("pread", lambda count, offset: lambda file: file.pread(count, offset))
lseek = _on("lseek", lambda offset, whence: lambda file: file.lseek(offset, whence))
fsync = _on("fsync", lambda: lambda file: file.sync())
fdatasync = _on("fdatasync", lambda: lambda file: file.sync(data_only=True))
readv, preadv = _on("readv", _readv), _on("preadv", _preadv)
pwrite = _on("pwrite", _pwrite)
# Of what is no regular file; for those there is a faster way below.
_read_other = _on("read", lambda count: lambda file: file.read(count))
_write_other = _on("write", lambda data: lambda file: file.write(view_of(data)))
pwritev = _on("pwritev", _pwritev)
ftruncate, posix_fallocate = _on("ftruncate", _truncate), _on("posix_fallocate", _allocate)
posix_fadvise = _on("posix_fadvise", _advice)
get_blocking = _on("get_blocking", lambda: lambda file: not file.flags & os.O_NONBLOCK)
set_blocking = _on("set_blocking", _set_blocking)


def get_inheritable(fd: int, /) -> bool:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        found: bool = _real["get_inheritable"](fd)
        return found
    _file(world, fd)
    return fd in world.current.inheritable


def set_inheritable(fd: int, inheritable: bool, /) -> None:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        return _real["set_inheritable"](fd, inheritable)  # type: ignore[no-any-return]
    _file(world, fd)
    _inherit(world, fd, inheritable)
    return None


def _inherit(world: World, fd: int, inheritable: bool) -> None:
    if inheritable:
        world.current.inheritable.add(fd)
    else:
        world.current.inheritable.discard(fd)


def read(fd: int, length: int, /) -> bytes:
    world = current_world()
    file = world.current.files.get(fd) if world is not None else None
    if world is None or not isinstance(file, Description):
        if isinstance(file, Unseekable):
            assert world is not None
            return read_from(world, file, length)
        return _read_other(fd, length)  # type: ignore[no-any-return]
    fs = file.fs
    # As `syscall`, on a hot path: nothing here has a name to put into an error.
    try:
        return file.read(length)
    finally:
        if fs.disk.deferred_ns:
            charge(world, fs)


def write(fd: int, data: Any, /) -> int:
    world = current_world()
    file = world.current.files.get(fd) if world is not None else None
    if world is None or not isinstance(file, Description):
        if isinstance(file, Unseekable):
            assert world is not None
            return write_to(world, file, view_of(data))
        if world is not None and not world.current.alive:
            world.stop()  # what it is unwound through would write to the standard streams of the test
        return _write_other(fd, data)  # type: ignore[no-any-return]
    fs = file.fs
    try:
        return file.write(view_of(data))
    finally:
        if fs.disk.deferred_ns:
            charge(world, fs)


def writev(fd: int, buffers: Any, /) -> int:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        if world is not None:
            refuse(fd)
        return _real["writev"](fd, buffers)  # type: ignore[no-any-return]
    return write(fd, memoryview(b"".join(_views(buffers))))


def isatty(fd: int, /) -> bool:
    world = current_world()
    terminal: bool = (world is None or not isinstance(fd, int) or not ours(world, fd)) and _real["isatty"](fd)
    return terminal


_MFD_KNOWN = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING


def memfd_create(name: Any, flags: int = os.MFD_CLOEXEC) -> int:
    world = current_world()
    if world is None or (text := only_path(name)) is None:
        return _real["memfd_create"](name, flags)  # type: ignore[no-any-return]
    if flags & ~_MFD_KNOWN:
        raise active.escape(f"os.memfd_create with flags {flags:#x}", "create it without them")
    fd = world.current.open(syscall(world, world.files().memory, text))
    _inherit(world, fd, not flags & os.MFD_CLOEXEC)
    return fd


def fstat(fd: int) -> os.stat_result:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        found: os.stat_result = _real["fstat"](fd)
        return found
    if fd in world.current.files and not isinstance(world.current.files[fd], Description):
        return stat(fd)  # which knows pipes and sockets, and says what is wrong with others
    return result_of(syscall(world, _called, world, fd, Description.stat))


def fstatvfs(fd: int, /) -> os.statvfs_result:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        found: os.statvfs_result = _real["fstatvfs"](fd)
        return found
    values = syscall(world, world.files().statvfs, fd)
    return os.statvfs_result((*values, 0))


def fpathconf(fd: int, name: Any, /) -> int:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        return _real["fpathconf"](fd, name)  # type: ignore[no-any-return]
    if fd not in world.current.files:
        raise fail(errno.EBADF)
    return pathconf(".", name)


def fchmod(fd: int, mode: int) -> None:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        return _real["fchmod"](fd, mode)  # type: ignore[no-any-return]
    syscall(world, world.files().chmod, fd, mode)
    return None


def fchown(fd: int, uid: int, gid: int) -> None:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        return _real["fchown"](fd, uid, gid)  # type: ignore[no-any-return]
    syscall(world, world.files().chown, fd, uid, gid)
    return None


def dup(fd: int, /) -> int:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        copy: int = _real["dup"](fd)
        return copy
    return world.current.open(_file(world, fd))


def dup2(fd: int, fd2: int, inheritable: bool = True) -> int:
    world = current_world()
    if world is None or not isinstance(fd, int) or not isinstance(fd2, int) or not ours(world, fd):
        if world is not None and isinstance(fd2, int) and ours(world, fd2):
            posix.fstat(fd)  # a closed one is no escape
            raise active.escape("os.dup2 of a real descriptor", "open the file inside the run")
        if world is not None:
            refuse(fd)
            refuse(fd2)
        copy: int = _real["dup2"](fd, fd2, inheritable)
        return copy
    file = _file(world, fd)
    if fd2 < 0:
        raise fail(errno.EBADF)
    if not ours(world, fd2) or fd2 > FIRST_FD + (1 << 16):
        raise active.escape(f"os.dup2 to descriptor {fd2}", "copy to one that was opened inside the run")
    if fd != fd2:
        world.current.open_as(fd2, file)
    _inherit(world, fd2, inheritable)
    return fd2


def _file(world: World, fd: int) -> File:
    file = world.current.files.get(fd)
    if file is None:
        raise fail(errno.EBADF)
    return file


def closerange(fd_low: int, fd_high: int, /) -> None:
    """Close the simulated descriptors of a range. Real descriptors, which do not belong to the program, stay open."""
    world = current_world()
    if world is None:
        return _real["closerange"](fd_low, fd_high)  # type: ignore[no-any-return]
    for fd in sorted(fd for fd in world.current.files if fd_low <= fd < fd_high):
        world.current.close(fd)
    return None


def copy_file_range(
    src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
) -> int:
    world = current_world()
    if world is None or not ours(world, src) or not ours(world, dst):
        if world is not None:
            refuse(dst)
        copied: int = _real["copy_file_range"](src, dst, count, offset_src, offset_dst)
        return copied
    calls = world.files()
    if any(isinstance(world.current.files.get(fd), Unseekable) for fd in (src, dst)):
        raise fail(errno.EINVAL)  # generic_copy_file_checks() in fs/read_write.c

    def copy() -> int:
        source, target = calls.description(src), calls.description(dst)
        if count < 0:
            raise fail(errno.EINVAL)
        data = memoryview(source.read(count) if offset_src is None else source.pread(count, offset_src))
        return target.write(data) if offset_dst is None else target.pwrite(data, offset_dst)

    return int(syscall(world, copy))


# --- locks ----------------------------------------------------------------------------------------------


def _wait_for(world: World, attempt: Callable[[], None], blocking: bool) -> None:
    """Take a file lock by ``attempt()``: at once, or, if `blocking`, wait until the lock is free."""
    if not blocking:
        syscall(world, attempt)
        return

    def taken() -> bool:
        try:
            attempt()
        except BlockingIOError:
            return False
        return True

    if not taken():
        world.block(taken)


def flock(fd: Any, operation: int, /) -> None:
    world = current_world()
    number = fd if isinstance(fd, int) else fd.fileno()
    if world is None or not ours(world, number):
        if world is not None:
            refuse(number)
        return _real_fcntl["flock"](fd, operation)  # type: ignore[no-any-return]
    file = world.files().description(number)
    _wait_for(world, lambda: file.flock(operation), not operation & _fcntl.LOCK_NB)
    return None


def fcntl_lockf(fd: Any, cmd: int, len: int = 0, start: int = 0, whence: int = 0, /) -> Any:
    world = current_world()
    number = fd if isinstance(fd, int) else fd.fileno()
    if world is None or not ours(world, number):
        if world is not None:
            refuse(number)
        return _real_fcntl["lockf"](fd, cmd, len, start, whence)
    kind = cmd & ~_fcntl.LOCK_NB
    if kind not in (_fcntl.LOCK_UN, _fcntl.LOCK_SH, _fcntl.LOCK_EX):
        raise ValueError("unrecognized lockf argument")
    process = world.current
    file = world.files().description(number)
    begin = start + (0, file.offset, file.inode.size)[whence]
    if kind == _fcntl.LOCK_UN:
        file.locks.unlock(process, begin, len)
        return None
    exclusive = kind == _fcntl.LOCK_EX
    if not (file.writable if exclusive else file.readable):
        raise fail(errno.EBADF)
    _wait_for(world, lambda: file.locks.lock(process, exclusive, begin, len), not cmd & _fcntl.LOCK_NB)
    return None


_LOCKF = {os.F_LOCK: _fcntl.LOCK_EX, os.F_TLOCK: _fcntl.LOCK_EX | _fcntl.LOCK_NB, os.F_ULOCK: _fcntl.LOCK_UN}


def lockf(fd: int, command: int, length: int, /) -> None:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        if world is not None:
            refuse(fd)
        return _real["lockf"](fd, command, length)  # type: ignore[no-any-return]
    if command == os.F_TEST:
        file = world.files().description(fd)
        end = file.offset + length if length else 1 << 62
        if file.locks.conflict(world.current, True, file.offset, end) is not None:
            raise fail(errno.EACCES)
    elif command in _LOCKF:
        fcntl_lockf(fd, _LOCKF[command], length, 0, 1)
    else:
        raise fail(errno.EINVAL)
    return None


# Flags that F_SETFL can change (fcntl(2)).
_SETTABLE = os.O_APPEND | os.O_NONBLOCK | os.O_DIRECT | getattr(os, "O_NOATIME", 0) | os.O_ASYNC


def fcntl(fd: Any, cmd: int, arg: Any = 0, /) -> Any:
    world = current_world()
    number = fd if isinstance(fd, int) else fd.fileno()
    if world is None or not ours(world, number):
        return _real_fcntl["fcntl"](fd, cmd, arg)
    file = _file(world, number)
    if cmd == _fcntl.F_GETFD:
        return 0 if number in world.current.inheritable else _fcntl.FD_CLOEXEC
    if cmd == _fcntl.F_SETFD:
        _inherit(world, number, not arg & _fcntl.FD_CLOEXEC)
        return 0
    if cmd in (_fcntl.F_DUPFD, _fcntl.F_DUPFD_CLOEXEC):
        copy = world.current.open(file)
        _inherit(world, copy, cmd == _fcntl.F_DUPFD)
        return copy
    if (answer := control(file, cmd, arg)) is not None:
        return answer
    if isinstance(file, (Description, Unseekable)):
        if cmd == _fcntl.F_GETFL:
            return file.flags
        if cmd == _fcntl.F_SETFL:
            file.flags = (file.flags & ~_SETTABLE) | (arg & _SETTABLE)
            return 0
    raise active.escape(f"fcntl command {cmd}", "it is not simulated yet; replace it in the test")


REPLACEMENTS: list[tuple[object, str, object]] = [
    *((os, name, builtin(globals()[name])) for name in _real),
    (_fcntl, "fcntl", builtin(fcntl)),
    (_fcntl, "flock", builtin(flock)),
    (_fcntl, "lockf", builtin(fcntl_lockf)),
]
