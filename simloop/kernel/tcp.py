"""TCP as Linux behaves towards a program: the calls of socket(7), their results and errors.

There are no sequence numbers and nothing is lost: a connection is two `Direction`s, each a first-in
first-out way for bytes with buffers at both ends, because that is all that a program can see. The order
of bytes and of the end of a direction is fixed; when each arrives is asked of the link.
Numbers in comments are what Linux 6 gives over loopback; `tests/parity` compares.
"""

from __future__ import annotations

import errno
import os
import socket as _socket  # constants only
import struct
from collections import deque
from typing import TYPE_CHECKING, Protocol

from simloop.kernel.clock import SECOND
from simloop.kernel.process import ERR, HUP, IN, OUT, File, Host

if TYPE_CHECKING:
    from simloop.kernel.scheduler import Scheduler
    from simloop.network.links import Link

Address = tuple[str, int]

# tcp(7): net.ipv4.tcp_wmem and tcp_rmem defaults, and what loopback's send buffer grows to on connection.
SNDBUF_FRESH = 16_384
SNDBUF = 2_626_560
RCVBUF = 131_072
SNDBUF_MIN, RCVBUF_MIN = 4_608, 2_304
BUFFER_MAX = 425_984  # twice net.core.[rw]mem_max
EPHEMERAL = range(32_768, 61_000)  # net.ipv4.ip_local_port_range
TIME_WAIT_NS = 60 * SECOND
SYN_RETRIES_NS = tuple(seconds * SECOND for seconds in (1, 2, 4, 8, 16, 32, 64))  # tcp_syn_retries = 6
SOMAXCONN = 4096

# What travels besides bytes.
_FIN, _RST, _SYN_ACK = "FIN", "RST", "SYN-ACK"

_TCP_OPTIONS = {
    (_socket.SOL_SOCKET, _socket.SO_REUSEADDR): 0,
    (_socket.SOL_SOCKET, _socket.SO_REUSEPORT): 0,
    (_socket.SOL_SOCKET, _socket.SO_KEEPALIVE): 0,
    (_socket.SOL_SOCKET, _socket.SO_BROADCAST): 0,
    (_socket.SOL_SOCKET, _socket.SO_OOBINLINE): 0,
    (_socket.SOL_SOCKET, _socket.SO_PRIORITY): 0,
    (_socket.SOL_SOCKET, _socket.SO_RCVLOWAT): 1,
    (_socket.IPPROTO_TCP, _socket.TCP_NODELAY): 0,
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPIDLE): 7200,
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPINTVL): 75,
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPCNT): 9,
    (_socket.IPPROTO_TCP, _socket.TCP_USER_TIMEOUT): 0,
    (_socket.IPPROTO_TCP, _socket.TCP_QUICKACK): 1,
    (_socket.IPPROTO_TCP, _socket.TCP_CORK): 0,
    (_socket.IPPROTO_TCP, _socket.TCP_FASTOPEN): 0,
    (_socket.IPPROTO_TCP, _socket.TCP_DEFER_ACCEPT): 0,
    (_socket.IPPROTO_TCP, _socket.TCP_SYNCNT): 6,
    (_socket.IPPROTO_IP, _socket.IP_TOS): 0,
    (_socket.IPPROTO_IP, _socket.IP_TTL): 64,
}
_IPV6_TCLASS, _IPV6_UNICAST_HOPS = _socket.IPV6_TCLASS, _socket.IPV6_UNICAST_HOPS
_BOOLEANS = {
    (_socket.SOL_SOCKET, name)
    for name in (_socket.SO_REUSEADDR, _socket.SO_REUSEPORT, _socket.SO_KEEPALIVE, _socket.SO_BROADCAST)
} | {(_socket.IPPROTO_TCP, _socket.TCP_NODELAY), (_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY)}


class Net(Protocol):
    """The network, as the kernel calls it."""

    scheduler: Scheduler

    def owner(self, address: str, asking: Host) -> Host | None: ...

    def link(self, a: Host, b: Host) -> Link: ...

    def label(self, client: Host, server: Host, port: int) -> str: ...


def fail(number: int) -> OSError:
    """The exception that Python raises for an errno (a subclass such as BlockingIOError where it has one)."""
    return OSError(number, os.strerror(number))


class Direction:
    """One direction of a connection: the sender's queue, what is on its way, the receiver's buffer."""

    __slots__ = (
        "chunks", "dropped", "ended", "flight", "flight_size", "label", "link", "receiver", "scheduler", "sender",
        "size", "unsent", "unsent_size",
    )  # fmt: skip

    def __init__(self, scheduler: Scheduler, link: Link, label: str, sender: TcpSocket) -> None:
        self.scheduler = scheduler
        self.link = link
        self.label = label
        self.sender = sender
        self.receiver: TcpSocket | None = None
        self.unsent: deque[bytes | str] = deque()
        self.unsent_size = 0
        self.flight: deque[bytes | str] = deque()
        self.flight_size = 0
        self.chunks: deque[bytes] = deque()
        self.size = 0
        #: Nothing more leaves: a FIN or RST was queued.
        self.ended = False
        #: A reset threw away what was queued.
        self.dropped = False

    def queued(self) -> int:
        """Bytes that the sender's kernel still holds."""
        return self.unsent_size + self.flight_size

    def push(self, item: bytes | str) -> None:
        """Queue bytes, or the end, behind all that was queued before."""
        self.unsent.append(item)
        if not isinstance(item, str):
            self.unsent_size += len(item)
        self.transmit()

    def transmit(self) -> None:
        """Put on the way what the receiver's window takes."""
        unsent = self.unsent
        while unsent:
            item = unsent[0]
            if isinstance(item, str):
                unsent.popleft()
                self._send(item, 1)
                continue
            assert self.receiver is not None
            window = self.receiver.rcvbuf - self.size - self.flight_size
            if window <= 0:
                return
            # Out of the queue before it is sent: an arrival may answer with a reset, which drops the rest.
            unsent.popleft()
            self.unsent_size -= len(item)
            piece = item if len(item) <= window else item[:window]
            travelling = self._send(piece, len(piece))
            if travelling < len(item) and not self.dropped:
                unsent.appendleft(item[travelling:])
                self.unsent_size += len(item) - travelling

    def _send(self, item: bytes | str, size: int) -> int:
        # In flight before the link is asked, since it may deliver at once; cut to what it took after.
        self.flight.append(item)
        if isinstance(item, str):
            self.link.send(self.scheduler, self.label, "net.deliver", 1, self, self._arrive)
            return 0
        self.flight_size += size
        travelling = self.link.send(self.scheduler, self.label, "net.deliver", size, self, self._arrive)
        if travelling < size:
            self.flight[-1] = item[:travelling]
            self.flight_size -= size - travelling
        return travelling

    def _arrive(self) -> None:
        # Each packet's arrival brings the first one under way, so that none overtakes another.
        if not self.flight:
            return
        item = self.flight.popleft()
        receiver = self.receiver
        assert receiver is not None
        if isinstance(item, str):
            receiver.control_arrived(item)
            return
        self.flight_size -= len(item)
        if receiver.accepts_data():
            self.chunks.append(item)
            self.size += len(item)
            receiver.changed()
        else:
            receiver.refuse_data()

    def read(self, limit: int) -> bytes:
        """Take up to `limit` bytes that have arrived, and let the sender go on."""
        chunks = self.chunks
        first = chunks[0]
        if len(chunks) == 1 and len(first) <= limit:
            chunks.clear()
            data = first
        else:
            data = b"".join(chunks)
            chunks.clear()
            if len(data) > limit:
                chunks.append(data[limit:])
                data = data[:limit]
        self.size -= len(data)
        if self.unsent:
            self.transmit()
            self.sender.changed()
        return data

    def peek(self, limit: int) -> bytes:
        return b"".join(self.chunks)[:limit]

    def drop(self) -> None:
        """A reset: whatever is queued or under way is gone; what has arrived stays readable."""
        self.unsent.clear()
        self.flight.clear()
        self.unsent_size = self.flight_size = 0
        self.ended = self.dropped = True


class TcpSocket(File):
    """One TCP socket of one host. Every call is non-blocking and raises the OSError that Linux gives."""

    def __init__(self, net: Net, host: Host, family: int) -> None:
        super().__init__()
        self.net = net
        self.host = host
        self.family = family
        self.v6 = family == _socket.AF_INET6
        self.state = "CLOSED"
        self.local: Address | None = None
        self.peer: Address | None = None
        self.error = 0
        self.options: dict[tuple[int, int], int] = {}
        self.linger: tuple[int, int] = (0, 0)
        self.sndbuf = SNDBUF_FRESH
        self.rcvbuf = RCVBUF
        self.rx: Direction | None = None
        self.tx: Direction | None = None
        self.read_shut = False  # our own shutdown, or the peer's FIN
        self.write_shut = False
        self.peer_ended = False
        self.closed = False
        self.backlog = 0
        self.queue: deque[TcpSocket] = deque()
        self.listener: TcpSocket | None = None
        self.label = ""
        self._connect_told = False

    def __str__(self) -> str:
        return self.label or f"{self.host.name}:{self.local[1] if self.local else '?'}"

    # --- readiness ------------------------------------------------------------------------------------

    def mask(self) -> int:
        """As tcp_poll() in net/ipv4/tcp.c."""
        if self.closed:
            return 0
        if self.state == "LISTEN":
            return IN if self.queue else 0
        mask = ERR if self.error else 0
        if self.state == "SYN_SENT":
            return mask
        if self.state == "CLOSED" or (self.read_shut and self.write_shut):
            mask |= HUP
        if self.read_shut or (self.rx is not None and self.rx.size):
            mask |= IN
        if self.write_shut or self._writable():
            mask |= OUT
        return mask

    def _writable(self) -> bool:
        # sk_stream_is_writeable(): free space is at least half of what is queued.
        return self.tx is None or self.tx.queued() * 3 <= self.sndbuf * 2

    # --- names ----------------------------------------------------------------------------------------

    def bind(self, address: Address) -> None:
        ip, port = address
        if self.local is not None:
            raise fail(errno.EINVAL)
        if not _is_any(ip) and self.net.owner(unmapped(ip), self.host) is not self.host:
            raise fail(errno.EADDRNOTAVAIL)
        self.local = (ip, self.host.ports.claim(self, ip, port))

    def getsockname(self) -> Address:
        return self.local or (("::" if self.v6 else "0.0.0.0"), 0)

    def getpeername(self) -> Address:
        if self.peer is None or self.state not in ("ESTABLISHED", "CLOSE_WAIT"):
            raise fail(errno.ENOTCONN)
        return self.peer

    # --- listening ------------------------------------------------------------------------------------

    def listen(self, backlog: int) -> None:
        if self.state not in ("CLOSED", "LISTEN") or self.rx is not None:
            raise fail(errno.EINVAL)
        if self.state == "CLOSED":
            if self.local is None:
                self.bind(("::" if self.v6 else "0.0.0.0", 0))
            self.host.ports.listen(self)
            self.state = "LISTEN"
            self.changed()
        self.backlog = min(backlog & 0xFFFFFFFF, SOMAXCONN)

    def accept(self) -> TcpSocket:
        if self.state != "LISTEN":
            raise fail(errno.EINVAL)
        if not self.queue:
            raise fail(errno.EAGAIN)
        child = self.queue.popleft()
        child.listener = None
        return child

    def _admits(self) -> bool:
        # Linux holds one more than the backlog says (sk_acceptq_is_full()).
        return self.state == "LISTEN" and len(self.queue) <= self.backlog

    # --- connecting -----------------------------------------------------------------------------------

    def connect(self, address: Address) -> None:
        """Start to connect; always unfinished at first (EINPROGRESS), as over real loopback."""
        if self.state == "SYN_SENT":
            raise fail(errno.EALREADY)
        if self.state == "LISTEN":
            raise fail(errno.EISCONN)
        if self.state != "CLOSED":
            if not self._connect_told:
                self._connect_told = True
                return
            raise fail(errno.EISCONN)
        if self.rx is not None:
            # A connection that failed or ended: its error is told here once.
            number, self.error = self.error, 0
            if number:
                self.rx = self.tx = None
                raise fail(number)
            raise fail(errno.ECONNABORTED if not self._connect_told else errno.EISCONN)
        ip, port = address
        target = self.net.owner(unmapped(ip), self.host)
        if port == 0:
            raise fail(errno.ECONNREFUSED) if target is not None else fail(errno.ENETUNREACH)
        self._take_source(ip, target)
        assert self.local is not None
        self.peer = (_loopback_of(ip, self.v6), port)
        self.state = "SYN_SENT"
        self._connect_told = False
        server = target if target is not None else self.host
        self.label = self.net.label(self.host, server, port)
        link = self.net.link(self.host, server)
        scheduler = self.net.scheduler
        self.tx = Direction(scheduler, link, self.label + ">", self)
        if target is None:
            self._retry_connect(0, None)
        else:
            self._send_syn(target, 0)
        self.changed()
        raise fail(errno.EINPROGRESS)

    def _take_source(self, ip: str, target: Host | None) -> None:
        if self.local is None or _is_any(self.local[0]):
            port = self.local[1] if self.local else self.host.ports.claim(self, "", 0)
            if target is self.host:
                source = _loopback_of(ip, self.v6)
            else:
                source = self.host.ipv6 if self.v6 and unmapped(ip) == ip else self.host.ipv4
                source = f"::ffff:{source}" if self.v6 and unmapped(ip) != ip else source
            self.local = (source, port)

    def _send_syn(self, target: Host, attempt: int) -> None:
        assert self.tx is not None
        self.tx.link.send(
            self.net.scheduler, self.label + ">", "net.connect", 1, self.tx,
            lambda: self._syn_arrived(target, attempt),
        )  # fmt: skip

    def _syn_arrived(self, target: Host, attempt: int) -> None:
        if self.state != "SYN_SENT" or self.closed:
            return
        assert self.tx is not None and self.peer is not None and self.local is not None
        listener = target.ports.listener(unmapped(self.peer[0]), self.peer[1])
        if listener is None:
            self.tx.link.send(
                self.net.scheduler, self.label + "<", "net.connect", 1, self.tx, lambda: self.control_arrived(_RST)
            )
            return
        if not listener._admits():
            self._retry_connect(attempt, target)
            return
        child = TcpSocket(self.net, target, listener.family)
        child.label = self.label
        child.state = "ESTABLISHED"
        child.local, child.peer = self.peer, self.local
        if child.v6 != self.v6:
            child.local = (_mapped(child.local[0], child.v6), child.local[1])
            child.peer = (_mapped(child.peer[0], child.v6), child.peer[1])
        child._connect_told = True
        child.options = dict(listener.options)
        child.linger = listener.linger
        child.rcvbuf = listener.rcvbuf
        child.sndbuf = _grown(listener)
        child.listener = listener
        child.rx = self.tx
        child.tx = Direction(self.net.scheduler, self.tx.link, self.label + "<", child)
        self.tx.receiver = child
        child.tx.receiver = self
        self.rx = child.tx
        target.ports.adopt(child)
        listener.queue.append(child)
        listener.changed()
        child.tx.push(_SYN_ACK)

    def _retry_connect(self, attempt: int, target: Host | None) -> None:
        """The SYN got no answer: send it again, ever later, then give up (tcp(7), tcp_syn_retries)."""

        def again() -> None:
            if self.state != "SYN_SENT" or self.closed:
                return
            if attempt + 1 == len(SYN_RETRIES_NS):
                self._fail_with(errno.ETIMEDOUT)
            elif target is None:
                self._retry_connect(attempt + 1, None)
            else:
                self._send_syn(target, attempt + 1)

        self.net.scheduler.at(self.net.scheduler.clock.now + SYN_RETRIES_NS[attempt], again)

    # --- data -----------------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        tx = self.tx
        if self.error:
            raise self._take_error()
        if self.state not in ("ESTABLISHED", "CLOSE_WAIT") or self.write_shut:
            if self.state in ("SYN_SENT",):
                raise fail(errno.EAGAIN)
            raise fail(errno.EPIPE)
        assert tx is not None
        room = self.sndbuf - tx.unsent_size - tx.flight_size
        if room <= 0:
            raise fail(errno.EAGAIN)
        if isinstance(data, memoryview) and data.itemsize != 1:
            data = data.cast("B")
        piece = bytes(data if len(data) <= room else data[:room])
        if piece:
            tx.push(piece)
        return len(piece)

    def recv(self, limit: int, flags: int = 0) -> bytes:
        rx = self.rx
        if rx is not None and rx.size:
            if flags & _socket.MSG_PEEK:
                return rx.peek(limit)
            return rx.read(limit) if limit else b""
        if self.error:
            raise self._take_error()
        if self.read_shut:
            return b""
        if self.state in ("CLOSED", "LISTEN"):
            if self.state == "CLOSED" and rx is not None:
                return b""
            raise fail(errno.ENOTCONN)
        raise fail(errno.EAGAIN)

    def accepts_data(self) -> bool:
        return not self.closed and self.state in ("ESTABLISHED", "CLOSE_WAIT") and not self.read_shut

    def refuse_data(self) -> None:
        """Bytes came for which nobody is there any more: the peer is told by a reset."""
        if self.closed and self.tx is not None:
            self.tx.drop()
            self.tx.push(_RST)

    # --- ending ---------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        if how not in (_socket.SHUT_RD, _socket.SHUT_WR, _socket.SHUT_RDWR):
            raise fail(errno.EINVAL)
        if self.state == "LISTEN":
            if how != _socket.SHUT_WR:
                self._stop_listening()
                self.state = "CLOSED"
                self.changed()
            return
        if self.state not in ("ESTABLISHED", "CLOSE_WAIT"):
            raise fail(errno.ENOTCONN)
        if how != _socket.SHUT_RD and not self.write_shut:
            self._send_fin()
        if how != _socket.SHUT_WR:
            self.read_shut = True
        self.changed()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self.state == "LISTEN":
            self._stop_listening()
        elif self.state in ("ESTABLISHED", "CLOSE_WAIT"):
            assert self.rx is not None and self.tx is not None
            # RFC 2525 section 2.17: closing with unread data resets, as does SO_LINGER with no time.
            if self.rx.size or self.linger == (1, 0):
                self.tx.drop()
                self.tx.push(_RST)
            elif not self.write_shut:
                self._send_fin()
            if self.rx.chunks:
                self.rx.chunks.clear()
                self.rx.size = 0
        self.host.ports.release(self)

    def _send_fin(self) -> None:
        assert self.tx is not None
        self.write_shut = True
        if not self.tx.ended:
            self.tx.ended = True
            if not self.peer_ended:
                self.host.ports.closed_first(self)
            self.tx.push(_FIN)

    def _stop_listening(self) -> None:
        self.host.ports.unlisten(self)
        for child in self.queue:
            child.linger = (1, 0)
            child.close()
        self.queue.clear()

    def control_arrived(self, what: str) -> None:
        """A packet without data came in."""
        if what == _SYN_ACK:
            if self.closed:
                assert self.tx is not None
                self.tx.push(_RST)
                return
            if self.state == "SYN_SENT":
                self.state = "ESTABLISHED"
                self.sndbuf = _grown(self)
        elif what == _FIN:
            self.peer_ended = True
            if self.state == "ESTABLISHED":
                self.state = "CLOSE_WAIT"
            self.read_shut = True
        elif self.state == "SYN_SENT":
            self._fail_with(errno.ECONNREFUSED)
            return
        elif self.state != "CLOSED":
            # tcp_reset(): a peer that had already said FIN is a broken pipe, any other a reset.
            self._fail_with(errno.EPIPE if self.state == "CLOSE_WAIT" else errno.ECONNRESET)
            return
        self.changed()

    def _fail_with(self, number: int) -> None:
        self.error = number
        self.state = "CLOSED"
        self.read_shut = self.write_shut = True
        if self.tx is not None:
            self.tx.drop()
        if self.rx is None:
            self.rx = self.tx
        self.changed()

    def _take_error(self) -> OSError:
        number, self.error = self.error, 0
        return fail(number)

    # --- options --------------------------------------------------------------------------------------

    def getsockopt(self, level: int, name: int) -> int | bytes:
        if level == _socket.SOL_SOCKET:
            if name == _socket.SO_ERROR:
                number, self.error = self.error, 0
                return number
            known = {
                _socket.SO_TYPE: _socket.SOCK_STREAM,
                _socket.SO_DOMAIN: self.family,
                _socket.SO_PROTOCOL: _socket.IPPROTO_TCP,
                _socket.SO_ACCEPTCONN: int(self.state == "LISTEN"),
                _socket.SO_SNDBUF: self.sndbuf,
                _socket.SO_RCVBUF: self.rcvbuf,
            }
            if name in known:
                return int(known[name])
            if name == _socket.SO_LINGER:
                return struct.pack("ii", *self.linger)
        default = _TCP_OPTIONS.get((level, name))
        if self.v6 and level == _socket.IPPROTO_IPV6:
            default = {_IPV6_TCLASS: 0, _IPV6_UNICAST_HOPS: 64, _socket.IPV6_V6ONLY: 0}.get(name)
        if default is None:
            raise fail(errno.ENOPROTOOPT)
        return self.options.get((level, name), default)

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        if isinstance(value, (bytes, bytearray)):
            if (level, name) == (_socket.SOL_SOCKET, _socket.SO_LINGER):
                if len(value) < 8:
                    raise fail(errno.EINVAL)
                on, seconds = struct.unpack("ii", value[:8])
                self.linger = (int(bool(on)), seconds if on else 0)
                return
            if len(value) < 4:
                raise fail(errno.EINVAL)
            value = int(struct.unpack("i", value[:4])[0])
        if level == _socket.SOL_SOCKET and name == _socket.SO_SNDBUF:
            self.sndbuf = max(min(value * 2, BUFFER_MAX), SNDBUF_MIN)
            self.options[level, name] = value
            return
        if level == _socket.SOL_SOCKET and name == _socket.SO_RCVBUF:
            self.rcvbuf = max(min(value * 2, BUFFER_MAX), RCVBUF_MIN)
            self.options[level, name] = value
            return
        if (level, name) == (_socket.SOL_SOCKET, _socket.SO_LINGER):
            raise fail(errno.EINVAL)
        self.getsockopt(level, name)  # unknown options fail here
        if (level, name) == (_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY) and self.local is not None:
            raise fail(errno.EINVAL)
        self.options[level, name] = int(bool(value)) if (level, name) in _BOOLEANS else value

    def flag(self, level: int, name: int) -> bool:
        return bool(self.options.get((level, name)))


class Ports:
    """The TCP ports of one host: who holds which, who listens, and which still cool down."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._holders: dict[int, list[TcpSocket]] = {}
        self._listeners: dict[int, list[TcpSocket]] = {}
        self._time_wait: dict[int, int] = {}
        self._next = EPHEMERAL.start

    def claim(self, sock: TcpSocket, ip: str, port: int) -> int:
        if port == 0:
            port = self._free_port()
        else:
            reusable = sock.flag(_socket.SOL_SOCKET, _socket.SO_REUSEADDR)
            if self._time_wait.get(port, 0) > self._net.scheduler.clock.now and not reusable:
                raise fail(errno.EADDRINUSE)
            for other in self._holders.get(port, ()):
                if self._conflict(sock, ip, other):
                    raise fail(errno.EADDRINUSE)
        self._holders.setdefault(port, []).append(sock)
        return port

    def _free_port(self) -> int:
        for _ in EPHEMERAL:
            port = self._next
            self._next = port + 1 if port + 1 in EPHEMERAL else EPHEMERAL.start
            if port not in self._holders:
                return port
        raise fail(errno.EADDRINUSE)

    def _conflict(self, sock: TcpSocket, ip: str, other: TcpSocket) -> bool:
        assert other.local is not None
        if not _overlap(sock, ip, other, other.local[0]):
            return False
        for option in (_socket.SO_REUSEADDR, _socket.SO_REUSEPORT):
            both = sock.flag(_socket.SOL_SOCKET, option) and other.flag(_socket.SOL_SOCKET, option)
            if both and (option == _socket.SO_REUSEPORT or other.state != "LISTEN"):
                return False
        return True

    def listen(self, sock: TcpSocket) -> None:
        assert sock.local is not None
        ip, port = sock.local
        for other in self._listeners.get(port, ()):
            if _overlap(sock, ip, other, other.local[0] if other.local else "") and not (
                sock.flag(_socket.SOL_SOCKET, _socket.SO_REUSEPORT)
                and other.flag(_socket.SOL_SOCKET, _socket.SO_REUSEPORT)
            ):
                raise fail(errno.EADDRINUSE)
        self._listeners.setdefault(port, []).append(sock)

    def unlisten(self, sock: TcpSocket) -> None:
        assert sock.local is not None
        self._listeners[sock.local[1]].remove(sock)

    def listener(self, ip: str, port: int) -> TcpSocket | None:
        """Who takes a connection to this literal address: an exact binding before a wildcard."""
        fitting = [
            sock for sock in self._listeners.get(port, ())
            if sock.local is not None and _covers(sock, sock.local[0], ip)
        ]  # fmt: skip
        exact = [sock for sock in fitting if sock.local is not None and not _is_any(sock.local[0])]
        best = exact or fitting
        if len(best) > 1:  # SO_REUSEPORT: the shortest queue stands in for the kernel's hash
            return min(best, key=lambda sock: len(sock.queue))
        return best[0] if best else None

    def adopt(self, child: TcpSocket) -> None:
        assert child.local is not None
        self._holders.setdefault(child.local[1], []).append(child)

    def release(self, sock: TcpSocket) -> None:
        if sock.local is None:
            return
        holders = self._holders.get(sock.local[1], [])
        if sock in holders:
            holders.remove(sock)
            if not holders:
                del self._holders[sock.local[1]]

    def closed_first(self, sock: TcpSocket) -> None:
        """Who closes first keeps the port in TIME_WAIT for a while."""
        assert sock.local is not None
        self._time_wait[sock.local[1]] = self._net.scheduler.clock.now + TIME_WAIT_NS


def _grown(sock: TcpSocket) -> int:
    """The send buffer grows on connection, unless the program has set it (socket(7), SO_SNDBUF)."""
    fixed = (_socket.SOL_SOCKET, _socket.SO_SNDBUF) in sock.options
    return sock.sndbuf if fixed else SNDBUF


def _is_any(ip: str) -> bool:
    return ip in ("0.0.0.0", "::", "")


def unmapped(ip: str) -> str:
    """::ffff:1.2.3.4 as the IPv4 address that it stands for."""
    return ip[7:] if ip.startswith("::ffff:") and "." in ip else ip


def _mapped(ip: str, v6: bool) -> str:
    if v6:
        return ip if ":" in ip else f"::ffff:{ip}"
    return unmapped(ip)


def _loopback_of(ip: str, v6: bool) -> str:
    """Connecting to the any-address reaches oneself."""
    if _is_any(ip):
        return "::1" if v6 else "127.0.0.1"
    return ip


def _covers(sock: TcpSocket, bound: str, ip: str) -> bool:
    """Whether a socket bound to `bound` takes packets for the literal `ip`."""
    if ":" in ip:
        return sock.v6 and bound in ("::", ip)
    if sock.v6:
        dual = not sock.flag(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY)
        return dual and (bound == "::" or unmapped(bound) == ip)
    return bound in ("0.0.0.0", ip)


def _overlap(a: TcpSocket, a_ip: str, b: TcpSocket, b_ip: str) -> bool:
    """Whether two bindings of one port claim an address both."""
    probes = {a_ip, b_ip, "127.0.0.1", "::1"} - {"", "0.0.0.0", "::"}
    return any(
        _covers(a, a_ip or ("::" if a.v6 else "0.0.0.0"), unmapped(ip))
        and _covers(b, b_ip or ("::" if b.v6 else "0.0.0.0"), unmapped(ip))
        for ip in sorted(probes)
    )
