"""Late shims: those that most runs never call. Their modules are imported by the first call in a world.

Importing all of them takes longer than a short test suite, since most code of the simulated kernel comes with them. So
each is replaced by a stand-in, which calls the real function outside of a world, and imports and calls the shim inside.
"""

from __future__ import annotations

import _io
import _posixsubprocess
import _socket
import _thread
import atexit
import builtins
import concurrent.futures.thread
import faulthandler
import fcntl
import functools
import io
import logging
import os
import random
import resource
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import uuid
from asyncio import mixins
from importlib import import_module
from typing import Any

from simloop.shims.patch import Replacement, builtin, original
from simloop.world import active

# As `simloop.kernel.descriptors` has it, which a session without open files does not import.
FIRST_FD = 1 << 20


def _is_drawing(value: object) -> bool:
    return getattr(value, "__self__", None) is random._inst


#: For each module of late shims: the owners (modules and classes) and names of the attributes that it replaces, if this
#: Python has them. Such a module gets the real functions from `real`, since its stand-ins may already be in place when
#: it is imported.
LATE: dict[str, tuple[tuple[Any, tuple[str, ...]], ...]] = {
    "simloop.shims.atexit": ((atexit, ("register", "unregister")),),
    "simloop.shims.faulthandler": ((faulthandler, ("cancel_dump_traceback_later", "dump_traceback_later")),),
    "simloop.shims.io": (
        (builtins, ("open",)),
        (io, ("open", "open_code")),
        # Not open_code: imports are real.
        (_io, ("open",)),
    ),
    "simloop.shims.logging": ((logging.Handler, ("handle",)),),
    "simloop.shims.os.counters": (
        (
            os,
            (
                "eventfd", "eventfd_read", "eventfd_write",
                # New in Python 3.13.
                "timerfd_create", "timerfd_gettime", "timerfd_gettime_ns", "timerfd_settime", "timerfd_settime_ns",
            ),
        ),
    ),
    "simloop.shims.os.descriptors": (
        (
            os,
            (
                "closerange", "copy_file_range", "dup", "dup2", "fchmod", "fchown", "fdatasync", "fpathconf", "fstat",
                "fstatvfs", "fsync", "ftruncate", "get_blocking", "get_inheritable", "isatty", "lockf", "lseek",
                "memfd_create", "posix_fadvise", "posix_fallocate", "pread", "preadv", "pwrite", "pwritev", "read",
                "readv", "set_blocking", "set_inheritable", "write", "writev",
            ),
        ),
        (fcntl, ("fcntl", "flock", "lockf")),
    ),
    "simloop.shims.os.listing": ((os, ("listdir", "scandir")),),
    "simloop.shims.os.machine": ((os, ("getloadavg", "sysconf", "uname")),),
    "simloop.shims.os.paths": (
        (
            os,
            (
                "access", "chdir", "chmod", "chown", "chroot", "fchdir", "getcwd", "getcwdb", "lchown", "link", "lstat",
                "mkdir", "mkfifo", "mknod", "open", "pathconf", "readlink", "remove", "rename", "replace", "rmdir",
                "stat", "statvfs", "symlink", "sync", "truncate", "umask", "unlink", "utime",
            ),
        ),
    ),
    "simloop.shims.os.pipes": ((os, ("pipe", "pipe2", "sendfile", "splice")), (fcntl, ("ioctl",))),
    "simloop.shims.os.processes": (
        (
            os,
            (
                "_exit", "getpgid", "getpgrp", "getsid", "pidfd_open", "setpgid", "setsid", "wait", "wait3", "wait4",
                "waitid", "waitpid",
            ),
        ),
        (subprocess.Popen, ("_internal_poll",)),
    ),
    "simloop.shims.os.scheduling": (
        (
            os,
            (
                "cpu_count", "getpriority", "nice",
                # New in Python 3.13.
                "process_cpu_count",
                "sched_getaffinity", "sched_setaffinity", "setpriority",
            ),
        ),
    ),
    "simloop.shims.os.usage": ((os, ("times",)), (resource, ("getrusage",))),
    "simloop.shims.os.xattrs": ((os, ("getxattr", "listxattr", "removexattr", "setxattr")),),
    "simloop.shims.random": (
        # And the methods of the hidden generator that the module offers as functions.
        (random, ("_urandom", *(name for name, value in vars(random).items() if _is_drawing(value)))),
        (random.Random, ("seed",)),
        (os, ("getpid", "getppid", "getrandom", "urandom")),
        # The second until Python 3.11.
        (ssl, ("RAND_bytes", "RAND_pseudo_bytes")),
        (tempfile, ("_get_candidate_names",)),
        (uuid, ("getnode", "uuid1")),
    ),
    "simloop.shims.resource": ((resource, ("getrlimit", "prlimit", "setrlimit")),),
    # What the classes of `selectors` hold, `simloop.shims.patch` replaces.
    "simloop.shims.select": ((select, ("epoll", "poll", "select")),),
    "simloop.shims.signal": (
        (
            signal,
            (
                "alarm", "getitimer", "getsignal", "pause", "pthread_kill", "pthread_sigmask", "raise_signal",
                "set_wakeup_fd", "setitimer", "siginterrupt", "signal", "sigpending", "sigtimedwait", "sigwait",
                "sigwaitinfo",
            ),
        ),
        (_thread, ("interrupt_main",)),
        (os, ("kill", "killpg")),
    ),
    "simloop.shims.socket.names": (
        (
            socket,
            (
                "getaddrinfo", "getfqdn", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "gethostname",
                "getnameinfo", "if_indextoname", "if_nameindex", "if_nametoindex",
            ),
        ),
    ),
    "simloop.shims.socket.sockets": (
        (socket.socket, ("__new__",)),
        (socket, ("close", "dup")),
        # What the function of `socket` calls.
        (_socket, ("socketpair",)),
        (os, ("close",)),
    ),
    "simloop.shims.ssl.certificates": (
        (
            ssl.SSLContext,
            (
                "load_cert_chain", "load_default_certs", "load_dh_params", "load_verify_locations",
                "set_default_verify_paths",
            ),
        ),
    ),
    "simloop.shims.ssl.contexts": (
        (ssl.SSLContext, ("__new__", "_wrap_bio", "_wrap_socket")),
    ),
    "simloop.shims.loop_bound": ((mixins._LoopBoundMixin, ("_get_loop",)),),
    "simloop.shims.threading": (
        (concurrent.futures.thread._WorkItem, ("run",)),
        # threading.Thread.start() goes through the first up to 3.12, through the second since 3.13.
        (
            threading,
            ("_counter", "_start_new_thread", "_start_joinable_thread", "active_count", "enumerate", "get_native_id"),
        ),
        (threading.Thread, ("is_alive", "join")),
        (_thread, ("_count", "get_native_id", "start_joinable_thread", "start_new_thread")),
    ),
    "simloop.shims.subprocess": (
        (_posixsubprocess, ("fork_exec",)),
        (subprocess, ("_fork_exec",)),
        (subprocess.Popen, ("_execute_child",)),
        (shutil, ("which",)),
        (os, ("posix_spawn", "posix_spawnp", "system")),
    ),
}  # fmt: skip


def real(module: str, owner: Any = os) -> dict[str, Any]:
    """Return the real functions of `owner` (a module or class) that the late shims in `module` replace, by name."""
    names = next(names for where, names in LATE[module] if where is owner)
    return {name: original(owner, name) for name in names if hasattr(owner, name)}


def stand_ins() -> list[Replacement]:
    """Return a replacement for each function that has a late shim: its stand-in."""
    return [
        (owner, name, _stand_in(module, owner, name, _closing(function) if name == "close" else function))
        for module, replaced in LATE.items()
        for owner, _ in replaced
        for name, function in real(module, owner).items()
    ]


def _closing(real_close: Any) -> Any:
    """Return the real `os.close` but for simulated descriptors, whose world has ended: it passes over those. They are
    closed by objects that outlive their run, such as the queues of multiprocessing."""

    def close(fd: int) -> None:
        if not isinstance(fd, int) or fd < FIRST_FD:
            real_close(fd)

    return close


def _stand_in(module: str, owner: Any, name: str, function: Any) -> Any:
    """Return the stand-in of `function`, the attribute `name` of `owner`, which imports the shim in `module` at its
    first call in a world, and calls it. The stand-in is never replaced by the shim: programs may compare ``os.lstat``
    with a reference that they have stored, as `shutil` does."""
    if isinstance(owner, type) and name != "__new__":
        return _method(module, owner, name, function)

    def first(*args: Any, **kwargs: Any) -> Any:
        if not active.is_inside():
            return function(*args, **kwargs)
        shim = _shim(module, owner, name)
        # From here on without a frame in between.
        forward.__setstate__((shim, (), {}, vars(forward)))  # type: ignore[attr-defined]
        return shim(*args, **kwargs)

    forward = functools.partial(first)
    vars(forward).update(__module__=owner.__name__, __name__=name, __qualname__=name, __doc__=function.__doc__)
    return builtin(forward)


def _method(module: str, owner: Any, name: str, function: Any) -> Any:
    """Return a stand-in for a method, which, unlike a partial function, is bound to its instance. The shim replaces it
    at its first call in a world, since nobody compares methods of `subprocess.Popen`. References to the stand-in still
    work."""
    shim: Any = None

    def method(*args: Any, **kwargs: Any) -> Any:
        nonlocal shim
        if shim is None:
            if not active.is_inside():
                return function(*args, **kwargs)
            shim = _shim(module, owner, name)
        if vars(owner).get(name) is method:
            setattr(owner, name, shim)
        return shim(*args, **kwargs)

    method.__module__, method.__name__, method.__qualname__ = owner.__module__, name, f"{owner.__qualname__}.{name}"
    return method


@functools.cache
def load(module: str) -> Any:
    """Return a module of late shims, imported on first use."""
    # It is no import of the program's.
    with active.world_entered(None):
        imported = import_module(module)
    prepare = getattr(imported, "install", None)
    if prepare is not None:
        prepare()
    return imported


def _shim(module: str, owner: Any, name: str) -> Any:
    shims = {(id(place), attribute): shim for place, attribute, shim in load(module).REPLACEMENTS}
    shim = shims[id(owner), name]
    return getattr(shim, "__func__", shim)
