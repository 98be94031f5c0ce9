"""Shims of the functions of `os` that end a process or wait for one, of those for process groups and sessions, and of
the references to them in `subprocess.Popen`. Processes are started in `shims.subprocess`."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import weakref
from resource import struct_rusage
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from simloop.kernel.errors import fail
from simloop.kernel.process.exits import PidFd, exit_status, find_child, reap
from simloop.kernel.process.table import FIRST_PID
from simloop.shims.late import real
from simloop.shims.patch import builtin
from simloop.world import active, lives

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.world.world import World

_real = real(__name__)


def _exit(status: int) -> NoReturn:
    """End the process at once, without exit handlers or cleanup."""
    world = active.world()
    if world is None:
        _real["_exit"](status)
    elif world.current is world.root:
        raise active.escape("os._exit, which would end the test", "call sys.exit, or end a process of its own")
    else:
        lives.kill(world, world.current, exit_status(status))
        world.stop()
    raise AssertionError("it has ended")


# --- waiting --------------------------------------------------------------------------------------------


# What wait4(2) and waitid(2) may be told; __WNOTHREAD, __WALL and __WCLONE have no names in Python.
_WAIT4 = os.WNOHANG | os.WUNTRACED | os.WCONTINUED | 0xE000_0000
_WAITID = os.WNOHANG | os.WNOWAIT | os.WEXITED | os.WSTOPPED | os.WCONTINUED | 0xE000_0000


def waitpid(pid: int, options: int, /) -> tuple[int, int]:
    world = active.world()
    if world is None:
        found: tuple[int, int] = _real["waitpid"](pid, options)
        return found
    if options & ~_WAIT4:
        raise fail(errno.EINVAL)
    child = _wait_for(world, pid, options)
    return reap(child) if child is not None else (0, 0)


def _wait_for(world: World, pid: int, options: int) -> Process | None:
    """Return a child that has ended, among those that `pid` selects as in waitpid(2). Wait for one, unless `options`
    contains WNOHANG: then return None if there is none."""
    parent = world.current
    child = parent.table.get(pid)
    if child is not None and child.status is not None and child.parent is parent:
        return child  # the one that is meant by most
    child = find_child(parent, pid, asked=True)
    if child is None and not options & os.WNOHANG:
        world.block(lambda: _comes_back(parent, pid))
        child = find_child(parent, pid)
    return child


def _comes_back(parent: Process, pid: int) -> bool:
    try:
        return find_child(parent, pid) is not None
    except ChildProcessError:
        return True  # another thread was told; this one fails when it goes on


def wait() -> tuple[int, int]:
    if active.world() is None:
        found: tuple[int, int] = _real["wait"]()
        return found
    return waitpid(-1, 0)


def wait3(options: int) -> tuple[int, int, struct_rusage]:
    if active.world() is None:
        found: tuple[int, int, struct_rusage] = _real["wait3"](options)
        return found
    return wait4(-1, options)


def wait4(pid: int, options: int) -> tuple[int, int, struct_rusage]:
    if active.world() is None:
        found: tuple[int, int, struct_rusage] = _real["wait4"](pid, options)
        return found
    # What nobody measures here: no time was spent in real processors.
    return *waitpid(pid, options), struct_rusage((0.0, 0.0) + (0,) * 14)


def waitid(idtype: int, ident: int, options: int, /) -> os.waitid_result | None:
    world = active.world()
    if world is None:
        found: os.waitid_result | None = _real["waitid"](idtype, ident, options)
        return found
    if options & ~_WAITID or not options & (os.WEXITED | os.WSTOPPED | os.WCONTINUED):
        raise fail(errno.EINVAL)
    child = _wait_for(world, _waited_for(world, idtype, ident), options)
    if child is None:
        return None
    pid, status = child.pid, child.status
    assert status is not None
    if not options & os.WNOWAIT:
        reap(child)
    code, value = os.CLD_EXITED, status >> 8
    if os.WIFSIGNALED(status):
        code, value = os.CLD_KILLED, os.WTERMSIG(status)
    return os.waitid_result((pid, world.files().credentials.uid, int(signal.SIGCHLD), value, code))


def _waited_for(world: World, idtype: int, ident: int) -> int:
    """Return the `pid` argument of waitpid(2) that selects the same children as these arguments of waitid(2), as
    kernel_waitid_prepare() does."""
    if idtype == os.P_ALL:
        return -1
    if idtype == os.P_PIDFD:
        file = world.current.files.get(ident)
        if not isinstance(file, PidFd):
            raise fail(errno.EINVAL if ident < 0 else errno.EBADF)
        return file.process.pid
    if idtype not in (os.P_PID, os.P_PGID) or ident < (idtype == os.P_PID):
        raise fail(errno.EINVAL)
    return ident if idtype == os.P_PID else -ident


def pidfd_open(pid: int, flags: int = 0) -> int:
    world = active.world()
    if world is None:
        fd: int = _real["pidfd_open"](pid, flags)
        return fd
    if pid <= 0 or flags & ~os.O_NONBLOCK:
        raise fail(errno.EINVAL)
    process = _process(world, pid)
    file = PidFd(process)
    process.observers.append(file)
    return world.current.open(file)


def _process(world: World, pid: int) -> Process:
    if not pid:
        return world.current
    process = world.current.table.get(pid)
    if process is None:
        raise fail(errno.ESRCH)
    return process


# --- groups and sessions --------------------------------------------------------------------------------


def getpgid(pid: int) -> int:
    world = active.world()
    group: int = _real["getpgid"](pid) if world is None else _process(world, pid).group
    return group


def getsid(pid: int, /) -> int:
    world = active.world()
    session: int = _real["getsid"](pid) if world is None else _process(world, pid).session
    return session


def getpgrp() -> int:
    world = active.world()
    group: int = _real["getpgrp"]() if world is None else world.current.group
    return group


def setpgid(pid: int, pgrp: int, /) -> None:
    world = active.world()
    if world is None:
        _real["setpgid"](pid, pgrp)
        return
    # The order of kernel/sys.c.
    own, group = world.current, pgrp or pid or world.current.pid
    if group < 0:
        raise fail(errno.EINVAL)
    process = _process(world, pid)
    if process is not own:
        # All children run programs of their own by then (setpgid(2) on EACCES).
        known = process.parent is own
        raise fail(errno.ESRCH if not known else errno.EACCES if process.session == own.session else errno.EPERM)
    if process.session == process.pid or not may_join(process, group):
        raise fail(errno.EPERM)
    process.group = group
    process.table.has_groups = True


def may_join(process: Process, group: int) -> bool:
    """Return True if `process` may join the process group: one that exists in its session, or a new one of its own."""
    return group == process.pid or any(
        other.group == group and other.session == process.session for other in process.table.values()
    )


def setsid() -> None:
    world = active.world()
    if world is None:
        _real["setsid"]()
        return
    process = world.current
    if process.group == process.pid:
        raise fail(errno.EPERM)
    process.group = process.session = process.pid
    process.table.has_groups = True


# --- subprocess -----------------------------------------------------------------------------------------

_real_internal_poll: Any = real(__name__, subprocess.Popen)["_internal_poll"]
# Popen.poll() calls the waitpid that it has kept, for when it is collected while the interpreter ends.
_kept: Any = getattr(subprocess, "_del_safe", None)
if _kept is None:  # before Python 3.13
    _own_waitpid: dict[str, Any] = {"_waitpid": builtin(lambda pid, options: waitpid(pid, options))}
else:
    _names = {name: getattr(_kept, name) for name in dir(_kept) if not name.startswith("__")}
    _own_waitpid = {"_del_safe": SimpleNamespace(**{**_names, "waitpid": lambda pid, options: waitpid(pid, options)})}


def internal_poll(self: Any, _deadstate: Any = None) -> Any:
    if self.returncode is not None:
        return self.returncode
    # What was started outside of the world, such as a server for all tests, is a real process.
    own = _own_waitpid if self.pid >= FIRST_PID else {}
    return _real_internal_poll(self, _deadstate, **own)


class PopenReference(weakref.ref[Any]):
    """Weak reference to a `subprocess.Popen`, to set its return code when the world ends."""

    __slots__ = ()

    def forget(self) -> None:
        """Set a return code, unless the child was waited for, as nobody can wait for it after the end of the world."""
        popen = self()
        if popen is not None and popen.returncode is None:
            # As subprocess itself does with a child that it knows nothing of: whoever has that pid later is not asked.
            popen.returncode = sys.maxsize


REPLACEMENTS: list[tuple[object, str, object]] = [
    (subprocess.Popen, "_internal_poll", internal_poll),
    *((os, name, builtin(globals()[name])) for name in _real),
]
