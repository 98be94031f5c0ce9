"""Unix sockets: unix(7). Streams, datagrams and sequenced packets between the processes of one host.

What is sent is in the receiver's queue at once, as on Linux: no link, and nothing to wait for. Rules follow
net/unix/af_unix.c of Linux 6, whose functions the comments name; `tests/parity` compares call by call.

Callable from a plain script:

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
    """Credentials of a process at the other end: struct ucred."""

    pid: int = 0
    uid: int = -1
    gid: int = -1

    def pack(self) -> bytes:
        return struct.pack("3i", *self)


NOBODY = Ids()
# What SO_PASSCRED tells of a message without credentials: the overflow ids of user_namespaces(7).
_UNTOLD = Ids(0, 65_534, 65_534)


class Caller(Protocol):
    """Protocol of the process that makes a system call (`current` in the kernel)."""

    def ids(self) -> Ids:
        """Return its pid, user and group."""

    def files(self) -> FileCalls:
        """Return its system calls on files, by which paths are found."""


class Message:
    """Message in a receive queue: struct sk_buff. Of a stream, some bytes that were sent by one call."""

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
        """Release the message, read or not: its sender's buffer gets the space back."""
        sender = self.sender
        sender.charged -= self.cost
        if self.files:
            release(self.files)
            self.files = ()
        if sender.charged * 4 <= sender.options.sndbuf:
            sender.changed()


class UnixSpace:
    """Namespace of one host's unix sockets: abstract names, and inodes of its file system."""

    def __init__(self, host: str, caller: Caller | None = None) -> None:
        self.host = host
        #: The process that makes the call; None in a script that needs neither paths nor credentials.
        self.caller = caller
        # By type and name: "unix_find_socket_byname()" compares both.
        self._abstract: dict[tuple[int, bytes], UnixSocket] = {}
        # By inode number.
        self._bound: dict[int, UnixSocket] = {}
        self._autobound = 0
        self._pairs = 0
        self._connections: dict[str, int] = {}

    def lose_power(self) -> None:
        """Forget all sockets. Their files stay, as far as they are on disk."""
        self._abstract.clear()
        self._bound.clear()

    def close(self) -> None:
        """Break reference cycles at the end of the world."""
        self.lose_power()
        self.caller = None

    def ids(self) -> Ids:
        """Return the credentials of the process that makes the call."""
        return NOBODY if self.caller is None else self.caller.ids()

    def pair(self, kind: int) -> tuple[UnixSocket, UnixSocket]:
        """Return two sockets that are connected to one another, as socketpair(2)."""
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
        """Return a name for a new connection to `name`: with its number among those, as TCP connections have it."""
        stem = f"{self.host}:{shown_name(name)}"
        self._connections[stem] = number = self._connections.get(stem, 0) + 1
        return f"{stem}#{number}"

    def find(self, name: bytes, kind: int) -> UnixSocket:
        """Return the socket that is bound to `name`, as unix_find_other()."""
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
        """Give `sock` a name: that of a new file, or an abstract one, which is chosen if `name` is empty."""
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
        """Take a closed socket's name away. Its file stays, and nobody listens behind it."""
        if sock.bound_to is not None:
            self._bound.pop(sock.bound_to.ino, None)
            sock.bound_to = None
        elif self._abstract.get((sock.kind, sock.name)) is sock:
            del self._abstract[sock.kind, sock.name]


def _path(name: bytes) -> str:
    return os.fsdecode(name.partition(b"\0")[0])


def shown_name(name: bytes) -> str:
    """Return a name as text, an abstract one with ``@`` in front, as ss(8) prints it."""
    return os.fsdecode(name) if name[:1] != b"\0" else "@" + name[1:].decode(errors="backslashreplace")


class UnixSocket(Socket):
    """Unix socket of one host."""

    family = int(_socket.AF_UNIX)
    protocol = 0

    def __init__(self, space: UnixSpace, kind: int) -> None:
        super().__init__()
        self.space = space
        self.kind = kind
        self.options = UnixOptions()
        #: As sk_state has it: CLOSED, LISTEN or ESTABLISHED.
        self.state = "CLOSED"
        self.error = 0
        self.shut = 0
        self.closed = False
        self.peer: UnixSocket | None = None
        #: Identity of the process at the other end when the connection was made (SO_PEERCRED).
        self.peer_ids = NOBODY
        #: Name in the form of sockaddr_un: a path, or an abstract name that begins with a null byte.
        self.name = b""
        #: Inode of the file that stands for it.
        self.bound_to: Inode | None = None
        self.queue: deque[Message] = deque()
        #: What the messages cost that it has sent and nobody has read (sk_wmem_alloc).
        self.charged = 0
        self.backlog = _QUEUE_MAX
        #: Connections that were not accepted yet.
        self.pending: deque[UnixSocket] = deque()
        #: Datagram sockets that are connected to this one, and wait for room in its queue.
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
        """Return True if the peer's queue is full, so that a datagram cannot be sent; False where the two are
        connected."""
        peer = self.peer
        return self.kind != SOCK_STREAM and peer is not None and peer.peer is not self and peer._is_full()

    def _is_full(self) -> bool:
        return len(self.queue) > self.backlog

    # --- names ----------------------------------------------------------------------------------------

    def bind(self, name: bytes) -> None:
        """Bind to a path, to an abstract name, or for an empty name to an abstract one that is free."""
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
        """Connect to the socket of that name: it is done when the call returns. EAGAIN if a listener's queue is
        full."""
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
        """Drop datagrams of a peer that this socket is no longer connected to, as unix_dgram_disconnected()."""
        if self.queue:
            self._purge()
            if not before.closed and before.peer is self:
                before.error = errno.ECONNRESET
                before.changed()
        before.state = "CLOSED"

    # --- sending --------------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        """Send bytes or a datagram, as send(2). Of a stream, returns how many bytes there was room for."""
        return self.sendmsg(data, flags)

    def sendmsg(
        self,
        data: bytes | bytearray | memoryview,
        flags: int = 0,
        address: bytes | None = None,
        files: tuple[File, ...] = (),
        ids: Ids | None = None,
    ) -> int:
        """Send a message, as sendmsg(2): with open files, to the socket of that name, or to the connected one."""
        if type(data) is not bytes:
            view = memoryview(data)
            # Only what may be taken is copied: a transport offers all that it holds, again and again.
            data = bytes(view.cast("B")[: self.options.sndbuf * 2] if view.c_contiguous else view)
        send = self._send_stream if self.kind == SOCK_STREAM else self._send_message
        return send(data, flags, address, files, ids)

    def _send_stream(
        self, data: bytes, flags: int, name: bytes | None, files: tuple[File, ...], ids: Ids | None
    ) -> int:
        """Send bytes of a stream, as unix_stream_sendmsg()."""
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
        """Send a datagram or a packet, as unix_dgram_sendmsg() and unix_seqpacket_sendmsg()."""
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
        """Return the credentials of the sender, as maybe_add_creds() adds them to a message."""
        if given is not None:
            return given
        return self.space.ids() if self._passes_ids() or peer._passes_ids() else _UNTOLD

    # --- receiving ------------------------------------------------------------------------------------

    def recv(self, limit: int, flags: int = 0) -> bytes:
        """Return received bytes, `limit` at most, as recv(2)."""
        if limit <= 0:
            if limit < 0:
                raise ValueError("negative buffersize in recv")
            return b""  # Python does not ask the system for nothing (sock_recv_guts())
        found = self.recvmsg(limit, flags)
        if found.files and not flags & _MSG_PEEK:
            release(found.files)
        return found.data

    def recvmsg(self, limit: int, flags: int = 0) -> Received:
        """Receive a message, as recvmsg(2). The caller gives descriptors to the files that come along, then releases
        them unless it has only peeked."""
        return self._receive_stream(limit, flags) if self.kind == SOCK_STREAM else self._receive_message(limit, flags)

    def _receive_stream(self, limit: int, flags: int) -> Received:
        """Receive bytes of a stream, as unix_stream_read_generic()."""
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
        """Receive one datagram or packet, as unix_dgram_recvmsg() and unix_seqpacket_recvmsg()."""
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
        """Notify connected sockets, which may wait for space in the receive queue."""
        for other in self.connected:
            other.changed()

    def _purge(self) -> None:
        """Empty the receive queue, which nobody will read."""
        while self.queue:
            self.queue.popleft().drop()
        self._notify_room()

    # --- ending ---------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """Shut down one direction or both, as unix_shutdown(): the other end sees it at once."""
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
        """Close the socket, as unix_release_sock()."""
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
