"""Shims of the functions of `os` that take paths, over the files of the current simulated process.

Invalid arguments are passed to the real function, which raises the right error for them before it does anything.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from stat import S_IFIFO, S_ISLNK
from typing import TYPE_CHECKING, Any

from simloop.kernel.descriptors import FIRST_FD
from simloop.kernel.files.description import Description, Stat
from simloop.kernel.files.devices import UnsimulatedFileError
from simloop.kernel.ipc.pipes import End
from simloop.kernel.net.sockets import Socket
from simloop.shims.late import real
from simloop.shims.opened import refuse_entering
from simloop.shims.patch import builtin
from simloop.shims.waiting import wait_for_partner
from simloop.sources import level_of_caller
from simloop.world import active

if TYPE_CHECKING:
    from simloop.kernel.files.filesystem import FileSystem
    from simloop.world.world import World

_real = real(__name__)

_INT_MAX = (1 << 31) - 1
# Less than this is what a step takes anyway: nobody else gets a turn for it.
_BRIEF_NS = 50_000


def current_world() -> World | None:
    """Return the world whose files the calling code uses; None if it uses the real files."""
    world = active.world()
    return None if world is None or world.reaching_out else world


def charge(world: World, fs: FileSystem) -> None:
    """Advance virtual time by the time that the disk of `fs` took for a call. If it is long, block the calling thread,
    or the whole process if that is the thread of its event loop."""
    deferred = fs.disk.take_ns()
    if deferred < _BRIEF_NS:
        world.scheduler.clock.now += deferred
    else:
        world.block(lambda: False, deferred / 1e9)
    if fs.on_change is not None:
        fs.report_change()


# Paths until Python 3.11, with a warning (path_converter() in Modules/posixmodule.c).
_BUFFERS = (bytearray, memoryview)


def plain(path: Any) -> str | bytes:
    """Return a path as text or bytes, as `os.fspath` does."""
    if sys.version_info < (3, 12) and isinstance(path, _BUFFERS):
        return bytes(path)
    found: str | bytes = os.fspath(path)
    return found


def named(path: Any) -> str | int | None:
    """Return a path as text, or a descriptor as it is. None for an invalid argument, for which the real function is to
    be called, to raise its error."""
    if type(path) is not str:
        if isinstance(path, int):
            return path
        if sys.version_info < (3, 12) and isinstance(path, _BUFFERS):
            kind = type(path).__name__
            message = f"path should be string, bytes or os.PathLike, not {kind}"
            warnings.warn(message, DeprecationWarning, stacklevel=level_of_caller())
        try:
            path = plain(path)
        except TypeError:
            return None
        if isinstance(path, bytes):
            path = os.fsdecode(path)
    return None if "\0" in path else path


def syscall(
    world: World, call: Callable[..., Any], *args: Any, shown: Any = None, shown2: Any = None, **keywords: Any
) -> Any:
    """Make a system call of the simulated kernel, and return its result. If it raises `OSError`, `shown` and `shown2`
    are added as the error's file names. Virtual time advances by the time that the disk took."""
    fs = world.files().fs
    try:
        return call(*args, **keywords)
    except UnsimulatedFileError as error:
        raise active.escape(f"{error.what} {shown!r}", "replace it in the test") from None
    except OSError as error:
        if error.filename is None and shown is not None:
            error.filename = shown if isinstance(shown, (int, *_BUFFERS)) else os.fspath(shown)
            if shown2 is not None:
                error.filename2 = shown2 if isinstance(shown2, _BUFFERS) else os.fspath(shown2)
        raise
    finally:
        if fs.disk.deferred_ns:
            charge(world, fs)


def result_of(stat: Stat) -> os.stat_result:
    """Return the attributes of a simulated file as the result of `os.stat`."""
    times = stat.atime_ns, stat.mtime_ns, stat.ctime_ns
    whole = (stat.mode, stat.ino, stat.dev, stat.nlink, stat.uid, stat.gid, stat.size, *(ns // 10**9 for ns in times))
    more: dict[str, float] = {"st_blksize": stat.blksize, "st_blocks": stat.blocks, "st_rdev": stat.rdev}
    for name, ns in zip(("atime", "mtime", "ctime"), times, strict=True):
        more[f"st_{name}_ns"] = ns
        # As fill_time() in Modules/posixmodule.c adds them.
        more[f"st_{name}"] = ns // 10**9 + 1e-9 * (ns % 10**9)
    return os.stat_result(whole, more)


def ours(world: World, fd: int) -> bool:
    """Return True for a descriptor of the simulated process, False for a real one, such as 1."""
    return fd in world.current.files or FIRST_FD <= fd <= _INT_MAX


def only_path(path: Any, dir_fd: Any = None) -> str | None:
    """Return a path as text, for functions that do not accept a descriptor in place of a path. None if the real
    function must be called."""
    name = named(path)
    return name if isinstance(name, str) and (dir_fd is None or isinstance(dir_fd, int)) else None


def is_real(world: World, name: str | int | None, dir_fd: Any = None, follow: bool = True) -> bool:
    """Return True if the real function must be called: with invalid arguments, for which it raises an error, or with a
    real descriptor. Simulated descriptors must not be passed to it."""
    if name is None or not (dir_fd is None or isinstance(dir_fd, int)):
        return True
    return isinstance(name, int) and (dir_fd is not None or not follow or not ours(world, name))


# --- one path -------------------------------------------------------------------------------------------


def stat(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
    world = current_world()
    if world is None or is_real(world, name := named(path), dir_fd, follow_symlinks):
        found: os.stat_result = _real["stat"](path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        return found
    if isinstance(name, int) and not _is_file(world, name):
        raise active.escape("os.stat of a counter", "it has no file")
    return result_of(syscall(world, world.files().stat, name, dir_fd=dir_fd, follow=follow_symlinks, shown=path))


def _is_file(world: World, fd: int) -> bool:
    return fd not in world.current.files or isinstance(world.current.files[fd], (Description, End, Socket))


def lstat(path: Any, *, dir_fd: int | None = None) -> os.stat_result:
    world = current_world()
    if world is None or (name := only_path(path, dir_fd)) is None:
        found: os.stat_result = _real["lstat"](path, dir_fd=dir_fd)
        return found
    return result_of(syscall(world, world.files().stat, name, dir_fd=dir_fd, follow=False, shown=path))


def access(
    path: Any, mode: int, *, dir_fd: int | None = None, effective_ids: bool = False, follow_symlinks: bool = True
) -> bool:
    world = current_world()
    if world is None or (name := only_path(path, dir_fd)) is None:
        allowed: bool = _real["access"](
            path, mode, dir_fd=dir_fd, effective_ids=effective_ids, follow_symlinks=follow_symlinks
        )
        return allowed
    try:
        syscall(world, world.files().access, name, mode, dir_fd=dir_fd, follow=follow_symlinks, shown=path)
    except OSError:
        return False
    return True


def open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    world = current_world()
    if world is None or (name := only_path(path, dir_fd)) is None:
        fd: int = _real["open"](path, flags, mode, dir_fd=dir_fd)
        return fd
    file = syscall(world, world.files().open, name, flags, mode, dir_fd, shown=path)
    wait_for_partner(world, file)
    return world.current.open(file)


def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    world = current_world()
    if world is None or (name := only_path(path, dir_fd)) is None:
        return _real["mkdir"](path, mode, dir_fd=dir_fd)  # type: ignore[no-any-return]
    syscall(world, world.files().mkdir, name, mode, dir_fd, shown=path)
    return None


def mknod(path: Any, mode: int = 0o600, device: int = 0, *, dir_fd: int | None = None) -> None:
    world = current_world()
    if world is None or (name := only_path(path, dir_fd)) is None:
        return _real["mknod"](path, mode, device, dir_fd=dir_fd)  # type: ignore[no-any-return]
    syscall(world, world.files().mknod, name, mode, device, dir_fd)
    return None


def mkfifo(path: Any, mode: int = 0o666, *, dir_fd: int | None = None) -> None:
    world = current_world()
    if world is None or (name := only_path(path, dir_fd)) is None:
        return _real["mkfifo"](path, mode, dir_fd=dir_fd)  # type: ignore[no-any-return]
    syscall(world, world.files().mknod, name, S_IFIFO | mode & 0o7777, 0, dir_fd)
    return None


def rmdir(path: Any, *, dir_fd: int | None = None) -> None:
    world = current_world()
    if world is None or (name := only_path(path, dir_fd)) is None:
        return _real["rmdir"](path, dir_fd=dir_fd)  # type: ignore[no-any-return]
    syscall(world, world.files().rmdir, name, dir_fd, shown=path)
    return None


def unlink(path: Any, *, dir_fd: int | None = None) -> None:
    world = current_world()
    if world is None or (name := only_path(path, dir_fd)) is None:
        return _real["unlink"](path, dir_fd=dir_fd)  # type: ignore[no-any-return]
    syscall(world, world.files().unlink, name, dir_fd, shown=path)
    return None


def remove(path: Any, *, dir_fd: int | None = None) -> None:
    world = current_world()
    if world is None or (name := only_path(path, dir_fd)) is None:
        return _real["remove"](path, dir_fd=dir_fd)  # type: ignore[no-any-return]
    syscall(world, world.files().unlink, name, dir_fd, shown=path)
    return None


def readlink(path: Any, *, dir_fd: int | None = None) -> Any:
    world = current_world()
    if world is None or (name := only_path(path, dir_fd)) is None:
        return _real["readlink"](path, dir_fd=dir_fd)
    target: str = syscall(world, world.files().readlink, name, dir_fd, shown=path)
    return os.fsencode(target) if isinstance(plain(path), bytes) else target


def chmod(path: Any, mode: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
    world = current_world()
    if world is None or is_real(world, name := named(path), None if isinstance(path, int) else dir_fd):
        return _real["chmod"](path, mode, dir_fd=dir_fd, follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]
    if not isinstance(name, int) and not follow_symlinks and S_ISLNK(lstat(path, dir_fd=dir_fd).st_mode):
        # os_chmod_impl() in Modules/posixmodule.c makes these of EOPNOTSUPP.
        if dir_fd is not None:
            raise ValueError("chmod: cannot use dir_fd and follow_symlinks together")
        raise NotImplementedError("chmod: follow_symlinks unavailable on this platform")
    syscall(world, world.files().chmod, name, mode, dir_fd=dir_fd, follow=follow_symlinks, shown=path)
    return None


def chown(path: Any, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
    world = current_world()
    if (
        world is None
        or is_real(world, name := named(path), dir_fd, follow_symlinks)
        or not (_is_id(uid) and _is_id(gid))
    ):
        return _real["chown"](path, uid, gid, dir_fd=dir_fd, follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]
    syscall(world, world.files().chown, name, uid, gid, dir_fd=dir_fd, follow=follow_symlinks, shown=path)
    return None


def _is_id(number: Any) -> bool:
    """Return True if _Py_Uid_Converter() in Modules/posixmodule.c accepts the number. If not, the real function is
    called to raise its error."""
    return isinstance(number, int) and -1 <= number < 1 << 32


def lchown(path: Any, uid: int, gid: int) -> None:
    chown(path, uid, gid, follow_symlinks=False)


def utime(
    path: Any, times: Any = None, *, ns: Any = None, dir_fd: int | None = None, follow_symlinks: bool = True
) -> None:
    world = current_world()
    if world is None or is_real(world, name := named(path), dir_fd, follow_symlinks) or _odd_times(times, ns):
        arguments = {} if ns is None else {"ns": ns}
        return _real["utime"](path, times, dir_fd=dir_fd, follow_symlinks=follow_symlinks, **arguments)  # type: ignore[no-any-return]
    if times is not None:
        ns = tuple(_nanoseconds(time) for time in times)
    syscall(world, world.files().utime, name, ns, dir_fd=dir_fd, follow=follow_symlinks, shown=path)
    return None


def _odd_times(times: Any, ns: Any) -> bool:
    if times is not None and ns is not None:
        return True
    given = times if ns is None else ns
    kinds = (int, float) if ns is None else int
    return given is not None and not (
        isinstance(given, tuple) and len(given) == 2 and all(isinstance(time, kinds) for time in given)
    )


def _nanoseconds(time: float) -> int:
    if isinstance(time, int):
        return time * 10**9
    # _PyTime_DoubleToDenominator() with rounding to the floor.
    part, whole = math.modf(time)
    return int(whole) * 10**9 + math.floor(part * 1e9)


def truncate(path: Any, length: int) -> None:
    world = current_world()
    if world is None or is_real(world, name := named(path)):
        return _real["truncate"](path, length)  # type: ignore[no-any-return]
    calls = world.files()
    if isinstance(name, int):
        file = world.current.files.get(name)
        syscall(world, lambda: (file if isinstance(file, (End, Socket)) else calls.description(name)).truncate(length))
    else:
        syscall(world, calls.truncate, name, length, shown=path)
    return None


def statvfs(path: Any) -> os.statvfs_result:
    world = current_world()
    if world is None or is_real(world, name := named(path)):
        found: os.statvfs_result = _real["statvfs"](path)
        return found
    values = syscall(world, world.files().statvfs, name, shown=path)
    return os.statvfs_result((*values, 0))


# What glibc answers for ext4 (sysdeps/unix/sysv/linux/pathconf.c); for the rest, that there is no limit.
_LIMITS = {
    "PC_LINK_MAX": 65000, "PC_MAX_CANON": 255, "PC_MAX_INPUT": 255, "PC_NAME_MAX": 255, "PC_PATH_MAX": 4096,
    "PC_PIPE_BUF": 4096, "PC_CHOWN_RESTRICTED": 1, "PC_NO_TRUNC": 1, "PC_VDISABLE": 0, "PC_FILESIZEBITS": 64,
    "PC_REC_MIN_XFER_SIZE": 4096, "PC_REC_XFER_ALIGN": 4096, "PC_ALLOC_SIZE_MIN": 4096,
}  # fmt: skip
_LIMIT_OF = {number: _LIMITS.get(name, -1) for name, number in os.pathconf_names.items()}


def pathconf(path: Any, name: Any) -> int:
    world = current_world()
    which = os.pathconf_names.get(name) if isinstance(name, str) else name
    if world is None or is_real(world, where := named(path)) or which not in _LIMIT_OF:
        return _real["pathconf"](path, name)  # type: ignore[no-any-return]
    syscall(world, world.files().stat, where, shown=path)
    return _LIMIT_OF[which]


# --- two paths ------------------------------------------------------------------------------------------


def _moving(name: str) -> Callable[..., None]:
    def move(src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        world = current_world()
        old, new = only_path(src, src_dir_fd), only_path(dst, dst_dir_fd)
        if world is None or old is None or new is None:
            return _real[name](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)  # type: ignore[no-any-return]
        syscall(
            world, world.files().rename, old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, shown=src, shown2=dst
        )  # fmt: skip
        return None

    move.__name__ = move.__qualname__ = name
    return move


rename = _moving("rename")
replace = _moving("replace")


def link(
    src: Any,
    dst: Any,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    world = current_world()
    old, new = only_path(src, src_dir_fd), only_path(dst, dst_dir_fd)
    if world is None or old is None or new is None:
        return _real["link"](  # type: ignore[no-any-return]
            src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks
        )
    # Python calls link(2), which does not follow on Linux, unless something asks for linkat(2).
    at = src_dir_fd is not None or dst_dir_fd is not None
    syscall(
        world, world.files().link, old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd,
        follow=follow_symlinks and at, shown=src, shown2=dst,
    )  # fmt: skip
    return None


def symlink(src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None) -> None:
    world, target, name = current_world(), only_path(src), only_path(dst, dir_fd)
    if world is None or target is None or name is None:
        return _real["symlink"](src, dst, target_is_directory, dir_fd=dir_fd)  # type: ignore[no-any-return]
    syscall(world, world.files().symlink, target, name, dir_fd, shown=src, shown2=dst)
    return None


# --- the process ----------------------------------------------------------------------------------------


def chdir(path: Any) -> None:
    world = current_world()
    if world is None or is_real(world, name := named(path)):
        if world is not None:
            refuse_entering(path)
        return _real["chdir"](path)  # type: ignore[no-any-return]
    calls = world.files()
    syscall(world, calls.fchdir if isinstance(name, int) else calls.chdir, name, shown=path)
    return None


def fchdir(fd: Any) -> None:
    world = current_world()
    if world is None or not isinstance(fd, int) or not ours(world, fd):
        if world is not None:
            refuse_entering(fd)
        return _real["fchdir"](fd)  # type: ignore[no-any-return]
    syscall(world, world.files().fchdir, fd)
    return None


def chroot(path: Any) -> None:
    world = current_world()
    if world is None or (name := only_path(path)) is None:
        return _real["chroot"](path)  # type: ignore[no-any-return]
    syscall(world, world.files().stat, name, shown=path)
    raise active.escape("os.chroot", "give the program the directory in another way")


def getcwd() -> str:
    world = current_world()
    path: str = _real["getcwd"]() if world is None else syscall(world, world.files().getcwd)
    return path


def getcwdb() -> bytes:
    return os.fsencode(getcwd())


def umask(mask: int, /) -> int:
    world = current_world()
    before: int = _real["umask"](mask) if world is None else world.files().set_umask(mask)
    return before


def sync() -> None:
    world = current_world()
    if world is None:
        return _real["sync"]()  # type: ignore[no-any-return]
    syscall(world, world.files().fs.sync_all)
    return None


def install() -> None:
    """Replace functions that `tempfile` has stored as default arguments, where replacing attributes has no effect.
    Never undone, since the shims call the real functions outside of a world."""
    closer: Any = getattr(tempfile, "_TemporaryFileCloser", None)
    for method in vars(closer).values() if closer is not None else ():
        defaults = getattr(method, "__defaults__", None)
        if defaults and _real["unlink"] in defaults:
            method.__defaults__ = tuple(os.unlink if value is _real["unlink"] else value for value in defaults)


REPLACEMENTS: list[tuple[object, str, object]] = [(os, name, builtin(globals()[name])) for name in _real]
