"""Shims of files, sockets and pipes that were opened before the run: writing to them in a run raises
`EscapedSimulationError`, and so does reading from sockets and pipes. The standard streams stay real, and so do files
without a name, in which test runners capture output."""

from __future__ import annotations

import _io
import posix
import socket
import ssl
import sys
from collections.abc import Callable
from stat import S_ISDIR, S_ISFIFO, S_ISREG, S_ISSOCK
from typing import Any

from simloop.world import active

_REMEDY = "open it in the run, or replace it in the test"
#: Description of an escape by a process of multiprocessing, and the remedy.
MULTIPROCESSING = "a process of multiprocessing", "run its work in an executor of threads, or replace it"
_STANDARD = 3
#: Identities (device and inode) of files that the test runner itself writes, also during a run.
exempt: set[tuple[int, int]] = set()


def refuse(fd: Any, *, reading: bool = False) -> None:
    """Raise `EscapedSimulationError` if `fd` is a real descriptor from before the run that must not be written to (with
    `reading`: read from) in a run: of a file, socket or pipe other than the standard streams."""
    if not isinstance(fd, int) or 0 <= fd < _STANDARD:
        return
    try:
        found = posix.fstat(fd)
    except OSError:
        return  # the call itself fails as well
    if S_ISREG(found.st_mode):
        kind = "file"
        if reading or not found.st_nlink:
            return
    elif S_ISFIFO(found.st_mode) or S_ISSOCK(found.st_mode):
        kind = "pipe" if S_ISFIFO(found.st_mode) else "socket"
    else:
        return
    identity = (found.st_dev, found.st_ino)
    if identity not in exempt and not _is_standard(fd, identity):
        from simloop.sources import calling_frame

        caller = calling_frame()
        if caller is not None and caller.f_globals.get("__name__") == "multiprocessing.resource_tracker":
            raise active.escape(*MULTIPROCESSING)  # the pipe to a process that was there before
        raise active.escape(f"a real {kind} that was opened before the run", _REMEDY)


def refuse_entering(fd: Any) -> None:
    """Raise `EscapedSimulationError` if `fd` is the descriptor of a real directory, which would become the working
    directory."""
    try:
        entered = isinstance(fd, int) and S_ISDIR(posix.fstat(fd).st_mode)
    except OSError:
        return
    if entered:
        raise active.escape("a real directory that was opened before the run", _REMEDY)


def _is_standard(fd: int, identity: tuple[int, int]) -> bool:
    """Return True if the descriptor is that of a standard stream, or if the file with this identity (device and inode)
    is what one of them refers to, redirected or not."""
    for stream in range(_STANDARD):
        try:
            found = posix.fstat(stream)
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == identity:
            return True
    for file in (sys.stdout, sys.stderr):
        try:
            if file.fileno() == fd:
                return True
        except (AttributeError, OSError, ValueError):
            continue
    return False


def _guarding(real: Callable[..., Any]) -> Callable[..., Any]:
    """Return a replacement of a method that writes to files: in a run it raises `EscapedSimulationError` for a real
    file."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if active.entered is not None:
            _check(self)
        return real(self, *args, **kwargs)

    method.__name__, method.__qualname__, method.__doc__ = real.__name__, real.__qualname__, real.__doc__
    return method


def _check(file: Any) -> None:
    world = active.here()
    if world is None or world.reaching_out:
        return
    try:
        fd = file.fileno()
    except (AttributeError, OSError, ValueError):
        return  # it is in memory, or closed
    from simloop.kernel.descriptors import FIRST_FD

    if isinstance(fd, int) and fd < FIRST_FD:
        refuse(fd)


def _refusing(real: Callable[..., Any]) -> Callable[..., Any]:
    """Return a replacement of a method of sockets: in a run it raises `EscapedSimulationError` for a real socket. For a
    simulated socket, on which a derived class may call the method of its base class by name, it calls the simulated
    method."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        simulated = getattr(type(self), "simulated_class", None)
        if simulated is not None:
            # Of `ssl.SSLSocket` the real methods go by what stands below them.
            return getattr(simulated, real.__name__, real)(self, *args, **kwargs)
        if active.entered is not None and active.is_inside() and not active.entered.reaching_out:
            raise active.escape("a real socket that was opened before the run", _REMEDY)
        return real(self, *args, **kwargs)

    method.__name__, method.__qualname__, method.__doc__ = real.__name__, real.__qualname__, real.__doc__
    return method


# The rest of what files and sockets can do goes through these.
_FILES = (
    (_io.FileIO, ("truncate", "write")), (_io.BufferedWriter, ("write",)), (_io.BufferedRandom, ("write",)),
    (_io.TextIOWrapper, ("write",)),
)  # fmt: skip
_SOCKETS = (
    "_accept", "bind", "connect", "connect_ex", "listen", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg",
    "recvmsg_into", "send", "sendall", "sendmsg", "sendto", "shutdown",
)  # fmt: skip

REPLACEMENTS: list[tuple[object, str, object]] = [
    *((owner, name, _guarding(getattr(owner, name))) for owner, names in _FILES for name in names),
    *((socket.socket, name, _refusing(getattr(socket.socket, name))) for name in _SOCKETS),
    *((ssl.SSLSocket, name, _refusing(getattr(ssl.SSLSocket, name))) for name in ("read", "write")),
]
