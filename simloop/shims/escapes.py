"""Detection of escapes (calls that would reach the real world): functions that raise `EscapedSimulationError` in a run,
and an audit hook for everything else."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import ssl
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

from simloop.errors import RealLibraryWarning
from simloop.shims import late, opened
from simloop.world import active

_MOCK = "replace it in the test"
_THREAD = "start it with threading or _thread"
_SUBPROCESS = "start the process with subprocess or asyncio; or " + _MOCK

# Audit events (https://docs.python.org/3/library/audit_events.html) of calls that reach the operating
# system: what to call them, and the remedy.
AUDITED: dict[str, tuple[str, str]] = {
    "socket.__new__": ("a socket of the C module _socket", "make it with socket.socket, or a class derived from that"),
    "os.system": ("os.system", _SUBPROCESS),
    "os.fork": ("os.fork", _SUBPROCESS),
    "os.forkpty": ("os.forkpty", _SUBPROCESS),
    "os.posix_spawn": ("os.posix_spawn", _SUBPROCESS),
    "os.spawn": ("os.spawn", _SUBPROCESS),
    "os.exec": ("os.exec", _SUBPROCESS),
    "pty.spawn": ("pty.spawn", _SUBPROCESS),
    "os.kill": ("os.kill", "send it with os.kill"),
    "os.killpg": ("os.killpg", "send it with os.kill"),
    "signal.pthread_kill": ("signal.pthread_kill", "send it with os.kill"),
    "_thread.start_new_thread": ("a thread of its own", _THREAD),
    "_thread.start_joinable_thread": ("a thread of its own", _THREAD),
    "socket.getaddrinfo": ("a real name look-up", "look names up through the socket module"),
    "socket.gethostbyname": ("a real name look-up", "look names up through the socket module"),
    "socket.gethostbyaddr": ("a real name look-up", "look names up through the socket module"),
    "socket.getnameinfo": ("a real name look-up", "look names up through the socket module"),
}


# Audit events of calls that change the real disk. Those of the simulated functions never get so far.
CHANGING = (
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.removexattr", "os.rename", "os.rmdir",
    "os.setxattr", "os.symlink", "os.truncate", "os.utime",
)  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _imports() -> bool:
    """Return True while the import system itself writes the bytecode of a module, which is no escape. (The module
    `py_compile` uses the same functions for other purposes.)"""
    frame = sys._getframe(2)
    above = frame.f_back
    return all(
        found is not None and found.f_code.co_filename.startswith("<frozen importlib") for found in (frame, above)
    )


# Most events are others: they come with every look at a frame.
_WATCHED = frozenset({*AUDITED, *CHANGING, "open", "mmap.__new__", "sqlite3.connect", "ctypes.dlopen", "ctypes.dlsym"})

# Libraries of which `_warn` has told.
_told: set[str] = set()


def _warn(library: str | None) -> None:
    """Warn, once for each library, that its functions are called through `ctypes` and are not simulated; no audit event
    reports the calls themselves. Does nothing for None, the running program."""
    if library is not None and library not in _told:
        from simloop.sources import call_site, level_of_caller

        _told.add(library)
        message = f"{call_site()}: {library} is called through ctypes in a run: what it does there is real"
        warnings.warn(message, RealLibraryWarning, stacklevel=level_of_caller())


# True once a run has opened a database.
_databases = False


# A hook outlives its module at the interpreter's end, when that has no names any more: hence the default.
def _audit(event: str, args: tuple[Any, ...], watched: frozenset[str] = _WATCHED) -> None:
    if event not in watched:
        return
    if event == "sqlite3.connect":
        _opening(args[0])
    if active.entered is None or active.entered.reaching_out or _starts_stack():
        return
    if event in AUDITED:
        if active.is_inside():
            raise active.escape(*AUDITED[event])
    elif event == "open":
        # A number is a descriptor that is open already.
        writes = args[2] & _WRITES and not isinstance(args[0], int)
        if writes and active.is_inside() and not _imports():
            raise active.escape(f"opening the real file {args[0]!r} for writing", "open it with open() or os.open()")
    elif event in CHANGING:
        if active.is_inside() and not _imports():
            raise active.escape(f"{event} of the real file {args[0]!r}", "use the function of the module os")
    elif event.startswith("ctypes."):
        if active.is_inside():
            _warn(args[0] if event == "ctypes.dlopen" else args[0]._name)
    elif event == "mmap.__new__":
        world = active.world()
        if world is not None and args[0] in world.current.files:
            raise active.escape("mmap of a simulated file", "read it instead, or replace it in the test")
        if world is not None and args[2] in _SHARED and args[0] >= 0 and _is_writable(args[0]):
            opened.refuse(args[0])


# What a map may be for (`mmap.ACCESS_DEFAULT`, `mmap.ACCESS_WRITE`) if what is written to it gets into the file.
_SHARED = (0, 2)


def _starts_stack() -> bool:
    """Return True while the simulation itself starts a real thread, to run a simulated process that may block."""
    stacks = sys.modules.get("simloop.kernel.stacks")
    return stacks is not None and bool(stacks.starting)


def _is_writable(fd: int) -> bool:
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    except OSError:
        return False


def _opening(database: Any) -> None:
    """Make SQLite open `database`, which is about to be opened, on the simulated disk; outside of a world, on the real
    one."""
    global _databases
    if _databases or active.is_inside():
        shim = late.load("simloop.shims.sqlite3.opening")
        _databases = True
        shim.opening(database)


_FILE_OF_C = "C code writes that file; " + _MOCK


def _optional(name: str) -> Any:
    """Return the module of that name, or None if this Python does not have it."""
    try:
        return import_module(name)
    except ImportError:
        return None


# Functions of `os` that change what the real process is and may do.
_PRIVILEGED = (
    "abort", "initgroups", "sched_setparam", "sched_setscheduler", "setegid", "seteuid", "setgid", "setgroups", "setns",
    "setregid", "setresgid", "setresuid", "setreuid", "setuid", "tcsetpgrp", "unshare",
)  # fmt: skip


# Calls that no audit event announces.
REFUSED: list[tuple[object, str, str, str]] = [
    (_optional("_gdbm"), "open", "dbm.gnu", _FILE_OF_C),
    (_optional("_dbm"), "open", "dbm.ndbm", _FILE_OF_C),
    (_optional("_posixshmem"), "shm_open", "shared memory", _MOCK),
    (_optional("readline"), "write_history_file", "readline.write_history_file", _FILE_OF_C),
    (_optional("readline"), "append_history_file", "readline.append_history_file", _FILE_OF_C),
    # Static types, which shims have changed, are shared by all interpreters of a process.
    (_optional("_xxsubinterpreters"), "create", "a subinterpreter", _MOCK),
    (_optional("_interpreters"), "create", "a subinterpreter", _MOCK),
    # Whoever may do so changes the machine for all others.
    *(
        (time, name, f"time.{name}", "set the wall clock by sim.clock")
        for name in ("clock_settime", "clock_settime_ns")
    ),
    (socket, "sethostname", "socket.sethostname", "name the host by sim.host"),
    *((os, name, f"os.{name}", _MOCK) for name in _PRIVILEGED),
    (signal, "pidfd_send_signal", "signal.pidfd_send_signal", "send it with os.kill"),
    (os, "openpty", "os.openpty", _SUBPROCESS),
    (os, "posix_openpt", "os.posix_openpt", _SUBPROCESS),
]


def _refusing(real: Callable[..., Any], what: str, remedy: str) -> Callable[..., Any]:
    takes_ids = real.__name__.startswith("set") and real.__name__.endswith("id")

    def refuse(*args: Any, **kwargs: Any) -> Any:
        # The real one says what is wrong with an argument that is no number of a user or group.
        if active.world() is None or (takes_ids and not all(map(_is_id, args))):
            return real(*args, **kwargs)
        raise active.escape(what, remedy)

    refuse.__name__ = what.rpartition(".")[2]
    return refuse


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and -1 <= value < 2**32


def _log_keys(context: Any, path: Any) -> None:
    if path is not None and active.is_inside():
        raise active.escape("the key log of a TLS context", _FILE_OF_C)
    _real_keylog.__set__(context, path)


_real_keylog: Any = ssl.SSLContext.keylog_filename
REPLACEMENTS: list[tuple[object, str, object]] = [
    *(
        (owner, name, _refusing(getattr(owner, name), what, remedy))
        for owner, name, what, remedy in REFUSED
        if hasattr(owner, name)
    ),
    (ssl.SSLContext, "keylog_filename", property(_real_keylog.__get__, _log_keys)),
]

_hooked = False


def install() -> None:
    """Add the audit hook, once per interpreter, since it cannot be removed again. Outside of a world it does
    nothing."""
    global _hooked
    if not _hooked:
        _hooked = True
        sys.addaudithook(_audit)
    if "_sqlite3" in sys.modules:
        # Before the first call, which else is in C already when it is found out.
        import_module("simloop.shims.sqlite3.calls").install()
