"""Unix sockets: unix(7). Stream, datagram and seqpacket sockets between the processes of one host.

As on Linux, data is in the receiver's queue as soon as it was sent: no network link is involved. Rules follow
net/unix/af_unix.c of Linux 6, whose functions the comments name; `tests/parity` compares each call with real sockets.

It can be used in a script without a simulation:

>>> space = UnixSpace("localhost")
>>> one, other = space.pair(SOCK_STREAM)
>>> one.send(b"hello")
5
>>> other.recv(100)
b'hello'
>>> one.close()
>>> other.recv(100)
b''
"""

from __future__ import annotations

import errno
import os
import socket as _socket  # constants only
import struct
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from simloop.kernel.descriptors import ERR, HUP, IN, OUT
from simloop.kernel.errors import fail
from simloop.kernel.net.options import SOL_SOCKET, UnixOptions
from simloop.kernel.net.sockets import ALLOC_MAX, HEAD_MAX, Received, Socket, hold, release, truesize

if TYPE_CHECKING:
    from simloop.kernel.descriptors import File
    from simloop.kernel.files.calls import FileCalls
    from simloop.kernel.files.inodes import Inode

SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET = (
    int(kind) for kind in (_socket.SOCK_STREAM, _socket.SOCK_DGRAM, _socket.SOCK_SEQPACKET)
)
SOMAXCONN = 4096
# net.unix.max_dgram_qlen: as many datagrams and one more wait in a queue.
_QUEUE_MAX = 10
# Bits of sk_shutdown: nothing more is received, nothing more is sent.
_RCV, _SEND = 1, 2
_BOTH = _RCV | _SEND
_MSG_PEEK, _MSG_OOB, _MSG_TRUNC = int(_socket.MSG_PEEK), int(_socket.MSG_OOB), int(_socket.MSG_TRUNC)
_MODE = 0o777  # S_IRWXUGO, as sock_alloc() makes the inode of a socket

# A stream is cut into pieces of at most SKB_MAX_HEAD(0) + UNIX_SKB_FRAGS_SZ bytes.
_STREAM_MAX = HEAD_MAX + 32_768


class Ids(NamedTuple):
    """Credentials of a process: its pid, user id and group id (struct ucred)."""

    pid: int = 0
    uid: int = -1
    gid: int = -1

    def pack(self) -> bytes:
        return struct.pack("3i", *self)


NOBODY = Ids()
# What SO_PASSCRED tells of a message without credentials: the overflow ids of user_namespaces(7).
_UNTOLD = Ids(0, 65_534, 65_534)


class Caller(Protocol):
    """Structural type of the process that makes a system call (`current` in the kernel)."""

    def ids(self) -> Ids:
        """Return the pid, user id and group id of the process."""

    def files(self) -> FileCalls:
        """Return the object that makes the file system calls of the process, to resolve paths."""


class Message:
    """Message in a receive queue: struct sk_buff. For a stream, a part of the bytes that one call has sent."""

    __slots__ = ("cost", "data", "files", "ids", "sender", "start")

    def __init__(self, sender: UnixSocket, data: bytes, cost: int, files: tuple[File, ...], ids: Ids) -> None:
        self.sender = sender
        self.data = data
        #: Number of bytes that were read already.
        self.start = 0
        self.cost = cost
        self.files = files
        self.ids = ids
        sender.charged += cost

    def drop(self) -> None:
        """Release the message, read or not: its size is no longer charged to the sender's buffer."""
        sender = self.sender
        sender.charged -= self.cost
        if self.files:
            release(self.files)
            self.files = ()
        if sender.charged * 4 <= sender.options.sndbuf:
            sender.changed()


class UnixSpace:
    """Namespace of one host's unix sockets: abstract names, and inodes of the host's file system."""

    def __init__(self, host: str, caller: Caller | None = None) -> None:
        self.host = host
        #: Process that makes the system call; None in a script that needs neither paths nor credentials.
        self.caller = caller
        # By type and name: "unix_find_socket_byname()" compares both.
        self._abstract: dict[tuple[int, bytes], UnixSocket] = {}
        # By inode number.
        self._bound: dict[int, UnixSocket] = {}
        self._autobound = 0
        self._pairs = 0
        self._connections: dict[str, int] = {}

    def lose_power(self) -> None:
        """Drop all sockets. Their files stay, as far as they are on disk."""
        self._abstract.clear()
        self._bound.clear()

    def close(self) -> None:
        """Break reference cycles at the end of the world."""
        self.lose_power()
        self.caller = None

    def ids(self) -> Ids:
        """Return the credentials of the process that makes the system call."""
        return NOBODY if self.caller is None else self.caller.ids()

    def pair(self, kind: int) -> tuple[UnixSocket, UnixSocket]:
        """Return two sockets that are connected to each other, as socketpair(2) does."""
        self._pairs += 1
        ends = UnixSocket(self, kind), UnixSocket(self, kind)
        ids = self.ids()
        for end, other, which in zip(ends, reversed(ends), ("first", "second"), strict=True):
            end.state, end.peer, end.peer_ids = "ESTABLISHED", other, ids
            end.label = f"{self.host}:socketpair{self._pairs} ({which} end)"
            if kind == SOCK_DGRAM:
                other.connected[end] = None
        return ends

    def label(self, name: bytes) -> str:
        """Return the name of a new connection to `name`, for choice points and reports: with its number among the
        connections to that name."""
        stem = f"{self.host}:{shown_name(name)}"
        self._connections[stem] = number = self._connections.get(stem, 0) + 1
        return f"{stem}#{number}"

    def find(self, name: bytes, kind: int) -> UnixSocket:
        """Return the socket of the type `kind` that is bound to `name`, as unix_find_other() does. Raises `OSError`
        (such as ECONNREFUSED) if there is none."""
        if not name:
            raise fail(errno.EINVAL)
        if not name[0]:
            found = self._abstract.get((kind, name))
            if found is None:
                raise fail(errno.ECONNREFUSED)
            return found
        assert self.caller is not None
        inode = self.caller.files().find_socket(_path(name))
        found = self._bound.get(inode.ino)
        if found is None:
            raise fail(errno.ECONNREFUSED)
        if found.kind != kind:
            raise fail(errno.EPROTOTYPE)
        inode.used()
        return found

    def bind(self, sock: UnixSocket, name: bytes) -> None:
        """Bind `sock` to `name`: a path, where a file is created; an abstract name; or if `name` is empty, an abstract
        one that is chosen (autobind)."""
        if not name:
            if not sock.name:
                sock.name = self._free_name(sock.kind)
                self._abstract[sock.kind, sock.name] = sock
            return
        if not name[0]:
            if sock.name:
                raise fail(errno.EINVAL)
            if (sock.kind, name) in self._abstract:
                raise fail(errno.EADDRINUSE)
            self._abstract[sock.kind, name] = sock
        else:
            assert self.caller is not None
            mode = _MODE if sock.inode is None else sock.inode.mode & _MODE
            # unix_bind_bsd() makes the file before it looks if the socket has a name, and removes it again.
            inode = self.caller.files().make_socket(_path(name), mode, only_check=bool(sock.name))
            if inode is None:
                raise fail(errno.EINVAL)
            self._bound[inode.ino] = sock
            sock.bound_to = inode
        sock.name = name

    def _free_name(self, kind: int) -> bytes:
        # unix_autobind(): five hexadecimal digits.
        while True:
            name = b"\0%05x" % (self._autobound & 0xFFFFF)
            self._autobound += 1
            if (kind, name) not in self._abstract:
                return name

    def unbind(self, sock: UnixSocket) -> None:
        """Remove the name of a closed socket. If it was a path, the file stays, and connecting to it fails with
        ECONNREFUSED."""
        if sock.bound_to is not None:
            self._bound.pop(sock.bound_to.ino, None)
            sock.bound_to = None
        elif self._abstract.get((sock.kind, sock.name)) is sock:
            del self._abstract[sock.kind, sock.name]


def _path(name: bytes) -> str:
    return os.fsdecode(name.partition(b"\0")[0])


def shown_name(name: bytes) -> str:
    """Return a name as text, as ss(8) prints it: an abstract one with ``@`` as the first character."""
    return os.fsdecode(name) if name[:1] != b"\0" else "@" + name[1:].decode(errors="backslashreplace")


class UnixSocket(Socket):
    """Unix socket (unix(7)) of one host: a stream, datagram or seqpacket socket."""

    family = int(_socket.AF_UNIX)
    protocol = 0

    def __init__(self, space: UnixSpace, kind: int) -> None:
        super().__init__()
        self.space = space
        self.kind = kind
        self.options = UnixOptions()
        #: State, as in sk_state: CLOSED, LISTEN or ESTABLISHED.
        self.state = "CLOSED"
        self.error = 0
        self.shut = 0
        self.closed = False
        self.peer: UnixSocket | None = None
        #: Credentials of the process at the other end when the connection was made (SO_PEERCRED).
        self.peer_ids = NOBODY
        #: Name in the form of sockaddr_un: a path, or an abstract name that begins with a null byte.
        self.name = b""
        #: Inode of the file that represents the socket; None if its name is not a path.
        self.bound_to: Inode | None = None
        self.queue: deque[Message] = deque()
        #: Number of bytes charged to the send buffer, for messages that were sent and not read yet (sk_wmem_alloc).
        self.charged = 0
        self.backlog = _QUEUE_MAX
        #: Accept queue: connections that were not accepted yet.
        self.pending: deque[UnixSocket] = deque()
        #: Datagram sockets that are connected to this one, to be notified when its queue has room again.
        self.connected: dict[UnixSocket, None] = {}
        self.label = ""

    def __str__(self) -> str:
        return self.label or f"{self.space.host}:{shown_name(self.name) or 'unix socket'}"

    @property
    def hung_up(self) -> bool:  # type: ignore[override]
        return bool(self.shut & _RCV)

    def listening(self) -> bool:
        return self.state == "LISTEN"

    # --- readiness ------------------------------------------------------------------------------------

    def mask(self) -> int:
        """Return the poll mask, as unix_poll() and unix_dgram_poll() do."""
        if self.closed:
            return 0
        shut = self.shut
        mask = IN if self.queue or self.pending or shut & _RCV else 0
        if self.error:
            mask |= ERR
        if shut == _BOTH or (self.state == "CLOSED" and self.kind != SOCK_DGRAM):
            mask |= HUP
        if self.state != "LISTEN" and self.charged * 4 <= self.options.sndbuf and not self._peer_is_full():
            mask |= OUT
        return mask

    def _peer_is_full(self) -> bool:
        """Return True if a datagram cannot be sent because the peer's receive queue is full. False if the peer is
        connected back to this socket: then Linux has no limit on the number of messages, only that of the send
        buffer."""
        peer = self.peer
        return self.kind != SOCK_STREAM and peer is not None and peer.peer is not self and peer._is_full()

    def _is_full(self) -> bool:
        return len(self.queue) > self.backlog

    # --- names ----------------------------------------------------------------------------------------

    def bind(self, name: bytes) -> None:
        """Bind to a path, to an abstract name, or if `name` is empty to a free abstract name (autobind)."""
        self.space.bind(self, name)

    def getsockname(self) -> bytes:
        return self.name

    def getpeername(self) -> bytes:
        if self.peer is None:
            raise fail(errno.ENOTCONN)
        return self.peer.name

    def available(self) -> int:
        # unix_inq_len()
        if self.state == "LISTEN":
            raise fail(errno.EINVAL)
        if self.kind != SOCK_DGRAM:
            return sum(len(message.data) - message.start for message in self.queue)
        return len(self.queue[0].data) if self.queue else 0

    def peer_name(self) -> bytes:
        return b"" if self.peer is None else self.peer.name

    # --- connections ----------------------------------------------------------------------------------

    def listen(self, backlog: int) -> None:
        if self.kind == SOCK_DGRAM:
            raise fail(errno.EOPNOTSUPP)
        if not self.name or self.state not in ("CLOSED", "LISTEN"):
            raise fail(errno.EINVAL)
        self.backlog = min(backlog & 0xFFFFFFFF, SOMAXCONN)
        self.state = "LISTEN"
        self.peer_ids = self.space.ids()
        self.changed()

    def accept(self) -> UnixSocket:
        if self.kind == SOCK_DGRAM:
            raise fail(errno.EOPNOTSUPP)
        if self.state != "LISTEN":
            raise fail(errno.EINVAL)
        if not self.pending:
            if self.shut & _RCV and self.waits():
                raise fail(errno.EINVAL)
            raise fail(errno.EAGAIN)
        child = self.pending.popleft()
        if self._passes_ids():
            child.options.set(SOL_SOCKET, _socket.SO_PASSCRED, 1)  # unix_sock_inherit_flags()
        return child

    def connect(self, name: bytes) -> None:
        """Connect to the socket that is bound to `name`. The connection is established when the call returns. Raises
        `OSError` (EAGAIN) if the accept queue is full."""
        if self._passes_ids() and not self.name:
            self.bind(b"")
        other = self.space.find(name, self.kind)
        if self.kind == SOCK_DGRAM:
            self._connect_datagrams(other)
            return
        if other.state != "LISTEN" or other.shut & _RCV:
            raise fail(errno.ECONNREFUSED)
        if len(other.pending) > other.backlog:
            raise fail(errno.EAGAIN)
        if self.state != "CLOSED":
            raise fail(errno.EISCONN if self.state == "ESTABLISHED" else errno.EINVAL)
        child = UnixSocket(self.space, self.kind)
        child.label = self.label = self.space.label(other.name)
        child.state = self.state = "ESTABLISHED"
        child.peer, self.peer = self, child
        child.peer_ids, self.peer_ids = self.space.ids(), other.peer_ids
        child.name = other.name
        other.pending.append(child)
        other.changed()
        self.changed()

    def _passes_ids(self) -> bool:
        return self.options.flag(SOL_SOCKET, _socket.SO_PASSCRED)

    def _connect_datagrams(self, other: UnixSocket) -> None:
        if not other._takes_from(self):
            raise fail(errno.EPERM)
        before = self.peer
        if before is not None and before is not other:
            before.connected.pop(self, None)
            self._lost(before)
        self.state = other.state = "ESTABLISHED"
        self.peer = other
        other.connected[self] = None
        self.changed()

    def _takes_from(self, sender: UnixSocket) -> bool:
        return self.peer is None or self.peer is sender

    def _lost(self, before: UnixSocket) -> None:
        """End the connection to `before`, a datagram socket, and drop the datagrams received from it, as
        unix_dgram_disconnected() does."""
        if self.queue:
            self._purge()
            if not before.closed and before.peer is self:
                before.error = errno.ECONNRESET
                before.changed()
        before.state = "CLOSED"

    # --- sending --------------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        """Send bytes of a stream, or a datagram, as send(2) does. Returns the number of bytes sent, for a stream maybe
        not all."""
        return self.sendmsg(data, flags)

    def sendmsg(
        self,
        data: bytes | bytearray | memoryview,
        flags: int = 0,
        address: bytes | None = None,
        files: tuple[File, ...] = (),
        ids: Ids | None = None,
    ) -> int:
        """Send a message, as sendmsg(2) does, to the socket with the name `address`, or to the connected one if that is
        None. `files` and `ids` are sent as ancillary data (SCM_RIGHTS, SCM_CREDENTIALS)."""
        if type(data) is not bytes:
            view = memoryview(data)
            # Only what may be taken is copied: a transport offers all that it holds, again and again.
            data = bytes(view.cast("B")[: self.options.sndbuf * 2] if view.c_contiguous else view)
        send = self._send_stream if self.kind == SOCK_STREAM else self._send_message
        return send(data, flags, address, files, ids)

    def _send_stream(
        self, data: bytes, flags: int, name: bytes | None, files: tuple[File, ...], ids: Ids | None
    ) -> int:
        """Send bytes of a stream, as unix_stream_sendmsg() does."""
        if flags & _MSG_OOB:
            raise fail(errno.EOPNOTSUPP)  # urgent data is not simulated
        if name is not None:
            raise fail(errno.EISCONN if self.state == "ESTABLISHED" else errno.EOPNOTSUPP)
        peer = self.peer
        if peer is None:
            raise fail(errno.ENOTCONN)
        if self.shut & _SEND:
            raise fail(errno.EPIPE)
        sndbuf = self.options.sndbuf
        most = min(_STREAM_MAX, (sndbuf >> 1) - 64)
        size, sent = len(data), 0
        while sent < size:
            if self.charged >= sndbuf:
                if not sent:
                    raise fail(errno.EAGAIN)
                break
            if peer.closed or peer.shut & _RCV:
                if not sent:
                    raise fail(errno.EPIPE)
                break
            piece = data if size <= most else data[sent : sent + most]
            hold(files)
            peer.queue.append(Message(self, piece, truesize(len(piece), HEAD_MAX), files, self._ids_for(peer, ids)))
            sent += len(piece)
            files = ()
        if sent:
            peer.changed()
        return sent

    def _send_message(
        self, data: bytes, flags: int, name: bytes | None, files: tuple[File, ...], ids: Ids | None
    ) -> int:
        """Send a datagram, or a packet of a seqpacket socket, as unix_dgram_sendmsg() and unix_seqpacket_sendmsg()
        do."""
        if self.kind == SOCK_SEQPACKET:
            if self.error:
                raise fail(self.take_error())
            if self.state != "ESTABLISHED":
                raise fail(errno.ENOTCONN)
            name = None
        if flags & _MSG_OOB:
            raise fail(errno.EOPNOTSUPP)
        if self._passes_ids() and not self.name:
            self.bind(b"")
        if len(data) > self.options.sndbuf - 32:
            raise fail(errno.EMSGSIZE)
        # sock_alloc_send_pskb()
        if self.error:
            raise fail(self.take_error())
        if self.shut & _SEND:
            raise fail(errno.EPIPE)
        if self.charged >= self.options.sndbuf:
            raise fail(errno.EAGAIN)
        peer = self.peer if name is None else self.space.find(name, self.kind)
        if peer is None:
            raise fail(errno.ENOTCONN)
        if not peer._takes_from(self):
            raise fail(errno.EPERM)
        if peer.closed:
            if self.kind == SOCK_SEQPACKET:
                raise fail(errno.EPIPE)
            self.peer, self.state = None, "CLOSED"
            self._lost(peer)
            self.changed()
            raise fail(errno.ECONNREFUSED)
        if peer.shut & _RCV:
            raise fail(errno.EPIPE)
        if peer is not self and peer.peer is not self and peer._is_full():
            raise fail(errno.EAGAIN)
        hold(files)
        peer.queue.append(Message(self, data, truesize(len(data), ALLOC_MAX), files, self._ids_for(peer, ids)))
        peer.changed()
        return len(data)

    def _ids_for(self, peer: UnixSocket, given: Ids | None) -> Ids:
        """Return the credentials of the sender to be sent with a message to `peer`, as maybe_add_creds() does: `given`,
        or its own if one of the two sockets has set SO_PASSCRED."""
        if given is not None:
            return given
        return self.space.ids() if self._passes_ids() or peer._passes_ids() else _UNTOLD

    # --- receiving ------------------------------------------------------------------------------------

    def recv(self, limit: int, flags: int = 0) -> bytes:
        """Return up to `limit` received bytes, as recv(2) does."""
        if limit <= 0:
            if limit < 0:
                raise ValueError("negative buffersize in recv")
            return b""  # Python does not ask the system for nothing (sock_recv_guts())
        found = self.recvmsg(limit, flags)
        if found.files and not flags & _MSG_PEEK:
            release(found.files)
        return found.data

    def recvmsg(self, limit: int, flags: int = 0) -> Received:
        """Receive a message, as recvmsg(2) does. The caller allocates descriptors for the files in it, then calls
        `release` for them unless it has only peeked."""
        return self._receive_stream(limit, flags) if self.kind == SOCK_STREAM else self._receive_message(limit, flags)

    def _receive_stream(self, limit: int, flags: int) -> Received:
        """Receive bytes of a stream, as unix_stream_read_generic() does."""
        if self.state != "ESTABLISHED":
            raise fail(errno.EINVAL)
        if flags & _MSG_OOB:
            raise fail(errno.EINVAL)
        queue = self.queue
        if not queue:
            if self.error:
                raise fail(self.take_error())
            if self.shut & _RCV:
                return Received(b"", ancillary=_told(Ids(0, 0, 0)) if self._passes_ids() else ())
            raise fail(errno.EAGAIN)
        peeks, passes_ids = flags & _MSG_PEEK, self._passes_ids()
        first = queue[0]
        pieces: list[bytes] = []
        files: tuple[File, ...] = ()
        finished = 0
        for message in queue:
            if passes_ids and message.ids != first.ids:
                break  # "never glue messages from different writers"
            piece = message.data[message.start : message.start + limit]
            pieces.append(piece)
            limit -= len(piece)
            files = message.files
            if not peeks:
                message.start += len(piece)
                message.files = ()
                if message.start < len(message.data):
                    break
                finished += 1
            # One that peeks looks for files beyond its limit, too.
            if files or (not limit and not peeks):
                break
        for _ in range(finished):
            queue.popleft().drop()
        return Received(
            pieces[0] if len(pieces) == 1 else b"".join(pieces),
            first.sender.name or None,
            files=files,
            ancillary=_told(first.ids) if passes_ids else (),
        )

    def _receive_message(self, limit: int, flags: int) -> Received:
        """Receive one datagram or packet, as unix_dgram_recvmsg() and unix_seqpacket_recvmsg() do."""
        if self.kind == SOCK_SEQPACKET and self.state != "ESTABLISHED":
            raise fail(errno.ENOTCONN)
        if flags & _MSG_OOB:
            raise fail(errno.EOPNOTSUPP)
        if self.error:
            raise fail(self.take_error())
        if not self.queue:
            if self.shut & _RCV and (self.kind == SOCK_SEQPACKET or self.waits(flags)):
                return Received(b"")
            raise fail(errno.EAGAIN)
        message = self.queue[0]
        size, files = len(message.data), message.files
        if not flags & _MSG_PEEK:
            self.queue.popleft()
            message.files = ()
            message.drop()
            if len(self.queue) == self.backlog:
                self._notify_room()
        return Received(
            message.data[:limit],
            message.sender.name or None,
            _MSG_TRUNC if size > limit else 0,
            size,
            files,
            _told(message.ids) if self._passes_ids() else (),
        )

    def _notify_room(self) -> None:
        """Notify the datagram sockets that are connected to this one that its receive queue has room again."""
        for other in self.connected:
            other.changed()

    def _purge(self) -> None:
        """Drop all messages in the receive queue."""
        while self.queue:
            self.queue.popleft().drop()
        self._notify_room()

    # --- ending ---------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """Shut down one direction or both, as unix_shutdown() does. The other end sees it at once."""
        if how not in (_socket.SHUT_RD, _socket.SHUT_WR, _socket.SHUT_RDWR):
            raise fail(errno.EINVAL)
        now = how + 1
        self.shut |= now
        peer = self.peer
        if peer is not None and self.kind != SOCK_DGRAM:
            # What one end does not receive the other cannot send, and the other way round.
            peer.shut |= (0, _SEND, _RCV, _BOTH)[now]
            peer.changed()
        self.changed()

    def close(self) -> None:
        """Close the socket, as unix_release_sock() does."""
        self._release(embryo=False)

    def _release(self, *, embryo: bool) -> None:
        if self.closed:
            return
        self.closed = True
        listened = self.state == "LISTEN"
        self.state, self.shut = "CLOSED", _BOTH
        self.space.unbind(self)
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.connected.pop(self, None)
            if self.kind != SOCK_DGRAM:
                peer.shut = _BOTH
                # An empty packet at the head counts as read: unix_release_sock() takes it for urgent data that was.
                if embryo or any(message.data for message in self.queue) or len(self.queue) > 1:
                    peer.error = errno.ECONNRESET
                peer.changed()
        self._purge()
        if listened:
            while self.pending:
                self.pending.popleft()._release(embryo=True)

    # --- options --------------------------------------------------------------------------------------

    def getsockopt(self, level: int, name: int) -> int | bytes:
        if level == SOL_SOCKET and name == _socket.SO_PEERCRED:
            return self.peer_ids.pack()
        return super().getsockopt(level, name)


def _told(ids: Ids) -> tuple[tuple[int, int, bytes], ...]:
    return ((SOL_SOCKET, int(_socket.SCM_CREDENTIALS), ids.pack()),)
