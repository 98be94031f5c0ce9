"""Base class of sockets of every family and type (socket(7)), and the amount by which a message is charged to a socket
buffer."""

from __future__ import annotations

import errno
import os
import socket as _socket  # constants only
from typing import TYPE_CHECKING, Any, NamedTuple

from simloop.kernel.errors import fail
from simloop.kernel.ipc.unseekable import Unseekable
from simloop.kernel.net.options import SOL_SOCKET

if TYPE_CHECKING:
    from simloop.kernel.descriptors import File
    from simloop.kernel.net.options import Options

# What a message costs a buffer, in bytes (skb->truesize): the data are in a block of memory together with struct
# skb_shared_info, beside struct sk_buff, and what is too long for it is in pages.
_SK_BUFF, _SHARED_INFO, _PAGE = 256, 320, 4096
#: Maximum number of data bytes in one block of memory: SKB_MAX_HEAD(0) and SKB_MAX_ALLOC.
HEAD_MAX = _PAGE - _SHARED_INFO
ALLOC_MAX = 4 * _PAGE - _SHARED_INFO


def truesize(size: int, head_max: int) -> int:
    """Return the number of bytes by which a message of `size` bytes is charged to a socket buffer (skb->truesize). Up
    to `head_max` bytes, and any remainder that fills no page, are in one block of memory, the rest in pages."""
    paged = min(size, -(-(size - head_max) // _PAGE) * _PAGE) if size > head_max else 0
    block = -(-(size - paged) // 64) * 64 + _SHARED_INFO
    return _SK_BUFF + (1 << (block - 1).bit_length()) + -(-paged // _PAGE) * _PAGE


#: Flag of recvmsg(2) that reads the error queue; such a call never blocks.
MSG_ERRQUEUE = int(_socket.MSG_ERRQUEUE)
_MSG_DONTWAIT = int(_socket.MSG_DONTWAIT)


class Received(NamedTuple):
    """Result of recvmsg(2): the data, the sender's address, flags and ancillary data."""

    data: bytes
    #: Address of the sender; None if the call does not return it, as for TCP.
    address: Any = None
    #: Flags of the message, such as MSG_TRUNC.
    flags: int = 0
    #: Size of the message before it was truncated to the requested size.
    size: int = 0
    #: Open files sent with the message (SCM_RIGHTS). The receiver allocates descriptors for them, then calls `release`.
    files: tuple[File, ...] = ()
    #: Other ancillary data, as (level, type, data).
    ancillary: tuple[tuple[int, int, bytes], ...] = ()


def hold(files: tuple[File, ...]) -> None:
    """Take a reference to each file that is sent in a message (SCM_RIGHTS), so that it stays open until the message is
    received."""
    for file in files:
        file.descriptors += 1


def release(files: tuple[File, ...]) -> None:
    """Drop the references that `hold` has counted; a file without references is closed."""
    for file in files:
        file.descriptors -= 1
        if not file.descriptors:
            file.close()


class Socket(Unseekable):
    """Base class of sockets of every family and type. Calls never block, and raise the `OSError` of Linux; read(2) and
    write(2) are recv(2) and send(2) without flags."""

    family: int
    options: Options
    #: Type and protocol, as SO_TYPE and SO_PROTOCOL return them.
    kind: int
    protocol: int
    #: Errno of the pending error (SO_ERROR); 0 if there is none.
    error: int

    def __init__(self) -> None:
        super().__init__(os.O_RDWR)
        #: Inode for fstat(2); None before the first such call.
        self.inode: Any = None

    def take_error(self) -> int:
        """Return the errno of the pending error (SO_ERROR) and clear it, as sock_error() does; 0 if there is none."""
        number, self.error = self.error, 0
        return number

    def listening(self) -> bool:
        """Return True if the socket is listening (SO_ACCEPTCONN)."""
        return False

    def waits(self, flags: int = 0) -> bool:
        """Return True if a call with these flags is a blocking one: neither O_NONBLOCK nor MSG_DONTWAIT is set."""
        return not self.flags & os.O_NONBLOCK and not flags & _MSG_DONTWAIT

    def recv(self, limit: int, flags: int = 0) -> bytes:
        """Return up to `limit` received bytes, as recv(2) does."""
        raise NotImplementedError

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        """Send `data`, as send(2) does. Returns the number of bytes sent, which may be less than all."""
        raise NotImplementedError

    def recvmsg(self, limit: int, flags: int = 0) -> Received:
        """Receive a message with its ancillary data, as recvmsg(2) does."""
        return Received(self.recv(limit, flags))

    def sendmsg(
        self,
        data: bytes | bytearray | memoryview,
        flags: int = 0,
        address: Any = None,
        files: tuple[File, ...] = (),
        ids: Any = None,
    ) -> int:
        """Send a message with the ancillary data `files` (SCM_RIGHTS) and `ids` (credentials, or for UDP a source
        address), as sendmsg(2) does. A connected stream ignores address and ancillary data."""
        return self.send(data, flags)

    def available(self) -> int:
        """Return the number of bytes that the next call can receive (FIONREAD)."""
        raise NotImplementedError

    def peer_name(self) -> Any:
        """Return the address of the peer, as accept(2) returns it."""
        raise NotImplementedError

    def read(self, count: int) -> bytes:
        return self.recv(count)

    def write(self, data: memoryview) -> int:
        return self.send(data)

    def allocate(self, start: int, length: int) -> None:  # type: ignore[override]
        raise fail(errno.EINVAL if start < 0 or length <= 0 else errno.ENODEV)  # vfs_fallocate()

    def getsockopt(self, level: int, name: int) -> int | bytes:
        """Return the value of an option, as getsockopt(2) does."""
        if level == SOL_SOCKET:
            if name == _socket.SO_ERROR:
                return self.take_error()
            if name == _socket.SO_ACCEPTCONN:
                return int(self.listening())
            if name == _socket.SO_TYPE:
                return self.kind
            if name == _socket.SO_DOMAIN:
                return int(self.family)
            if name == _socket.SO_PROTOCOL:
                return self.protocol
        return self.options.get(level, name)

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        """Set an option, as setsockopt(2) does."""
        self.options.set(level, name, value)
