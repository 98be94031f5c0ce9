"""TCP state machine of one end of a connection: how it is established and closed.

States, ports and errors follow net/ipv4/tcp_input.c and tcp.c of Linux 6, whose functions the comments name. The system
calls on TCP sockets are in `tcp`.
"""

from __future__ import annotations

import errno
import socket as _socket  # constants only
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from simloop.kernel.clock import SECOND
from simloop.kernel.errors import fail
from simloop.kernel.net.addresses import Address, any_ip, mapped, reached, unmapped
from simloop.kernel.net.options import IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET, Options
from simloop.kernel.net.ports import TIME_WAIT_NS, Claim
from simloop.kernel.net.routing import source_of
from simloop.kernel.net.sockets import Socket
from simloop.kernel.net.stream import FIN, RST, SYN_ACK, Direction
from simloop.kernel.net.wire import HELD, LOST, PASSED, RESET

if TYPE_CHECKING:
    from simloop.kernel.net.wire import Link, Machine, Net

# How long a SYN waits for its answer. The first few times it waits equally long: net.ipv4.tcp_syn_linear_timeouts = 4
# (ip-sysctl.rst), since Linux 6.5.
_SYN_PATIENCE_NS = (*[SECOND] * 5, *(min(1 << number, 120) * SECOND for number in range(1, 128)))
_SYN_LINEAR = 4
_TCP_SYNCNT = int(_socket.TCP_SYNCNT)


class _Opening:
    """Packet of the TCP handshake in flight: a SYN, or the RST that refuses it."""

    __slots__ = ("arrive", "link", "lost", "tx", "who")

    def __init__(
        self, tx: Direction, link: Link, who: str, arrive: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        self.tx = tx
        self.link = link
        self.who = who
        self.arrive = arrive
        self.lost = lost

    def land(self) -> None:
        link, scheduler = self.link, self.tx.scheduler
        fate = PASSED if link.calm else link.fate(scheduler, self.who, 1, self.tx)
        if fate == HELD:
            link.hold(self.land)
        elif fate == LOST:
            self.lost()
        elif isinstance(fate, int):
            scheduler.at(scheduler.clock.now + fate, self.arrive)
        elif fate == RESET:
            client = self.tx.sender
            assert isinstance(client, Endpoint)
            client._connect_failed(self.tx, errno.ECONNREFUSED)
        else:
            self.arrive()


class Endpoint(Socket):
    """Endpoint of a TCP connection, or a listening socket: the state that is changed by both packets and system
    calls."""

    kind = int(_socket.SOCK_STREAM)
    protocol = int(_socket.IPPROTO_TCP)

    def __init__(self, net: Net, host: Machine, family: int) -> None:
        super().__init__()
        self.net = net
        self.host = host
        self.family = family
        self.v6 = family == _socket.AF_INET6
        self.options = Options(self.v6)
        #: State of RFC 9293, with two differences: FIN_WAIT is both FIN-WAIT-1 and FIN-WAIT-2 (see `_fin_acked`), and
        #: in TIME-WAIT the socket is CLOSED, while the port remains in use.
        self.state = "CLOSED"
        #: Progress of connecting that the program has seen in its calls (enum socket_state); the connection itself may
        #: be further.
        self.stage = "UNCONNECTED"
        self.error = 0
        self.read_shut = False  # our own shutdown, or the peer's FIN
        self.write_shut = False
        #: True once the peer's FIN has arrived (SOCK_DONE): reading then ends without an error, whatever arrives later.
        self.done = False
        self.closed = False
        self.ip = any_ip(self.v6)
        #: Port that the socket is bound to, and port that getsockname(2) returns, which remains when the former is
        #: released.
        self.port = self.shown_port = 0
        # What the program has chosen itself stays when a connection ends.
        self._ip_locked = self._port_locked = False
        #: Time at which the port of an orphaned connection (closed by the program) becomes free, although its peer has
        #: not closed it; None for other connections.
        self.held_until_ns: int | None = None
        self.peer: Address | None = None
        self.rx: Direction | None = None
        self.tx: Direction | None = None
        self._fin_acked = False
        self.backlog = 0
        self.queue: deque[Endpoint] = deque()
        self.label = ""
        #: True while keep-alive probes are sent to the peer (`keepalive`).
        self.probing = False
        #: True once its machine has lost power.
        self.forgotten = False

    def __str__(self) -> str:
        return self.label or f"{self.host.name}:{self.shown_port or '?'}"

    @property
    def hung_up(self) -> bool:  # type: ignore[override]
        return self.read_shut and self.state != "LISTEN"

    def connected(self) -> bool:
        """Return True while the connection has a peer."""
        return self.peer is not None and self.state not in ("CLOSED", "SYN_SENT")

    def claim(self) -> Claim:
        """Return the properties of this socket that decide if another one may share its port."""
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

    # --- establishing ---------------------------------------------------------------------------------

    def _start_connect(self, ip: str, port: int) -> None:
        ip = reached(ip, self.ip)
        target = self.net.owner(unmapped(ip), self.host)
        v6only = self.options.flag(IPPROTO_IPV6, _socket.IPV6_V6ONLY)
        source = source_of(self.host, self.ip, ip, target, v6=self.v6, v6only=v6only)
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
        self.net.directions.append(self.tx)
        if target is None:
            self._retry_connect(self.tx, None, 0)
        else:
            self._send_syn(self.tx, target, 0)
        self.changed()

    def _send_syn(self, tx: Direction, target: Machine, attempt: int) -> None:
        self._carry_connect(
            tx, ">", tx.link, lambda: self._syn_arrived(tx, target, attempt),
            lambda: self._retry_connect(tx, target, attempt),
        )  # fmt: skip

    def _carry_connect(
        self, tx: Direction, way: str, link: Link, arrive: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        scheduler, who = self.net.scheduler, self.label + way
        answer = link.ask(scheduler, who, "net.connect", 1, tx)
        raced = link.timer_race(scheduler, who, 0, tx)
        link.carry(scheduler, answer, raced, 1, _Opening(tx, link, who, arrive, lost).land)

    def _syn_arrived(self, tx: Direction, target: Machine, attempt: int) -> None:
        if self.tx is not tx or self.state != "SYN_SENT":
            return
        assert self.peer is not None
        if not target.up or target.paused:
            self._retry_connect(tx, target, attempt)
            return
        listener = target.ports.listener(unmapped(self.peer[0]), self.peer[1])
        if listener is not None:
            # Linux holds one more than the backlog says (sk_acceptq_is_full()).
            if len(listener.queue) > listener.backlog:
                self._retry_connect(tx, target, attempt)
            else:
                listener._accept_syn(self, tx)
        elif target is self.host and self.peer == (self.ip, self.port):
            # "Simultaneous open" (RFC 9293, 3.5) with itself, which can happen to a client of a free port.
            tx.receiver, tx.reverse = self, tx
            self.rx = tx
            tx.push(SYN_ACK)
        else:
            if target is self.host:
                self.host.ports.refused.append((unmapped(self.peer[0]), self.peer[1]))
            self._carry_connect(
                tx, "<", self.net.link(target, self.host), lambda: self._connect_failed(tx, errno.ECONNREFUSED),
                lambda: self._retry_connect(tx, target, attempt),
            )  # fmt: skip

    def _accept_syn(self, client: Endpoint, rx: Direction) -> None:
        """Create the server's end of a connection, for a SYN that has arrived at this listening socket from
        `client`."""
        assert client.peer is not None
        child = type(self)(self.net, self.host, self.family)
        child.label = client.label
        child.state = "ESTABLISHED"
        child.stage = "CONNECTED"
        child.options = self.options.inherited(child.v6)
        child.options.grow()
        child.ip = mapped(client.peer[0], child.v6)
        child.port = child.shown_port = client.peer[1]
        child.peer = (mapped(client.ip, child.v6), client.port)
        child._ip_locked = self._ip_locked
        tx = Direction(self.net.scheduler, self.net.link(self.host, client.host), client.label + "<", child)
        self.net.directions.append(tx)
        child.rx, child.tx = rx, tx
        rx.receiver, rx.reverse = child, tx
        tx.receiver, tx.reverse = client, rx
        client.rx = tx
        self.host.ports.adopt(child)
        self.queue.append(child)
        self.changed()
        tx.push(SYN_ACK)
        # A socket that was shut down before it listened (ENOTCONN) has taken note, and so have its connections.
        child.read_shut, child.write_shut = self.read_shut, self.write_shut
        if child.write_shut:
            child._send_fin()
            child._note_refusal()

    def _retry_connect(self, tx: Direction, target: Machine | None, attempt: int) -> None:
        """Schedule the next retransmission of a SYN that was not answered, with growing intervals; after too many, give
        up (tcp(7), tcp_syn_retries and TCP_SYNCNT)."""

        def again() -> None:
            if self.tx is not tx or self.state != "SYN_SENT":
                return
            if attempt == self.options.number(IPPROTO_TCP, _TCP_SYNCNT) + _SYN_LINEAR:
                self._connect_failed(tx, errno.ETIMEDOUT)
            elif target is None:
                self._retry_connect(tx, None, attempt + 1)
            else:
                self._send_syn(tx, target, attempt + 1)

        self.net.scheduler.at(self.net.scheduler.clock.now + _SYN_PATIENCE_NS[attempt], again)

    def _connect_failed(self, tx: Direction, number: int) -> None:
        if self.tx is tx and self.state == "SYN_SENT":
            self._abort(number)

    # --- ending ---------------------------------------------------------------------------------------

    def control_arrived(self, what: str, direction: Direction) -> None:
        """Handle the arrival of a packet without data: SYN-ACK, FIN or RST."""
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
            self._abort(errno.EPIPE if self.state == "CLOSE_WAIT" else errno.ECONNRESET)

    @property
    def reachable(self) -> bool:
        """True while the host has power and is not paused, so that it answers packets."""
        return self.host.up and not self.host.paused

    def lose_power(self) -> None:
        """Drop all state without sending anything. If a packet arrives for this endpoint after its machine is up again,
        the answer is a reset."""
        for waiting in self.queue:
            waiting.lose_power()
        self.queue.clear()
        if self.tx is not None:
            self.tx.unsent.clear()
            self.tx.unsent_size = 0
        if self.rx is not None:
            self.rx.refused = True
            self.rx.discard()
        self.state, self.stage, self.closed = "CLOSED", "UNCONNECTED", True
        self.read_shut = self.write_shut = self.forgotten = True
        self.port = 0

    def timed_out(self) -> None:
        """Abort the connection with ETIMEDOUT, as tcp_write_err() does: data was not acknowledged for too long."""
        if self.state != "CLOSED":
            self._abort(errno.ETIMEDOUT)

    def refuse(self, direction: Direction) -> None:
        """Reset the connection at both ends, because data has arrived in `direction` that the program can no longer
        read."""
        assert direction.reverse is not None
        direction.reverse.reset()
        if self.rx is direction and self.state != "CLOSED":
            self._end(errno.ECONNRESET)

    def _send_fin(self) -> None:
        if self.state in ("ESTABLISHED", "CLOSE_WAIT"):
            assert self.tx is not None
            self.state = "FIN_WAIT" if self.state == "ESTABLISHED" else "LAST_ACK"
            self.write_shut = True
            self.tx.push(FIN)

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
        assert isinstance(sender, Endpoint)
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
        """Enter TIME-WAIT: both ends have sent a FIN, this one first."""
        self.host.ports.enter_time_wait(self)
        self._enter_closed()

    def _settle_orphan(self) -> None:
        # One that only waits for the peer's FIN does so for the time of a TIME_WAIT (__tcp_close()).
        if self.closed and self._fin_acked and self.state == "FIN_WAIT":
            self.held_until_ns = self.net.scheduler.clock.now + TIME_WAIT_NS

    def _note_refusal(self) -> None:
        # tcp_rcv_state_process(): only one that has sent its FIN resets a peer that goes on sending.
        if self.rx is not None:
            self.rx.refused = self.state == "CLOSED" or (self.read_shut and self.state == "FIN_WAIT")

    def _enter_closed(self) -> None:
        """Enter CLOSED, as tcp_set_state(TCP_CLOSE) does: the port is released, unless the program chose it and still
        has the socket open."""
        self.state = "CLOSED"
        if self.closed or not self._port_locked:
            self._release_port()
        self._note_refusal()

    def _end(self, number: int) -> None:
        """Close the connection, as tcp_done() does. `number` is the errno that the program gets; 0 for none."""
        self.error = number
        self.read_shut = self.write_shut = True
        self._enter_closed()
        self.changed()

    def _abort(self, number: int) -> None:
        """Close the connection with errno `number`, and drop data that was not sent yet."""
        if self.tx is not None:
            self.tx.drop()
        self._end(number)

    def _disconnect(self) -> None:
        """Disconnect the socket so that it can be used again, as tcp_disconnect() does; the peer gets a reset."""
        before = self.state
        if before == "LISTEN":
            self._stop_listening()
        elif before != "CLOSED":
            assert self.tx is not None
            # When both ends have said FIN, only what was left unsent is worth a reset.
            if before in ("ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT") or self.tx.unsent:
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

    def _stop_listening(self) -> None:
        self.host.ports.unlisten(self)
        waiting = list(self.queue)
        self.queue.clear()
        for child in waiting:
            child.closed = True
            child._disconnect()
            child._release_port()
