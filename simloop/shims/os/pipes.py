"""Shims of `os.pipe`, and of the calls that move data between descriptors: `os.splice` and `os.sendfile`."""

from __future__ import annotations

import errno
import fcntl as _fcntl
import os
import struct
import termios
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from simloop.kernel.errors import fail
from simloop.kernel.files.description import Description
from simloop.kernel.ipc.pipes import PAGE, End, insert, make_pipe, splice_pipes
from simloop.kernel.ipc.unseekable import Unseekable
from simloop.kernel.net.sockets import Socket
from simloop.shims.late import load, real
from simloop.shims.opened import refuse
from simloop.shims.os.paths import current_world, ours, syscall
from simloop.shims.patch import builtin
from simloop.shims.waiting import wait
from simloop.world import active

if TYPE_CHECKING:
    from simloop.kernel.descriptors import File
    from simloop.world.world import World

_real = real(__name__)
_real_ioctl = real(__name__, _fcntl)["ioctl"]

# --- making them ----------------------------------------------------------------------------------------


def pipe() -> tuple[int, int]:
    if current_world() is None:
        ends: tuple[int, int] = _real["pipe"]()
        return ends
    return pipe2(os.O_CLOEXEC)


def pipe2(flags: int, /) -> tuple[int, int]:
    world = current_world()
    if world is None or not isinstance(flags, int):
        ends: tuple[int, int] = _real["pipe2"](flags)
        return ends
    process = world.current
    process.host.pipes += 1
    reader, writer = make_pipe(flags, f"{process.host.name}:pipe{process.host.pipes}")
    fds = process.open(reader), process.open(writer)
    if not flags & os.O_CLOEXEC:
        process.inheritable.update(fds)
    return fds


# --- moving data ----------------------------------------------------------------------------------------

_SPLICE_F_ALL = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK | os.SPLICE_F_MORE | 8  # SPLICE_F_GIFT


def splice(
    src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None, flags: int = 0
) -> int:
    world = current_world()
    if world is None or not (ours(world, src) or ours(world, dst)):
        if world is not None:
            refuse(dst)
            refuse(src, reading=True)
        moved: int = _real["splice"](src, dst, count, offset_src, offset_dst, flags)
        return moved
    if count < 0:
        raise ValueError("count cannot be negative")
    if not count:
        return 0
    if flags & ~_SPLICE_F_ALL:
        raise fail(errno.EINVAL)
    source, target = (world.current.files.get(fd) for fd in (src, dst))
    if source is None or target is None:
        raise fail(errno.EBADF)
    # do_splice() in fs/splice.c.
    ends = [end for end in (source, target) if isinstance(end, End)]
    if (isinstance(source, End) and offset_src is not None) or (isinstance(target, End) and offset_dst is not None):
        raise fail(errno.ESPIPE)

    def nonblocking() -> int:
        return flags & os.SPLICE_F_NONBLOCK or any(end.flags & os.O_NONBLOCK for end in ends)

    if isinstance(source, End) and isinstance(target, End):
        return wait(world, partial(splice_pipes, source, target, count), nonblocking)
    if isinstance(source, End) and isinstance(target, Description):
        return _from_pipe(world, source, target, count, offset_dst, nonblocking)
    if isinstance(target, End) and isinstance(source, Description):
        return _into_pipe(world, source, target, count, offset_src, nonblocking)
    if ends:
        raise active.escape("os.splice with a socket", "read and send instead")
    raise fail(errno.EINVAL)


def _from_pipe(
    world: World, source: End, target: Description, count: int, offset: int | None, nonblocking: Callable[[], int]
) -> int:
    if not target.writable:
        raise fail(errno.EBADF)
    if target.flags & os.O_APPEND:
        raise fail(errno.EINVAL)
    data = memoryview(wait(world, lambda: source.peek(count), nonblocking))
    written: int = syscall(world, target.write, data) if offset is None else syscall(world, target.pwrite, data, offset)
    source.read(written)
    return written


def _into_pipe(
    world: World, source: Description, target: End, count: int, offset: int | None, nonblocking: Callable[[], int]
) -> int:
    if not target.writable:
        raise fail(errno.EBADF)
    pipe = target.pipe

    def room() -> int:
        """Return the number of bytes that fit into the pipe. If none, raise EAGAIN, to be called again when there is
        room, as wait_for_space() does."""
        pipe.check_readers()
        if len(pipe.slots) >= pipe.capacity:
            raise fail(errno.EAGAIN)
        return PAGE * (pipe.capacity - len(pipe.slots))

    most = min(count, wait(world, room, nonblocking))
    start = source.offset if offset is None else offset
    data = memoryview(syscall(world, source.pread, most, start))
    moved = insert(pipe, data, start)
    if offset is None:
        source.offset += moved
    return moved


# More than one call to the real one ever moves over loopback, without reading a large file again and again.
_SENDFILE_SIZE = 1 << 22


def sendfile(out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
    """Send a file to a simulated socket (as `loop.sendfile` does), to a pipe, or to a simulated file (as shutil
    does)."""
    world = active.world()
    target = world.current.files.get(out_fd) if world is not None else None
    if world is None or target is None:
        if world is not None:
            refuse(out_fd)
        sent: int = _real["sendfile"](out_fd, in_fd, offset, count)
        return sent
    source = world.current.files.get(in_fd)
    if isinstance(source, Unseekable):
        raise fail(errno.EINVAL if offset is None else errno.ESPIPE)  # do_sendfile() in fs/read_write.c
    if isinstance(target, End) and isinstance(source, Description):
        return _into_pipe(world, source, target, count, offset, lambda: target.flags & os.O_NONBLOCK)
    # Not the functions of `os`, which a test may have replaced.
    descriptors = load("simloop.shims.os.descriptors")
    start = descriptors.lseek(in_fd, 0, os.SEEK_CUR) if offset is None else offset
    data = descriptors.pread(in_fd, min(count, _SENDFILE_SIZE), start)
    sent = target.send(data) if isinstance(target, Socket) else descriptors.write(out_fd, data)
    if offset is None:
        descriptors.lseek(in_fd, start + sent, os.SEEK_SET)
    return sent


# --- fcntl(2) and ioctl(2) ------------------------------------------------------------------------------


def control(file: File, cmd: int, arg: Any) -> int | None:
    """Execute a command of fcntl(2) that exists for pipes only and return its result; None if `cmd` is another
    command."""
    if cmd not in (_fcntl.F_GETPIPE_SZ, _fcntl.F_SETPIPE_SZ):
        return None
    if not isinstance(file, End):
        raise fail(errno.EBADF)  # pipe_fcntl()
    return file.pipe.resize(arg) if cmd == _fcntl.F_SETPIPE_SZ else PAGE * file.pipe.capacity


def ioctl(fd: Any, request: int, arg: Any = 0, mutate_flag: bool = True, /) -> Any:
    """Return the number of bytes in a pipe, or that can be received from a socket: FIONREAD, the only request that is
    simulated. Other simulated files do not support any."""
    world = current_world()
    number = fd if world is None or isinstance(fd, int) else fd.fileno()
    file = world.current.files.get(number) if world is not None else None
    if not isinstance(file, (End, Socket)):
        return _real_ioctl(fd, request, arg, mutate_flag)
    if request != termios.FIONREAD:
        raise fail(errno.ENOTTY)
    if isinstance(arg, int):
        raise fail(errno.EFAULT)
    size = struct.pack("i", file.pipe.size() if isinstance(file, End) else file.available())
    if isinstance(arg, (bytes, str)) or not mutate_flag:
        return size + bytes(arg[4:] if isinstance(arg, bytes) else b"")
    memoryview(arg).cast("B")[: len(size)] = size
    return 0


REPLACEMENTS: list[tuple[object, str, object]] = [
    *((os, name, builtin(globals()[name])) for name in _real),
    (_fcntl, "ioctl", builtin(ioctl)),
]
