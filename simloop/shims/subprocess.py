"""Shims that start processes (of `subprocess`, `os.posix_spawn` and so on): these run the programs that the test has
registered.

`subprocess.Popen` itself is unmodified: the C functions that it calls, and the functions of `os`, are replaced.
"""

from __future__ import annotations

import _posixsubprocess
import errno
import os
import posix
import posixpath
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from simloop.kernel.descriptors import FIRST_FD, File
from simloop.kernel.errors import fail
from simloop.kernel.files.inodes import Regular
from simloop.shims.late import real
from simloop.shims.opened import MULTIPROCESSING
from simloop.shims.os.descriptors import write
from simloop.shims.os.paths import syscall
from simloop.shims.os.processes import PopenReference, may_join, waitpid
from simloop.shims.patch import builtin
from simloop.sources import call_site, calling_frame
from simloop.world import active, lives

if TYPE_CHECKING:
    from simloop.kernel.files.resolve import Credentials
    from simloop.kernel.process.process import Process
    from simloop.world.world import World

_real_fork_exec = real(__name__, _posixsubprocess)["fork_exec"]
_real_execute_child = real(__name__, subprocess.Popen)["_execute_child"]
_real_which = real(__name__, shutil)["which"]
_real = real(__name__)
#: Beginning of the note on an error for a program that the test has not registered.
UNPLAYED = "simloop: no program of that name is registered"
_NOTE = UNPLAYED + "; play it with @sim.program({name!r})"
# Where registered programs are said to be installed, in the PATH of every Linux.
_BIN = "/usr/bin"


# --- what is run, and how -------------------------------------------------------------------------------


def find_program(world: World, executables: Iterable[str], argv: Sequence[str], cwd: str | None = None) -> Any:
    """Return the registered program for the first of the files `executables` that can be run with the arguments `argv`,
    by a process whose working directory is `cwd` (default: that of the current process). Fails as exec_in_child() in
    Modules/_posixsubprocess.c does: with the first error other than that a file does not exist."""
    found = errno.ENOENT
    for executable in executables:
        program = world.programs.find(executable, argv)
        if program is not None:
            return program
        path = posixpath.join(world.files().cwd.path if cwd is None else cwd, executable)
        program = world.programs.find(posixpath.normpath(path), argv)
        if program is not None:
            return program
        number = _exec_error(world, path)
        if found in (errno.ENOENT, errno.ENOTDIR):
            found = number
    raise fail(found)


def _exec_error(world: World, path: str) -> int:
    """Return the errno with which execve(2) fails for a file for which no program is registered."""
    calls = world.files()
    try:
        mode = syscall(world, calls.stat, path).mode
        syscall(world, calls.access, path, os.X_OK)
        if not S_ISREG(mode):
            return errno.EACCES
        description = syscall(world, calls.open, path, os.O_RDONLY)
    except OSError as error:
        return error.errno or errno.ENOENT
    try:
        inode = description.inode
        if not isinstance(inode, Regular) or inode.is_real:
            # What happens to be installed on the real machine must make no difference.
            return errno.ENOENT
        head = description.pread(4, 0)
    finally:
        description.close()
    if head.startswith((b"#!", b"\x7fELF")):
        raise active.escape(f"running the file {path!r}", f"play it with @sim.program({path!r})")
    return errno.ENOEXEC


def environment(process: Process) -> dict[str, str]:
    """Return the environment with which `process` was started. Its children inherit it, unless they are given
    another."""
    own: Any = os.environ
    environ = own._data if process.environ is None else process.environ
    if environ and type(next(iter(environ))) is bytes:
        return {own.decodekey(name): own.decodevalue(value) for name, value in environ.items()}
    return dict(environ)


def _inherited(process: Process) -> dict[Any, Any]:
    """Return a copy of the environment of a process, for a child that inherits it. It stays encoded, as in
    `os.environ`, since the child may never read it."""
    own: Any = os.environ
    environ: dict[Any, Any] = own._data if process.environ is None else process.environ
    return environ.copy()


def _decoded(env: Mapping[Any, Any] | None, process: Process) -> dict[Any, Any]:
    if env is None or (env is os.environ and process.environ is None):
        return _inherited(process)
    return {_text(name): _text(value) for name, value in env.items()}


def _text(argument: Any) -> str:
    """Return a path or an argument of a program as text, checked as by PyUnicode_FSConverter()."""
    text = os.fsdecode(argument)
    if "\0" in text:
        raise ValueError("embedded null byte")
    return text


def _directory(world: World, cwd: str) -> str:
    """Return the absolute working directory of a child that is started with `cwd`. Fails as chdir(2) does."""
    own = world.files()
    from simloop.kernel.files.calls import FileCalls

    probe = FileCalls(own.fs, world.current, own.credentials)
    probe.cwd = own.cwd
    syscall(world, probe.chdir, cwd)
    return probe.cwd.path


def _group(world: World, start_new_session: bool, group: int) -> int:
    """Return `group`, the process group that a child is to join by setpgid(2): 0 for a new one of its own, -1 for its
    parent's. Fails with EPERM if it may not join."""
    # Who leads a session, as the child does by then, cannot go to a group, not even to its own.
    if (group >= 0 and start_new_session) or (group > 0 and not may_join(world.current, group)):
        raise fail(errno.EPERM)
    return group


def _become(child: Process, start_new_session: bool, group: int) -> int:
    if start_new_session:
        child.group = child.session = child.pid
        child.table.has_groups = True
    elif group >= 0:
        child.group = group or child.pid
        child.table.has_groups = True
    return child.pid


# --- subprocess -----------------------------------------------------------------------------------------


def fork_exec(
    args: Sequence[Any],
    executables: Sequence[Any],
    close_fds: bool,
    keep: tuple[int, ...],
    cwd: Any,
    env: Sequence[bytes] | None,
    p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int,
    errpipe_read: int, errpipe_write: int,
    restore_signals: bool, start_new_session: bool, process_group: int,
    gid: int | None, gids: Sequence[int] | None, uid: int | None, umask: int,
    preexec_fn: Any, *rest: Any,
) -> int:  # fmt: skip
    world = active.world()
    if world is None:
        pid: int = _real_fork_exec(
            args, executables, close_fds, keep, cwd, env, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite,
            errpipe_read, errpipe_write, restore_signals, start_new_session, process_group,
            gid, gids, uid, umask, preexec_fn, *rest,
        )  # fmt: skip
        return pid
    caller = calling_frame()
    if caller is not None and caller.f_globals.get("__name__") == "multiprocessing.util":
        # What it starts is this interpreter with this program, which nobody can play.
        raise active.escape(*MULTIPROCESSING)
    if preexec_fn is not None:
        # It would run in this process, and change it instead of the child.
        raise active.escape(
            "preexec_fn", "use the options start_new_session, process_group, umask, user or group of subprocess"
        )
    paths, argv = [_text(path) for path in executables], [_text(arg) for arg in args]
    environ = _inherited(world.current) if env is None else dict(_text(pair).split("=", 1) for pair in env)
    directory = None if cwd is None else _text(cwd)
    parent = world.current
    # "noexec" tells subprocess that it was not the program that could not be run.
    stage = b"noexec"
    try:
        files = _inherited_files(parent, close_fds, keep, (p2cread, c2pwrite, errwrite), errpipe_write)
        if directory is not None and sys.version_info >= (3, 13):
            stage = b"noexec:chdir"
        where = None if directory is None else _directory(world, directory)
        stage = b"noexec"
        group = _group(world, start_new_session, process_group)
        credentials = _credentials(world.files().credentials, gid, gids, uid)
        stage = b""
        program = find_program(world, paths, argv, where)
    except OSError as error:
        return _failed(world, errpipe_write, error.errno or 0, stage)
    child = lives.spawn(world, parent, files, argv, program, environ, directory, call_site())
    if child.calls is not None:
        child.calls.credentials = credentials
        if umask >= 0:
            child.calls.umask = umask
    return _become(child, start_new_session, group)


def _inherited_files(
    parent: Process, close_fds: bool, keep: Sequence[int], standard: tuple[int, int, int], errpipe: int
) -> dict[int, File]:
    """Return the open files of a child by descriptor: inherited or passed on ones (`keep`), and 0 to 2 as given by
    `standard`, -1 meaning the parent's. `errpipe` is not passed on."""
    files = {} if close_fds else {fd: file for fd, file in parent.files.items() if fd in parent.inheritable}
    for fd in keep:
        if fd == errpipe:
            continue
        if fd in parent.files:
            files[fd] = parent.files[fd]
        elif fd > 2:
            if fd < FIRST_FD:
                posix.fstat(fd)  # a closed one is no escape
                raise active.escape(f"passing on the real descriptor {fd}", "open the file inside the run")
            raise fail(errno.EBADF)
    if parent.files:
        for number, fd in enumerate(standard):
            if fd == -1:
                fd = number
            if fd in parent.files:
                files[number] = parent.files[fd]
    return files


def _credentials(own: Credentials, gid: int | None, gids: Sequence[int] | None, uid: int | None) -> Credentials:
    """Return the credentials of a child after setgroups(2), setregid(2) and setreuid(2). Fails with EPERM if they
    differ from `own`, the parent's, which is not root."""
    if own.uid and (gids is not None or gid not in (None, own.gid) or uid not in (None, own.uid)):
        raise fail(errno.EPERM)
    from simloop.kernel.files.resolve import Credentials

    return Credentials(
        own.uid if uid is None else uid,
        own.gid if gid is None else gid,
        own.groups if gids is None else tuple(gids),
    )


def _failed(world: World, errpipe: int, number: int, message: bytes) -> int:
    """Create a child that failed to start and has ended, and write its error to `subprocess` through the pipe
    `errpipe`, as _posixsubprocess.c does. Return its pid."""
    # Not os.write, which a test may have replaced: blockbuster refuses calls that block.
    write(errpipe, b"OSError:%X:%s" % (number, message))
    # A child that has ended already, so that it can be waited for.
    return lives.spawn_failed(world, world.current).pid


def execute_child(self: Any, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any,
                  env: Any, startupinfo: Any, creationflags: Any, shell: Any,
                  p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int,
                  restore_signals: Any, *rest: Any) -> None:  # fmt: skip
    world = active.world()
    if (
        world is not None
        and (cwd, env, executable, shell, preexec_fn, close_fds, pass_fds, rest) == _USUAL
        and type(args) in (list, tuple)
        and _start_plainly(world, self, [*args], (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite))
    ):
        world.current.kept.append(PopenReference(self))
        return
    try:
        _real_execute_child(
            self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, *rest,
        )  # fmt: skip
    except OSError as error:
        if world is not None and error.filename is not None and error.filename is not cwd:
            _explain(error, error.filename)
        raise
    if world is not None:
        world.current.kept.append(PopenReference(self))


# cwd, env, executable, shell, preexec_fn, close_fds, pass_fds; gid, gids, uid, umask, start_new_session, process_group:
# of those who ask for none of them.
_USUAL = (None, None, None, False, None, True, (), (None, None, None, -1, False, -1))


def _start_plainly(world: World, popen: Any, argv: list[Any], fds: tuple[int, ...]) -> bool:
    """Start a child by a short cut that does the same as `_execute_child` in the usual case, and return True. In any
    other case, such as an error, return False without any effect."""
    if not argv or not argv[0]:
        return False
    for arg in argv:
        if type(arg) is not str or "\0" in arg:
            return False
    program = world.programs.find(argv[0], argv) if "/" in argv[0] else None
    if program is None:
        try:
            program = find_program(world, _on_path(argv[0]), argv)
        except OSError:
            return False
    sys.audit("subprocess.Popen", argv[0], argv, None, None)
    parent = world.current
    files = _inherited_files(parent, True, (), (fds[0], fds[3], fds[5]), -1) if parent.files else {}
    environ = {} if program.is_silent else _inherited(parent)
    # The innermost frames are known: to look at each is a tenth of what is done here.
    place = call_site(sys._getframe(2))
    popen.pid = lives.spawn(world, parent, files, argv, program, environ, None, place).pid
    popen._child_created = True
    if fds != _NO_PIPES or hasattr(popen, "_devnull"):
        popen._close_pipe_fds(*fds)
    return True


_NO_PIPES = (-1,) * 6


def _explain(error: OSError, name: Any) -> None:
    if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC) and not hasattr(error, "__notes__"):
        error.add_note(_NOTE.format(name=os.fsdecode(name)))


# --- os -------------------------------------------------------------------------------------------------


def posix_spawn(path: Any, argv: Any, env: Any, /, **options: Any) -> int:
    world = active.world()
    if world is None:
        pid: int = _real["posix_spawn"](path, argv, env, **options)
        return pid
    return _spawn(world, "posix_spawn", path, [_text(path)], argv, env, **options)


def posix_spawnp(path: Any, argv: Any, env: Any, /, **options: Any) -> int:
    world = active.world()
    if world is None:
        pid: int = _real["posix_spawnp"](path, argv, env, **options)
        return pid
    name = _text(path)
    return _spawn(world, "posix_spawnp", path, _on_path(name), argv, env, **options)


def _on_path(name: str) -> list[str]:
    return [name] if "/" in name else [posixpath.join(entry, name) for entry in os.get_exec_path()]


def _spawn(
    world: World,
    function: str,
    path: Any,
    executables: list[str],
    argv: Any,
    env: Any,
    *,
    file_actions: Any = (),
    setpgroup: int = -1,
    setsid: bool = False,
    resetids: bool = False,
    setsigmask: Any = (),
    setsigdef: Any = (),
    scheduler: Any = None,
) -> int:
    if not isinstance(argv, (list, tuple)):
        raise TypeError(f"{function}: argv must be a tuple or list")
    if not argv:
        raise ValueError(f"{function}: argv must not be empty")
    arguments = [_text(arg) for arg in argv]
    if not arguments[0]:
        raise ValueError(f"{function}: argv first element cannot be empty")
    environ = _decoded(env, world.current)
    try:
        group = _group(world, setsid, setpgroup)
        files = _after_file_actions(world, file_actions or ())
        program = find_program(world, executables, arguments)
    except OSError as error:
        error.filename = path
        _explain(error, path)
        raise
    child = lives.spawn(world, world.current, files, arguments, program, environ, None, call_site())
    return _become(child, setsid, group)


def _after_file_actions(world: World, actions: Iterable[tuple[Any, ...]]) -> dict[int, File]:
    """Return the open files of a child by descriptor, after the file actions of posix_spawn(3) and after execve(2)."""
    parent = world.current
    files, kept = dict(parent.files), dict.fromkeys(parent.inheritable, True)
    for kind, fd, *rest in actions:
        if kind == os.POSIX_SPAWN_OPEN:
            path, flags, mode = rest
            files[fd] = syscall(world, world.files().open, _text(path), flags, mode)
            kept[fd] = True
        elif kind == os.POSIX_SPAWN_CLOSE:
            files.pop(fd, None)
        elif kind == os.POSIX_SPAWN_DUP2:
            target = rest[0]
            if fd in files:
                files[target] = files[fd]
                kept[target] = True
            elif 0 <= fd <= 2:
                files.pop(target, None)  # what the test itself has there
            else:
                raise fail(errno.EBADF)
        else:  # POSIX_SPAWN_CLOSEFROM, since Python 3.13
            files = {number: file for number, file in files.items() if number < fd}
    return {fd: file for fd, file in files.items() if fd in kept}


def system(command: Any) -> int:
    world = active.world()
    if world is None:
        status: int = _real["system"](command)
        return status
    pid = posix_spawn("/bin/sh", ["sh", "-c", _text(command)], None)
    return waitpid(pid, 0)[1]


# --- shutil ---------------------------------------------------------------------------------------------


def which(cmd: Any, mode: int = os.F_OK | os.X_OK, path: Any = None) -> Any:
    """Return the path of a program, as `shutil.which`. Programs that the test has registered are found as if installed,
    unless their names are patterns."""
    world = active.world()
    if world is not None:
        found = _installed(world, os.fsdecode(cmd), path)
        if found is not None:
            return os.fsencode(found) if isinstance(cmd, bytes) else found
    return _real_which(cmd, mode, path)


def _installed(world: World, name: str, path: Any) -> str | None:
    if "/" in name:
        return name if world.programs.is_there(name) or world.programs.is_there(posixpath.basename(name)) else None
    entries = os.fsdecode(os.environ.get("PATH", os.defpath) if path is None else path).split(os.pathsep)
    for entry in entries:
        if world.programs.is_there(posixpath.join(entry, name)):
            return posixpath.join(entry, name)
    if not world.programs.is_there(name) or entries == [""]:
        return None
    return posixpath.join(_BIN if _BIN in entries else entries[0], name)


REPLACEMENTS: list[tuple[object, str, object]] = [
    (_posixsubprocess, "fork_exec", builtin(fork_exec)),
    (subprocess, "_fork_exec", builtin(fork_exec)),
    (subprocess.Popen, "_execute_child", execute_child),
    (shutil, "which", which),
    *((os, name, builtin(globals()[name])) for name in _real),
]
