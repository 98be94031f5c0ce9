"""Ancillary data of sendmsg(2) and recvmsg(2): open files and credentials over unix sockets, and addresses of datagrams
(cmsg(3), unix(7), ip(7))."""

from __future__ import annotations

import errno
import posix
import socket as _socket
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from simloop.kernel.descriptors import FIRST_FD
from simloop.kernel.errors import fail
from simloop.kernel.net.addresses import is_any
from simloop.kernel.net.options import IP_PKTINFO
from simloop.kernel.net.sockets import release
from simloop.world import active

if TYPE_CHECKING:
    from simloop.kernel.descriptors import File
    from simloop.kernel.net.sockets import Received, Socket
    from simloop.kernel.net.unix import Ids
    from simloop.kernel.process.process import Process
    from simloop.world.world import World

_SOL_SOCKET, _SCM_RIGHTS = int(_socket.SOL_SOCKET), int(_socket.SCM_RIGHTS)
_SCM_CREDENTIALS, _MSG_CTRUNC = int(_socket.SCM_CREDENTIALS), int(_socket.MSG_CTRUNC)
_HEADER = 16  # sizeof(struct cmsghdr)
_IPV6_PKTINFO = 50
# SCM_MAX_FD: more files than that go with no message.
_FILES_MAX = 253


def given(
    world: World, process: Process, file: Socket, ancdata: Iterable[Any]
) -> tuple[tuple[File, ...], Ids | str | None]:
    """Parse the ancillary data of sendmsg(2): return the open files to pass on, and the credentials or the source
    address, or None, as __scm_send() and ip_cmsg_send() read them."""
    files: list[File] = []
    more: Ids | str | None = None
    for level, kind, data in ancdata:
        raw = bytes(memoryview(data))
        if level != _SOL_SOCKET:
            if file.protocol == _socket.IPPROTO_UDP:
                more = _source(level, kind, raw) or more
            continue
        if kind == _SCM_RIGHTS:
            if file.family != _socket.AF_UNIX:
                continue  # __sock_cmsg_send() leaves them to others
            numbers = struct.unpack(f"{len(raw) // 4}i", raw[: len(raw) // 4 * 4])
            if len(files) + len(numbers) > _FILES_MAX:
                raise fail(errno.EINVAL)
            files += [file_behind(process, fd) for fd in numbers]
        elif kind == _SCM_CREDENTIALS and file.family == _socket.AF_UNIX and len(raw) == 12:
            from simloop.kernel.net.unix import Ids
            from simloop.shims.socket.unix import ids_of

            more, own = Ids(*struct.unpack("3i", raw)), ids_of(world)
            if more != own and own.uid:
                raise fail(errno.EPERM)  # scm_check_creds()
        else:
            raise fail(errno.EINVAL)
    return tuple(files), more


def _source(level: int, kind: int, raw: bytes) -> str | None:
    """Return the source address in IP_PKTINFO or IPV6_PKTINFO data; None if it contains none."""
    found = None
    if (level, kind) == (_socket.IPPROTO_IP, IP_PKTINFO) and len(raw) >= 12:
        found = _socket.inet_ntoa(raw[4:8])
    elif (level, kind) == (_socket.IPPROTO_IPV6, _IPV6_PKTINFO) and len(raw) >= 20:
        found = _socket.inet_ntop(_socket.AF_INET6, raw[:16])
    return None if found is None or is_any(found) else found


def file_behind(process: Process, fd: int) -> File:
    """Return the open file that a descriptor refers to. Raises `EscapedSimulationError` for a real descriptor."""
    file = process.files.get(fd)
    if file is None:
        if fd < FIRST_FD:
            posix.fstat(fd)  # a closed one is no escape
            raise active.escape(f"the real descriptor {fd}", "open the socket or file inside the run")
        raise fail(errno.EBADF)
    return file


def passed(process: Process, found: Received, room: int, peeked: bool) -> tuple[list[tuple[int, int, bytes]], int]:
    """Return the ancillary data of the received message `found`, as much as fits into `room` bytes, and the flag
    MSG_CTRUNC if not all fits, else 0. Passed files get descriptors; those that do not fit are closed, unless the
    message was only `peeked` at."""
    ancillary: list[tuple[int, int, bytes]] = []
    flags = 0
    for level, kind, data in found.ancillary:
        fits = data[: max(0, room - _HEADER)]
        if room < _HEADER or len(fits) < len(data):
            flags = _MSG_CTRUNC
        if room >= _HEADER:
            ancillary.append((level, kind, fits))
        room = max(0, room - _HEADER - -(-len(data) // 8) * 8)
    if found.files:
        count = min(len(found.files), max(0, room - _HEADER) // 4)
        if count < len(found.files):
            flags = _MSG_CTRUNC
        fds = [process.open(file) for file in found.files[:count]]
        process.inheritable.update(fds)  # without MSG_CMSG_CLOEXEC
        if fds:
            ancillary.append((_SOL_SOCKET, _SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds)))
        if not peeked:
            release(found.files)
    return ancillary, flags
