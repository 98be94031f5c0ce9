"""Starting processes and waiting for them: `subprocess` over the programs that are registered in the world.

`subprocess.Popen` itself is unmodified: what it calls in C, and the functions of `os`, are replaced.
"""

from __future__ import annotations

import _posixsubprocess
import errno
import os
import subprocess
import sys
from asyncio.base_subprocess import BaseSubprocessTransport
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from simloop.kernel.errors import fail
from simloop.kernel.process import File, Process
from simloop.kernel.processes import PidFd, find_child, reap
from simloop.network.world import World
from simloop.shims import active
from simloop.shims.patch import builtin

_real_fork_exec: Any = _posixsubprocess.fork_exec
_real: dict[str, Any] = {
    name: getattr(os, name)
    for name in ("waitpid", "wait", "pidfd_open", "setsid", "getsid", "getpgid", "getpgrp", "setpgid")
}
_NOTE = "simloop: no program of that name is registered; play it with @sim.program({name!r})"


def fork_exec(
    args: Sequence[bytes],
    executables: Sequence[bytes],
    close_fds: bool,
    keep: tuple[int, ...],
    cwd: Any,
    env: Sequence[bytes] | None,
    p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int,
    errpipe_read: int, errpipe_write: int,
    restore_signals: bool, start_new_session: bool, process_group: int,
    *rest: Any,
) -> int:  # fmt: skip
    world = active.world()
    if world is None:
        pid: int = _real_fork_exec(
            args, executables, close_fds, keep, cwd, env, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite,
            errpipe_read, errpipe_write, restore_signals, start_new_session, process_group, *rest,
        )  # fmt: skip
        return pid
    if sys._getframe(1).f_globals.get("__name__") == "multiprocessing.util":
        # What it starts is this interpreter with this program, which nobody can play.
        raise active.escape("a process of multiprocessing", "run its work in an executor of threads, or replace it")
    parent = world.current
    argv = [os.fsdecode(arg) for arg in args]
    files = _files(parent, keep, (p2cread, c2pwrite, errwrite), errpipe_write)
    # As bytes, since few programs look at it; `os.environ` has them so, too.
    own: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    environ = own.copy() if env is None else dict(pair.split(b"=", 1) for pair in env)
    if cwd is not None:
        try:
            world.files().stat(os.fsdecode(cwd))
        except OSError as error:
            where = b":chdir" if sys.version_info >= (3, 13) else b""
            return _failed(world, errpipe_write, error.errno or 0, b"noexec" + where)
    program = _program(world, [os.fsdecode(path) for path in executables], argv)
    if program is None:
        return _failed(world, errpipe_write, errno.ENOENT, b"")
    child = world.spawn(parent, files, argv, program, environ, None if cwd is None else os.fsdecode(cwd))
    if start_new_session:
        child.group = child.session = child.pid
    elif process_group >= 0:
        child.group = process_group or child.pid
    return child.pid


def _files(parent: Process, keep: Sequence[int], standard: tuple[int, int, int], errpipe: int) -> dict[int, File]:
    """What the child has open: 0 to 2 as asked for, or its parent's, and what is passed on."""
    files = {fd: parent.files[fd] for fd in keep if fd in parent.files and fd != errpipe}
    for number, fd in enumerate(standard):
        if fd == -1:
            fd = number
        if fd in parent.files:
            files[number] = parent.files[fd]
    return files


def _program(world: World, executables: Sequence[str], argv: list[str]) -> Any:
    if world.programs is None:
        return None
    for executable in executables:
        program = world.programs.find(executable, argv)
        if program is not None:
            return program
    return None


def _failed(world: World, errpipe: int, number: int, message: bytes) -> int:
    """The child could not begin: it says so to `subprocess` in the way that _posixsubprocess.c has, and is gone."""
    os.write(errpipe, b"OSError:%X:%s" % (number, message))
    # A child that has ended already, so that it can be waited for.
    return world.stillborn(world.current).pid


_real_execute_child: Any = subprocess.Popen._execute_child  # type: ignore[attr-defined]


def execute_child(self: Any, args: Any, executable: Any, *rest: Any) -> None:
    world = active.world()
    if world is not None:
        self._sim_parent = world.current
    try:
        _real_execute_child(self, args, executable, *rest)
    except FileNotFoundError as error:
        if active.world() is not None:
            error.add_note(_NOTE.format(name=os.fspath(error.filename or "?")))
        raise


def popen_del(self: Any, *args: Any, **kwargs: Any) -> None:
    """What a run leaves is told at its end: the collector comes at no particular time, when the pid means nobody."""
    parent = getattr(self, "_sim_parent", None)
    world = active.world()
    if parent is None or (world is not None and parent in world.processes):
        _real_popen_del(self, *args, **kwargs)


_real_popen_del: Any = subprocess.Popen.__del__
_real_transport_del: Any = BaseSubprocessTransport.__del__


def transport_del(self: Any) -> None:
    """The same for asyncio's transport, which would also end its process."""
    if getattr(self._loop, "world", None) is None or not self._loop.is_closed():
        _real_transport_del(self)


# --- waiting --------------------------------------------------------------------------------------------


def waitpid(pid: int, options: int, /) -> tuple[int, int]:
    world = active.world()
    if world is None:
        found: tuple[int, int] = _real["waitpid"](pid, options)
        return found
    parent = world.current
    child = find_child(parent, pid, asked=True)
    if child is None and not options & os.WNOHANG:
        world.block(lambda: _comes_back(parent, pid))
        child = find_child(parent, pid)
    return reap(child) if child is not None else (0, 0)


def _comes_back(parent: Process, pid: int) -> bool:
    try:
        return find_child(parent, pid) is not None
    except ChildProcessError:
        return True  # somebody else was told; this call fails when it goes on


def wait() -> tuple[int, int]:
    if active.world() is None:
        found: tuple[int, int] = _real["wait"]()
        return found
    return waitpid(-1, 0)


def pidfd_open(pid: int, flags: int = 0) -> int:
    world = active.world()
    if world is None:
        fd: int = _real["pidfd_open"](pid, flags)
        return fd
    process = _process(world, pid)
    file = PidFd(process)
    process.observers.append(file)
    return world.current.open(file)


def _process(world: World, pid: int) -> Process:
    if not pid:
        return world.current
    for process in world.processes:
        if process.pid == pid and process.host is world.current.host and not process.reaped:
            return process
    raise fail(errno.ESRCH)


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
    else:
        process = _process(world, pid)
        process.group = pgrp or process.pid


def setsid() -> None:
    world = active.world()
    if world is None:
        _real["setsid"]()
        return
    process = world.current
    if process.group == process.pid:
        raise fail(errno.EPERM)
    process.group = process.session = process.pid


_real_internal_poll: Any = subprocess.Popen._internal_poll  # type: ignore[attr-defined]
# Popen.poll() calls the waitpid that it has kept, for when it is collected while the interpreter ends.
_kept: Any = getattr(subprocess, "_del_safe", None)
if _kept is None:  # before Python 3.13
    _own_waitpid: dict[str, Any] = {"_waitpid": builtin(lambda pid, options: waitpid(pid, options))}
else:
    _names = {name: getattr(_kept, name) for name in dir(_kept) if not name.startswith("__")}
    _own_waitpid = {"_del_safe": SimpleNamespace(**{**_names, "waitpid": lambda pid, options: waitpid(pid, options)})}


def internal_poll(self: Any, _deadstate: Any = None) -> Any:
    world = active.world()
    parent = getattr(self, "_sim_parent", None)
    if parent is not None and self.returncode is None and (world is None or parent not in world.processes):
        # `subprocess` itself keeps those that nobody has waited for, from run to run: their pid means somebody else.
        self.returncode = _deadstate
        return _deadstate
    return _real_internal_poll(self, _deadstate, **_own_waitpid)


REPLACEMENTS: list[tuple[object, str, object]] = [
    (_posixsubprocess, "fork_exec", builtin(fork_exec)),
    (subprocess, "_fork_exec", builtin(fork_exec)),
    # It would go past fork_exec, for executables that are named by their whole path.
    (subprocess, "_USE_POSIX_SPAWN", False),
    (subprocess.Popen, "_execute_child", execute_child),
    (subprocess.Popen, "_internal_poll", internal_poll),
    (subprocess.Popen, "__del__", popen_del),
    (BaseSubprocessTransport, "__del__", transport_del),
    *((os, name, builtin(globals()[name])) for name in _real),
]
