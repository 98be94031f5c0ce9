"""Connection of the socket shims to the kernel's unix sockets, which are implemented in `simloop.kernel.net.unix`."""

from __future__ import annotations

import errno
import os
import posix
import socket as _socket
from typing import TYPE_CHECKING, Any

from simloop.kernel.errors import fail
from simloop.kernel.net.unix import SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, Ids, UnixSocket

if TYPE_CHECKING:
    from simloop.kernel.files.calls import FileCalls
    from simloop.kernel.net.unix import UnixSpace
    from simloop.world.world import World

_SOCK_RAW = int(_socket.SOCK_RAW)


def ids_of(world: World) -> Ids:
    """Return the pid, user id and group id of the current process."""
    process = world.current
    if process.calls is None:
        return Ids(process.pid, posix.geteuid(), posix.getegid())
    own = process.calls.credentials
    return Ids(process.pid, own.uid, own.gid)


class _Current:
    """Adapter that gives the kernel access to the current process of a world (`simloop.kernel.net.unix.Caller`)."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ids(self) -> Ids:
        return ids_of(self._world)

    def files(self) -> FileCalls:
        return self._world.files()


def _space(world: World, kind: int) -> tuple[UnixSpace, int]:
    """Return the namespace of unix sockets of the current host, and the socket type `kind` in the kernel's form."""
    if kind == _SOCK_RAW:
        kind = SOCK_DGRAM  # "believe it or not BSD has AF_UNIX, SOCK_RAW though nothing uses it" (unix_create())
    if kind not in (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET):
        raise fail(errno.ESOCKTNOSUPPORT if 0 <= kind < 11 else errno.EINVAL)  # SOCK_MAX
    space = world.current.host.unix
    if space.caller is None:
        space.caller = _Current(world)
    return space, kind


def unix_socket(world: World, kind: int) -> UnixSocket:
    """Return a new unix socket of the current host."""
    return UnixSocket(*_space(world, kind))


def unix_pair(world: World, kind: int) -> tuple[UnixSocket, UnixSocket]:
    """Return two unix sockets that are connected to one another."""
    space, kind = _space(world, kind)
    return space.pair(kind)


def call(world: World, function: Any, name: bytes) -> Any:
    """Call a function of the kernel with the name of a unix socket. If the name is a path, virtual time passes for the
    disk."""
    if not name or not name[0]:
        return function(name)
    from simloop.kernel.files.devices import UnsimulatedFileError
    from simloop.shims.os.paths import charge

    fs = world.files().fs
    try:
        return function(name)
    except UnsimulatedFileError:
        from simloop.world import active

        raise active.escape(f"the unix socket {os.fsdecode(name)!r}", "bind it inside the run") from None
    finally:
        if fs.disk.deferred_ns:
            charge(world, fs)
