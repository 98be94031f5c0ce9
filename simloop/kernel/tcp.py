"""TCP as Linux behaves towards a program: the calls of socket(7), their results, errors and readiness.

Every call is non-blocking; waiting is the caller's business. Names and rules follow net/ipv4/tcp.c and
net/ipv4/af_inet.c of Linux 6, whose functions the comments name; `tests/parity` compares call by call.
"""

from __future__ import annotations

import errno
import socket as _socket  # constants only
from collections import deque
from typing import TYPE_CHECKING, Protocol

from simloop.kernel.addresses import Address, any_ip, is_any, is_loopback, is_mapped, mapped, reached, unmapped
from simloop.kernel.clock import SECOND
from simloop.kernel.errors import fail
from simloop.kernel.options import IPPROTO_IPV6, SOL_SOCKET, Options
from simloop.kernel.ports import TIME_WAIT_NS, Claim, Ports
from simloop.kernel.process import ERR, HUP, IN, OUT, File, Host
from simloop.kernel.stream import FIN, RST, SYN_ACK, Direction

if TYPE_CHECKING:
    from simloop.kernel.scheduler import Scheduler
    from simloop.network.links import Link

__all__ = ["Direction", "Net", "Ports", "TcpSocket", "fail"]

SYN_RETRIES_NS = tuple(seconds * SECOND for seconds in (1, 2, 4, 8, 16, 32, 64))  # tcp_syn_retries = 6
SOMAXCONN = 4096

# Plain ints: operators of the enums that the module `socket` has cost a microsecond on the hot path.
_MSG_PEEK = int(_socket.MSG_PEEK)
_MSG_OOB = int(_socket.MSG_OOB)


class Net(Protocol):
    """The network, as the kernel calls it."""

    scheduler: Scheduler

    def owner(self, address: str, asking: Host) -> Host | None: ...

    def link(self, a: Host, b: Host) -> Link: ...

    def label(self, client: Host, server: Host, port: int) -> str: ...


class TcpSocket(File):
    """One TCP socket of one host. Every call is non-blocking and raises the OSError that Linux gives."""

    def __init__(self, net: Net, host: Host, family: int) -> None:
        super().__init__()
        self.net = net
        self.host = host
        self.family = family
        self.v6 = family == _socket.AF_INET6
        self.options = Options(self.v6)
        #: As in RFC 9293, but FIN_WAIT stands for both of its kinds (see `_fin_acked`), and TIME_WAIT is a
        #: matter of the port alone: the socket is CLOSED then.
        self.state = "CLOSED"
        #: How far the program is with connecting (enum socket_state); the connection may be further.
        self.stage = "UNCONNECTED"
        self.error = 0
        self.read_shut = False  # our own shutdown, or the peer's FIN
        self.write_shut = False
        #: The peer's FIN was seen (SOCK_DONE): reading ends without an error, whatever comes later.
        self.done = False
        self.closed = False
        self.ip = any_ip(self.v6)
        #: The port that is held, and the one that getsockname tells, which outlives it.
        self.port = self.shown_port = 0
        # What the program has chosen itself stays when a connection ends.
        self._ip_locked = self._port_locked = False
        #: When the port is free although there has been no end, of a connection that nobody owns any more.
        self.held_until_ns: int | None = None
        self.peer: Address | None = None
        self.rx: Direction | None = None
        self.tx: Direction | None = None
        self._fin_acked = False
        self.backlog = 0
        self.queue: deque[TcpSocket] = deque()
        self.label = ""

    def __str__(self) -> str:
        return self.label or f"{self.host.name}:{self.shown_port or '?'}"

    # --- readiness ------------------------------------------------------------------------------------

    def mask(self) -> int:
        """As tcp_poll()."""
        state = self.state
        tx = self.tx
        if state == "ESTABLISHED" and not self.error and not self.write_shut:  # the hot path, as below
            assert tx is not None
            mask = IN if self.read_shut or (self.rx is not None and self.rx.size) else 0
            if (tx.unsent_size + tx.flight_size) * 3 <= self.options.sndbuf * 2:
                mask |= OUT
            return mask
        if self.closed:
            return 0
        if state == "LISTEN":
            return IN if self.queue else 0
        mask = ERR if self.error else 0
        if state == "CLOSED" or (self.read_shut and self.write_shut):
            mask |= HUP
        if self.read_shut:
            mask |= IN
        if state != "SYN_SENT":
            if self.rx is not None and self.rx.size:
                mask |= IN
            # sk_stream_is_writeable(): free space is at least half of what is queued.
            if self.write_shut or tx is None or (tx.unsent_size + tx.flight_size) * 3 <= self.options.sndbuf * 2:
                mask |= OUT
        return mask

    # --- names ----------------------------------------------------------------------------------------

    def bind(self, address: Address) -> None:
        ip, port = address[0] or any_ip(self.v6), address[1]
        bound = self.state != "CLOSED" or self.port
        # __inet6_bind() looks at the socket first, __inet_bind() at the address.
        if self.v6 and (bound or (is_mapped(ip) and self.options.flag(IPPROTO_IPV6, _socket.IPV6_V6ONLY))):
            raise fail(errno.EINVAL)
        if not is_any(ip) and self.net.owner(unmapped(ip), self.host) is not self.host:
            raise fail(errno.EADDRNOTAVAIL)
        if bound:
            raise fail(errno.EINVAL)
        self.ip = ip
        try:
            self.port = self.shown_port = self.host.ports.claim(self, port)
        except OSError:
            self.ip = any_ip(self.v6)
            raise
        if self.v6 and not is_any(ip) and not is_mapped(ip):
            self.options.set(IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        self._ip_locked |= not is_any(ip)
        self._port_locked |= port != 0
        self.peer = None

    def getsockname(self) -> Address:
        return self.ip, self.shown_port

    def getpeername(self) -> Address:
        if self.peer is None or not self.connected():
            raise fail(errno.ENOTCONN)
        return self.peer

    def connected(self) -> bool:
        """Whether it has a peer to speak of."""
        return self.peer is not None and self.state not in ("CLOSED", "SYN_SENT")

    def claim(self) -> Claim:
        """What it takes of its port."""
        flag = self.options.flag
        return Claim(
            ip=self.ip,
            v6=self.v6,
            v6only=flag(IPPROTO_IPV6, _socket.IPV6_V6ONLY),
            reuse_address=flag(SOL_SOCKET, _socket.SO_REUSEADDR),
            reuse_port=flag(SOL_SOCKET, _socket.SO_REUSEPORT),
            listening=self.state == "LISTEN",
        )

    def _release_port(self) -> None:
        if self.port:
            self.host.ports.release(self)
            self.port = 0

    # --- listening ------------------------------------------------------------------------------------

    def listen(self, backlog: int) -> None:
        if self.stage != "UNCONNECTED" or self.state not in ("CLOSED", "LISTEN"):
            raise fail(errno.EINVAL)
        # A negative one is read as a huge one.
        self.backlog = min(backlog & 0xFFFFFFFF, SOMAXCONN)
        if self.state == "CLOSED":
            if not self.port:
                self.port = self.shown_port = self.host.ports.claim(self, 0)
            self.host.ports.listen(self)
            self.state = "LISTEN"
            self.changed()

    def accept(self) -> TcpSocket:
        if self.state != "LISTEN":
            raise fail(errno.EINVAL)
        if not self.queue:
            raise fail(errno.EAGAIN)
        return self.queue.popleft()

    def _stop_listening(self) -> None:
        self.host.ports.unlisten(self)
        waiting = list(self.queue)
        self.queue.clear()
        for child in waiting:
            child.closed = True
            child._disconnect()
            child._release_port()

    # --- connecting -----------------------------------------------------------------------------------

    def connect(self, address: Address) -> None:
        """As __inet_stream_connect(). A new attempt is always unfinished at first (EINPROGRESS), as over
        real loopback, where the answer waits until the call returns."""
        if self.stage == "CONNECTED":
            raise fail(errno.EISCONN)
        if self.stage == "DISCONNECTING":
            raise fail(errno.EINVAL)
        if self.stage == "UNCONNECTED":
            if self.state != "CLOSED":
                raise fail(errno.EISCONN)
            self._start_connect(*address)
            self.stage = "CONNECTING"
            raise fail(errno.EINPROGRESS)
        if self.state == "SYN_SENT":
            raise fail(errno.EALREADY)
        if self.state == "CLOSED":
            # What became of it is told here, once; then the socket can be used again.
            number = self.take_error() or errno.ECONNABORTED
            self.stage = "UNCONNECTED"
            self._disconnect()
            raise fail(number)
        self.stage = "CONNECTED"

    def _start_connect(self, ip: str, port: int) -> None:
        ip = reached(ip, self.ip)
        target = self.net.owner(unmapped(ip), self.host)
        source = self._source(ip, target)
        if self.port and self.host.ports.connected(source, self.port, (ip, port)):
            raise fail(errno.EADDRNOTAVAIL)
        self.ip = source
        if not self.port:
            self.port = self.shown_port = self.host.ports.claim(self, 0)
        self.peer = (ip, port)
        self.state = "SYN_SENT"
        server = target if target is not None else self.host
        self.label = self.net.label(self.host, server, port)
        self.rx = None
        self.tx = Direction(self.net.scheduler, self.net.link(self.host, server), self.label + ">", self)
        if target is None:
            self._retry_connect(self.tx, None, 0)
        else:
            self._send_syn(self.tx, target, 0)
        self.changed()

    def _source(self, ip: str, target: Host | None) -> str:
        """The address that a connection to `ip` comes from, if that way exists (as tcp_v6_connect())."""
        if not is_any(self.ip) or is_mapped(self.ip):
            if is_mapped(self.ip) and not is_mapped(ip):
                raise fail(errno.EAFNOSUPPORT)
            if is_mapped(ip) and not is_mapped(self.ip) and self.v6:
                raise fail(errno.ENETUNREACH)
            if is_loopback(self.ip) and not is_loopback(ip) and target is not self.host:
                raise fail(errno.EINVAL)
            if not is_any(self.ip):
                return self.ip
        if is_mapped(ip) and self.options.flag(IPPROTO_IPV6, _socket.IPV6_V6ONLY):
            raise fail(errno.ENETUNREACH)
        if target is self.host:
            # The route to 127.0.0.0/8 has 127.0.0.1 as its source; one's other addresses answer themselves.
            return mapped("127.0.0.1", self.v6) if unmapped(ip).startswith("127.") else ip
        if self.v6 and not is_mapped(ip):
            return self.host.ipv6
        return mapped(self.host.ipv4, self.v6)

    def _send_syn(self, tx: Direction, target: Host, attempt: int) -> None:
        tx.link.send(
            self.net.scheduler, self.label + ">", "net.connect", 1, tx,
            lambda: self._syn_arrived(tx, target, attempt),
        )  # fmt: skip

    def _syn_arrived(self, tx: Direction, target: Host, attempt: int) -> None:
        if self.tx is not tx or self.state != "SYN_SENT":
            return
        assert self.peer is not None
        listener = target.ports.listener(unmapped(self.peer[0]), self.peer[1])
        if listener is not None:
            # Linux holds one more than the backlog says (sk_acceptq_is_full()).
            if len(listener.queue) > listener.backlog:
                self._retry_connect(tx, target, attempt)
            else:
                listener._welcome(self, tx)
        elif target is self.host and self.peer == (self.ip, self.port):
            # "Simultaneous open" (RFC 9293, 3.5) with itself, which can happen to a client of a free port.
            tx.receiver, tx.reverse = self, tx
            self.rx = tx
            tx.push(SYN_ACK)
        else:
            tx.link.send(
                self.net.scheduler, self.label + "<", "net.connect", 1, tx,
                lambda: self._connect_failed(tx, errno.ECONNREFUSED),
            )  # fmt: skip

    def _welcome(self, client: TcpSocket, rx: Direction) -> None:
        """A SYN has come to this listener: make the other end of the connection."""
        assert client.peer is not None
        child = TcpSocket(self.net, self.host, self.family)
        child.label = client.label
        child.state = "ESTABLISHED"
        child.stage = "CONNECTED"
        child.options = self.options.inherited(child.v6)
        child.options.grow()
        child.ip = mapped(client.peer[0], child.v6)
        child.port = child.shown_port = client.peer[1]
        child.peer = (mapped(client.ip, child.v6), client.port)
        child._ip_locked = self._ip_locked
        tx = Direction(self.net.scheduler, rx.link, client.label + "<", child)
        child.rx, child.tx = rx, tx
        rx.receiver, rx.reverse = child, tx
        tx.receiver, tx.reverse = client, rx
        client.rx = tx
        self.host.ports.adopt(child)
        self.queue.append(child)
        self.changed()
        tx.push(SYN_ACK)

    def _retry_connect(self, tx: Direction, target: Host | None, attempt: int) -> None:
        """The SYN got no answer: send it again, ever later, then give up (tcp(7), tcp_syn_retries)."""

        def again() -> None:
            if self.tx is not tx or self.state != "SYN_SENT":
                return
            if attempt + 1 == len(SYN_RETRIES_NS):
                self._connect_failed(tx, errno.ETIMEDOUT)
            elif target is None:
                self._retry_connect(tx, None, attempt + 1)
            else:
                self._send_syn(tx, target, attempt + 1)

        self.net.scheduler.at(self.net.scheduler.clock.now + SYN_RETRIES_NS[attempt], again)

    def _connect_failed(self, tx: Direction, number: int) -> None:
        if self.tx is tx and self.state == "SYN_SENT":
            self._abandon(number)

    # --- data -----------------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        """As tcp_sendmsg_locked(): as much as the buffer takes."""
        state = self.state
        if self.error or self.write_shut or (state != "ESTABLISHED" and state != "CLOSE_WAIT"):
            raise fail(self.take_error() or (errno.EAGAIN if state == "SYN_SENT" else errno.EPIPE))
        if flags & _MSG_OOB:
            raise fail(errno.EOPNOTSUPP)  # urgent data is not simulated
        tx = self.tx
        assert tx is not None
        if type(data) is not bytes:
            data = bytes(memoryview(data))
        size = len(data)
        room = self.options.sndbuf - tx.unsent_size - tx.flight_size
        if size > room:
            if room <= 0:
                raise fail(errno.EAGAIN)
            data = data[:room]
            size = room
        if size:
            tx.push(data)
        return size

    def recv(self, limit: int, flags: int = 0) -> bytes:
        """As tcp_recvmsg_locked()."""
        if limit <= 0:
            if limit < 0:
                raise ValueError("negative buffersize in recv")
            return b""  # Python does not ask the system for nothing (sock_recv_guts())
        rx = self.rx
        if self.state == "LISTEN":
            raise fail(errno.ENOTCONN)
        if flags & _MSG_OOB:
            raise fail(errno.EINVAL)
        if rx is not None and rx.size:
            return rx.peek(limit) if flags & _MSG_PEEK else rx.read(limit)
        if self.done:
            return b""
        if self.error:
            raise fail(self.take_error())
        if self.read_shut:
            return b""
        raise fail(errno.ENOTCONN if self.state == "CLOSED" else errno.EAGAIN)

    def refuse(self, direction: Direction) -> None:
        """Bytes came for which nobody is there any more: the connection is reset, at both ends."""
        assert direction.reverse is not None
        direction.reverse.reset()
        if self.rx is direction and self.state != "CLOSED":
            self._end(errno.ECONNRESET)

    # --- ending ---------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """As inet_shutdown()."""
        if how not in (_socket.SHUT_RD, _socket.SHUT_WR, _socket.SHUT_RDWR):
            raise fail(errno.EINVAL)
        if self.stage == "CONNECTING":
            self.stage = "DISCONNECTING" if self.state in ("SYN_SENT", "CLOSED") else "CONNECTED"
        if self.state == "SYN_SENT" or (self.state == "LISTEN" and how != _socket.SHUT_WR):
            self._disconnect()
            self.stage = "UNCONNECTED"
            self.changed()
            return
        if self.state == "LISTEN":
            return
        closed = self.state == "CLOSED"
        if how != _socket.SHUT_WR:
            self.read_shut = True
        if how != _socket.SHUT_RD:
            self._send_fin()
            self.write_shut = True
        self._note_refusal()
        self.changed()
        if closed:
            # Linux takes note all the same: a socket can be shut down before it is connected.
            raise fail(errno.ENOTCONN)

    def close(self) -> None:
        """As __tcp_close(): the connection may outlive the socket."""
        if self.closed:
            return
        self.closed = True
        if self.state == "LISTEN":
            self._stop_listening()
            self._enter_closed()
        elif self.state == "SYN_SENT":
            self._enter_closed()
        elif self.state != "CLOSED":
            assert self.rx is not None
            assert self.tx is not None
            if self.rx.size:
                # RFC 2525 section 2.17: closing with unread data resets.
                self.tx.reset()
                self._enter_closed()
            elif self.options.linger == (1, 0):
                self._disconnect()
            else:
                self._send_fin()
        self.read_shut = self.write_shut = True
        if self.rx is not None:
            self.rx.discard()
        self._note_refusal()
        if self.state == "CLOSED":
            self._release_port()
        else:
            self._settle_orphan()

    def _send_fin(self) -> None:
        if self.state in ("ESTABLISHED", "CLOSE_WAIT"):
            assert self.tx is not None
            self.state = "FIN_WAIT" if self.state == "ESTABLISHED" else "LAST_ACK"
            self.write_shut = True
            self.tx.push(FIN)

    def _note_refusal(self) -> None:
        # tcp_rcv_state_process(): only one that has sent its FIN resets a peer that goes on sending.
        if self.rx is not None:
            self.rx.refused = self.state == "CLOSED" or (self.read_shut and self.state == "FIN_WAIT")

    def _enter_closed(self) -> None:
        """As tcp_set_state(TCP_CLOSE): a port that the program did not choose is given back."""
        self.state = "CLOSED"
        if self.closed or not self._port_locked:
            self._release_port()
        self._note_refusal()

    def _end(self, number: int) -> None:
        """The connection is over, for a reason or for none. As tcp_done()."""
        self.error = number
        self.read_shut = self.write_shut = True
        self._enter_closed()
        self.changed()

    def _abandon(self, number: int) -> None:
        """It is over, and so is what we had to say."""
        if self.tx is not None:
            self.tx.drop()
        self._end(number)

    def _disconnect(self) -> None:
        """As tcp_disconnect(): back to a socket that can be used again; a peer is told by a reset."""
        before = self.state
        if before == "LISTEN":
            self._stop_listening()
        elif before != "CLOSED":
            if before in ("ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT"):
                assert self.tx is not None
                self.tx.reset()
            self.error = errno.ECONNRESET
        if before != "CLOSED":
            self._enter_closed()
        if self.rx is not None:
            self.rx.refused = True
            self.rx.discard()
        self.rx = self.tx = self.peer = None
        if not self._ip_locked:
            self.ip = any_ip(self.v6)
        self.read_shut = self.write_shut = self.done = self._fin_acked = False

    def control_arrived(self, what: str, direction: Direction) -> None:
        """A packet without data came in."""
        if direction is not self.rx or self.state == "CLOSED":
            # Of a connection that nobody here knows any more.
            assert direction.reverse is not None
            if what != RST:
                direction.reverse.reset()
        elif what == SYN_ACK:
            self.state = "ESTABLISHED"
            self.options.grow()
            if self.write_shut and direction is self.tx:
                self._send_fin()  # as tcp_rcv_state_process() does in SYN_RECV, which only this kind passes
            self.changed()
        elif what == FIN:
            self._fin_arrived(direction)
        else:
            # tcp_reset(): to one whose peer had already said FIN it is a broken pipe.
            self._abandon(errno.EPIPE if self.state == "CLOSE_WAIT" else errno.ECONNRESET)

    def _fin_arrived(self, direction: Direction) -> None:
        self.read_shut = self.done = True
        if self.state == "ESTABLISHED":
            self.state = "CLOSE_WAIT"
        elif self._fin_acked:
            self._time_wait()
        else:
            self.state = "CLOSING"
        self.changed()
        sender = direction.sender
        assert isinstance(sender, TcpSocket)
        sender._fin_acknowledged(direction)

    def _fin_acknowledged(self, direction: Direction) -> None:
        # As soon as it has arrived: a program can hardly tell whether the way back takes its time.
        if self.tx is not direction:
            return
        self._fin_acked = True
        if self.state == "CLOSING":
            self._time_wait()
        elif self.state == "LAST_ACK":
            self._enter_closed()
            self.changed()
        else:
            self._settle_orphan()

    def _time_wait(self) -> None:
        """Both ends have said FIN, this one first."""
        self.host.ports.cool_down(self)
        self._enter_closed()

    def _settle_orphan(self) -> None:
        # One that only waits for the peer's FIN does so for the time of a TIME_WAIT (__tcp_close()).
        if self.closed and self._fin_acked and self.state == "FIN_WAIT":
            self.held_until_ns = self.net.scheduler.clock.now + TIME_WAIT_NS

    # --- options --------------------------------------------------------------------------------------

    def take_error(self) -> int:
        """As sock_error(): an error is told once."""
        number, self.error = self.error, 0
        return number

    def getsockopt(self, level: int, name: int) -> int | bytes:
        if level == SOL_SOCKET:
            if name == _socket.SO_ERROR:
                return self.take_error()
            if name == _socket.SO_ACCEPTCONN:
                return int(self.state == "LISTEN")
            if name == _socket.SO_TYPE:
                return int(_socket.SOCK_STREAM)
            if name == _socket.SO_DOMAIN:
                return int(self.family)
            if name == _socket.SO_PROTOCOL:
                return int(_socket.IPPROTO_TCP)
        return self.options.get(level, name)

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        if self.v6 and self.port and (level, name) == (IPPROTO_IPV6, _socket.IPV6_V6ONLY):
            raise fail(errno.EINVAL)
        self.options.set(level, name, value)
