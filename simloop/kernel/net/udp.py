"""UDP sockets: udp(7), over IPv4 and IPv6, with broadcast and multicast (ip(7)).

Datagrams from one socket to one address arrive in the order in which they were sent, at times that the link decides.
Unless the link is lossy, none is lost except for lack of space in the receive buffer. Rules follow net/ipv4/udp.c and
datagram.c of Linux 6, whose functions the comments name; `tests/parity` compares each call with real sockets.
"""

from __future__ import annotations

import errno
import socket as _socket  # constants only
import struct
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from simloop.kernel.descriptors import ERR, HUP, IN, OUT
from simloop.kernel.errors import fail
from simloop.kernel.net.addresses import Address, any_ip, is_any, is_mapped, is_multicast, mapped, reached, unmapped
from simloop.kernel.net.options import (
    IP_PKTINFO,
    IP_RECVERR,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_UDP,
    IPV6_RECVERR,
    IPV6_RECVPKTINFO,
    SOL_SOCKET,
    UdpOptions,
)
from simloop.kernel.net.ports import Claim
from simloop.kernel.net.routing import source_of
from simloop.kernel.net.sockets import HEAD_MAX, MSG_ERRQUEUE, Received, Socket, truesize
from simloop.kernel.net.wire import HELD, PASSED

if TYPE_CHECKING:
    from simloop.kernel.descriptors import File
    from simloop.kernel.net.wire import Link, Machine, Net
    from simloop.kernel.scheduler import Scheduler

_MSG_PEEK, _MSG_OOB, _MSG_TRUNC = int(_socket.MSG_PEEK), int(_socket.MSG_OOB), int(_socket.MSG_TRUNC)
_AF_INET, _AF_INET6 = int(_socket.AF_INET), int(_socket.AF_INET6)
_RCV, _SEND = 1, 2
_BOTH = _RCV | _SEND
# The largest payload: what 16 bits of length leave beside the headers.
_SIZE_MAX, _SIZE_MAX_V6 = 65_507, 65_527
# Headers, and the room in front of them, count for the receiver's buffer.
_HEADERS = 128
_BROADCAST = "255.255.255.255"
#: Broadcast addresses of a host's two networks (127.0.0.0/8 and 10.0.0.0/16), by interface.
_BROADCASTS = {"127.255.255.255": "lo", "10.0.255.255": "eth0", _BROADCAST: "eth0"}
#: Interfaces by number (netdevice(7)).
INTERFACES = ("", "lo", "eth0")
# What becomes of a datagram on a lossy link, in the order of the answers at a `net.lose` point.
FATES = ("arrives", "is lost", "arrives twice", "is overtaken by those behind it")
_LOST, _TWICE, _OVERTAKEN = 1, 2, 3
_IPV6_PKTINFO = 50
_RECVERR, _RECVERR_V6 = (IPPROTO_IP, IP_RECVERR), (IPPROTO_IPV6, IPV6_RECVERR)
# As much of a datagram as an ICMP error quotes: its packet has 576 bytes, that of IPv6 1280.
_QUOTED, _QUOTED_V6 = 520, 1184
# Origin, type and code in struct sock_extended_err: of "port unreachable", for IPv4 and IPv6, and of what
# the sender's own machine refuses.
_UNREACHABLE, _UNREACHABLE_V6, _LOCAL = (2, 3, 3), (3, 1, 4), (1, 0, 0)
# Largest packets of the interfaces, in bytes.
_MTU = {"lo": 65_536, "eth0": 1500}


class Datagram(NamedTuple):
    """Datagram in a socket's receive queue."""

    data: bytes
    source: Address
    #: Destination address, and interface at which it arrived.
    ip: str
    interface: str
    #: True if IP_PKTINFO was set when it arrived, so that its interface was recorded (ipv4_pktinfo_prepare()).
    is_prepared: bool
    cost: int


class Refusal(NamedTuple):
    """Entry of a socket's error queue, which recvmsg(2) reads with MSG_ERRQUEUE: a datagram that could not be
    delivered."""

    data: bytes
    #: Destination address of the datagram.
    address: Address
    #: Errno, and its origin: `_LOCAL` for this machine, otherwise origin, type and code of an ICMP message.
    number: int
    origin: tuple[int, int, int]
    info: int
    #: Address and interface at which the ICMP message arrived.
    local: str
    interface: str

    @property
    def is_icmp(self) -> bool:
        return self.origin is not _LOCAL

    @property
    def cost(self) -> int:
        """Number of bytes by which it is charged to the receive buffer."""
        return truesize(len(self.data) + _HEADERS, HEAD_MAX)


class _Packet:
    """Datagram in flight."""

    __slots__ = ("deliver", "flow", "landed", "size")

    def __init__(self, flow: Flow, size: int, deliver: Callable[[], None]) -> None:
        self.flow = flow
        self.size = size
        self.deliver = deliver
        self.landed = False

    def land(self) -> None:
        self.landed = True
        flight = self.flow.flight
        while flight and flight[0].landed:
            flight.popleft().arrive()

    def arrive(self) -> None:
        link, scheduler = self.flow.link, self.flow.scheduler
        fate = PASSED if link.calm else link.fate(scheduler, self.flow.label, self.size, self.flow)
        if fate == HELD:
            link.hold(self.arrive)
        elif isinstance(fate, int):
            scheduler.at(scheduler.clock.now + fate, self.deliver)
        elif fate == PASSED:
            self.deliver()


class Flow:
    """Datagrams from one socket to one address of one machine, which arrive in the order in which they were sent."""

    __slots__ = ("flight", "label", "leaving", "link", "packets", "scheduler", "target")

    def __init__(self, scheduler: Scheduler, link: Link, target: Machine | None, label: str) -> None:
        self.scheduler = scheduler
        self.link = link
        self.target = target
        self.label = label
        #: Datagram that is being sent now, for reports.
        self.leaving: bytes = b""
        self.packets = 0
        self.flight: deque[_Packet] = deque()

    def send(self, data: bytes, deliver: Callable[[], None]) -> None:
        """Send a datagram over the link. ``deliver()`` is called when it arrives, possibly before this call returns;
        twice if the link duplicates it, never if it is lost."""
        scheduler, link = self.scheduler, self.link
        self.leaving = data
        fate = 0
        if link.lossy:
            fate = scheduler.choices.choose(self.label, "net.lose", len(FATES), self)
            if fate == _LOST:
                return
        self.packets += 1
        size = len(data) + _HEADERS
        answer = link.ask(scheduler, self.label, "net.deliver", 1, self)
        raced = link.timer_race(scheduler, self.label, self.packets, self) if scheduler.any_timers() else None
        packet = _Packet(self, size, deliver)
        if fate == _OVERTAKEN:
            scheduler.at(scheduler.clock.now + link.latency_ns + link.jitter_ns // 2, packet.arrive)
            return
        if answer == 0 and raced is None and not self.flight and not link.latency_ns and link.calm:
            deliver()  # nearly always
        else:
            self.flight.append(packet)
            link.carry(scheduler, answer, raced, size, packet.land)
        if fate == _TWICE:
            scheduler.at(scheduler.clock.now + link.latency_ns, packet.arrive)


class UdpSocket(Socket):
    """UDP socket of one host."""

    kind = int(_socket.SOCK_DGRAM)
    protocol = IPPROTO_UDP
    # What the table of ports asks of connections.
    held_until_ns = None

    def __init__(self, net: Net, host: Machine, family: int) -> None:
        super().__init__()
        self.net = net
        self.host = host
        self.family = family
        self.v6 = family == _socket.AF_INET6
        self.options: UdpOptions = UdpOptions(self.v6)
        #: State, as in sk_state: ESTABLISHED if the socket is connected, else CLOSED.
        self.state = "CLOSED"
        self.error = 0
        self.shut = 0
        self.closed = False
        self.ip = any_ip(self.v6)
        self.port = self.shown_port = 0
        self.peer: Address | None = None
        self.queue: deque[Datagram] = deque()
        #: Error queue, which is read with MSG_ERRQUEUE; None before the first error.
        self.refusals: deque[Refusal] | None = None
        self.charged = 0
        #: Number of datagrams dropped because the receive buffer was full.
        self.drops = 0
        self._groups: list[tuple[str, str]] = []
        #: Interface for outgoing multicast datagrams, and its address as IP_MULTICAST_IF returns it.
        self._outgoing, self._outgoing_ip = "eth0", b"\0\0\0\0"
        self._flows: dict[tuple[str, int, str], Flow] = {}
        #: Labels of incoming flows, by source address; from these the labels of the flows of replies are made.
        self._heard: dict[Address, str] = {}
        self.label = ""

    def __str__(self) -> str:
        return self.label or f"{self.host.name}:{self.shown_port or '?'}/udp"

    @property
    def hung_up(self) -> bool:  # type: ignore[override]
        return bool(self.shut & _RCV)

    def claim(self) -> Claim:
        """Return the properties of this socket that decide if another one may share its port."""
        flag = self.options.flag
        return Claim(
            ip=self.ip,
            v6=self.v6,
            v6only=flag(IPPROTO_IPV6, _socket.IPV6_V6ONLY),
            reuse_address=flag(SOL_SOCKET, _socket.SO_REUSEADDR),
            reuse_port=flag(SOL_SOCKET, _socket.SO_REUSEPORT),
        )

    def hears(self, source: Address) -> bool:
        """Return True if the socket accepts datagrams from this address: a connected one accepts only those of its
        peer."""
        peer = self.peer
        return peer is None or (unmapped(peer[0]) == source[0] and peer[1] in (0, source[1]))

    def is_member(self, group: str, interface: str) -> bool:
        return (group, interface) in self._groups

    # --- readiness ------------------------------------------------------------------------------------

    def mask(self) -> int:
        """Return the poll mask, as datagram_poll() does."""
        if self.closed:
            return 0
        mask = OUT | IN if self.queue or self.shut & _RCV else OUT
        if self.error or self.refusals:
            mask |= ERR
        return mask | HUP if self.shut == _BOTH else mask

    # --- names ----------------------------------------------------------------------------------------

    def bind(self, address: Address) -> None:
        ip, port = address[0] or any_ip(self.v6), address[1]
        v6only = self.options.flag(IPPROTO_IPV6, _socket.IPV6_V6ONLY)
        if self.v6 and (self.port or (is_mapped(ip) and v6only)):
            raise fail(errno.EINVAL)
        plain = unmapped(ip)
        special = is_any(ip) or is_multicast(ip) or plain in _BROADCASTS
        if not special and self.net.owner(plain, self.host) is not self.host:
            raise fail(errno.EADDRNOTAVAIL)
        if self.port:
            raise fail(errno.EINVAL)
        self.ip = ip
        try:
            self._claim_port(port)
        except OSError:
            self.ip = any_ip(self.v6)
            raise
        if self.v6 and not is_any(ip) and not is_mapped(ip):
            self.options.set(IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)

    def _claim_port(self, port: int) -> None:
        self.port = self.shown_port = self.host.udp.claim(self, port)

    def getsockname(self) -> Address:
        return self.ip, self.shown_port

    def getpeername(self) -> Address:
        if self.peer is None or not self.peer[1]:
            raise fail(errno.ENOTCONN)
        return self.peer

    def listen(self, backlog: int) -> None:
        raise fail(errno.EOPNOTSUPP)

    def accept(self) -> Socket:
        raise fail(errno.EOPNOTSUPP)

    # --- sending --------------------------------------------------------------------------------------

    def connect(self, address: Address) -> None:
        """Set the peer, as ip4_datagram_connect() does. Nothing is sent."""
        if not self.port:
            self._claim_port(0)
        ip = reached(address[0], self._own())
        self._check_broadcast(ip)
        source = self._source(ip)
        if is_any(self.ip):
            self.ip = source
        self.peer = (ip, address[1])
        self.state = "ESTABLISHED"

    def _check_broadcast(self, ip: str) -> None:
        if unmapped(ip) in _BROADCASTS and not self.options.flag(SOL_SOCKET, _socket.SO_BROADCAST):
            raise fail(errno.EACCES)

    def _own(self) -> str:
        """Return the socket's own address; the wildcard address if it is not bound, or is bound to a multicast or
        broadcast address (__inet_bind())."""
        return any_ip(self.v6) if is_multicast(self.ip) or unmapped(self.ip) in _BROADCASTS else self.ip

    def _source(self, ip: str) -> str:
        plain = unmapped(ip)
        interface = self._outgoing if is_multicast(ip) else _BROADCASTS.get(plain)
        own = self._own()
        if interface is not None and is_any(own) and not is_mapped(own):
            # By the interface that it leaves through.
            if ":" in plain:
                return "::1" if interface == "lo" else self.host.ipv6
            return mapped("127.0.0.1" if interface == "lo" else self.host.ipv4, self.v6)
        target = self.host if interface is not None else self.net.owner(plain, self.host)
        v6only = self.options.flag(IPPROTO_IPV6, _socket.IPV6_V6ONLY)
        return source_of(self.host, own, ip, target, v6=self.v6, v6only=v6only)

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        return self.sendmsg(data, flags)

    def sendmsg(
        self,
        data: bytes | bytearray | memoryview,
        flags: int = 0,
        address: Address | None = None,
        files: tuple[File, ...] = (),
        ids: str | None = None,
    ) -> int:
        """Send a datagram, as udp_sendmsg() does. `ids` is the source address from IP_PKTINFO; None for the default
        one."""
        if not self.port:
            self._claim_port(0)
        data = bytes(data)
        if len(data) > 0xFFFF:
            raise fail(errno.EMSGSIZE)
        if flags & _MSG_OOB:
            raise fail(errno.EOPNOTSUPP)
        if address is None:
            address = self.peer
            if address is None:
                raise fail(errno.EDESTADDRREQ)
            # udpv6_sendmsg() hands an IPv4 peer on as an address.
            named = self.v6 and is_mapped(address[0])
        else:
            named = True
        if named and not address[1]:
            raise fail(errno.EINVAL)
        ip, port = reached(address[0], self._own()), address[1]
        source = self._source(ip) if ids is None else ids
        self._check_broadcast(ip)
        if len(data) > (_SIZE_MAX_V6 if self.v6 and not is_mapped(ip) else _SIZE_MAX):
            raise self._too_long(unmapped(ip), port)
        # sock_alloc_send_pskb()
        if self.error:
            raise fail(self.take_error())
        if self.shut & _SEND:
            raise fail(errno.EPIPE)
        self._send(data, (unmapped(source), self.port), unmapped(ip), port)
        return len(data)

    def _send(self, data: bytes, source: Address, ip: str, port: int) -> None:
        interface = self._outgoing if is_multicast(ip) else _BROADCASTS.get(ip)
        if interface is None:
            target = self.net.owner(ip, self.host)
            flow = self._flow(ip, port, target)
            interface = "lo" if target is self.host else "eth0"
            flow.send(data, lambda: self._arrive(flow, data, source, ip, port, interface))
            return
        loops = ":" not in ip and self.options.number(IPPROTO_IP, _socket.IP_MULTICAST_LOOP)
        loops = loops or (":" in ip and self.options.number(IPPROTO_IPV6, _socket.IPV6_MULTICAST_LOOP))
        for machine in [self.host] if interface == "lo" else self.net.machines():
            if machine is self.host and interface != "lo" and is_multicast(ip) and not loops:
                continue
            self._send_to_all(data, source, ip, port, machine, interface)

    def _send_to_all(self, data: bytes, source: Address, ip: str, port: int, machine: Machine, interface: str) -> None:
        flow = self._flow(ip, port, machine)

        def arrive() -> None:
            if machine.up and not machine.paused:
                for sock in machine.udp.receivers(ip, interface, port, source):
                    sock.arrived(data, source, ip, interface, flow.label)

        flow.send(data, arrive)

    def _flow(self, ip: str, port: int, target: Machine | None) -> Flow:
        machine = self.host if target is None else target
        key = ip, port, machine.name
        flow = self._flows.get(key)
        if flow is None:
            heard = self._heard.get((ip, port))
            if heard is not None:
                label = heard + "<"
            else:
                label = self.net.label(self.host, machine, f"{port}/udp")
                self.label = self.label or label
                label += ">"
            flow = self._flows[key] = Flow(self.net.scheduler, self.net.link(self.host, machine), target, label)
        return flow

    def _arrive(self, flow: Flow, data: bytes, source: Address, ip: str, port: int, interface: str) -> None:
        """Deliver a unicast datagram to the socket that is bound to its destination, or send back an ICMP error."""
        target = flow.target
        if target is None or not target.up or target.paused:
            return  # nobody answers
        receiver = target.udp.receiver(ip, port, source)
        if receiver is not None:
            receiver.arrived(data, source, ip, interface, flow.label)
            return
        # ICMP "port unreachable" comes back the same way.
        link = self.net.link(target, self.host)
        link.carry(self.net.scheduler, 0, None, 1, lambda: self._refused(source, (ip, port), data, interface))

    def _refused(self, source: Address, address: Address, data: bytes, interface: str) -> None:
        """Handle an ICMP "port unreachable" message, as __udp4_lib_err() does: the socket bound to `source` gets the
        error, if it is connected or has set IP_RECVERR."""
        sock = self.host.udp.receiver(*source, address)
        if sock is None:
            return
        v6 = ":" in address[0]
        if sock.options.flag(*(_RECVERR_V6 if v6 else _RECVERR)):
            quoted = data[: _QUOTED_V6 if v6 else _QUOTED]
            origin = _UNREACHABLE_V6 if v6 else _UNREACHABLE
            sock._queue_error(Refusal(quoted, address, errno.ECONNREFUSED, origin, 0, source[0], interface))
        elif sock.peer is None:
            return
        sock.error = errno.ECONNREFUSED
        sock.changed()

    def _too_long(self, ip: str, port: int) -> OSError:
        """Return the error for a datagram that is too long for a packet, and add it to the error queue, as
        ip_local_error() and ipv6_local_error() do."""
        v6 = ":" in ip
        if self.options.flag(*(_RECVERR_V6 if v6 else _RECVERR)):
            interface = "lo" if self.net.owner(ip, self.host) is self.host else "eth0"
            if not v6:
                port = 0 if self.peer is None else self.peer[1]  # it tells that of the socket
            mtu = min(_MTU[interface], 65_535 + v6)
            self._queue_error(Refusal(b"", (ip, port), errno.EMSGSIZE, _LOCAL, mtu, "", interface))
            self.changed()
        return fail(errno.EMSGSIZE)

    def _queue_error(self, refusal: Refusal) -> None:
        """Append to the error queue, if the receive buffer has space, as sock_queue_err_skb() does."""
        if self.charged + refusal.cost < self.options.rcvbuf:
            self.charged += refusal.cost
            if self.refusals is None:
                self.refusals = deque()
            self.refusals.append(refusal)

    def _receive_error(self, limit: int) -> Received:
        """Receive the first entry of the error queue, as ip_recv_error() and ipv6_recv_error() do."""
        if not self.refusals:
            raise fail(errno.EAGAIN)
        found = self.refusals.popleft()
        self.charged -= found.cost
        # sock_dequeue_err_skb()
        if self.refusals and self.refusals[0].is_icmp:
            self.error = self.refusals[0].number
        elif found.is_icmp:
            self.error = 0
        ip, port = found.address
        shown = mapped(ip, self.v6)
        error = struct.pack("IBBBBII", found.number, *found.origin, 0, found.info, 0)
        offender = bytes(28 if self.v6 else 16)
        ancillary: list[tuple[int, int, bytes]] = []
        if found.is_icmp:
            index = INTERFACES.index(found.interface)
            if self.v6 and self.options.flag(IPPROTO_IPV6, IPV6_RECVPKTINFO):
                packed = _socket.inet_pton(_AF_INET6, mapped(found.local, v6=True))
                ancillary.append((IPPROTO_IPV6, _IPV6_PKTINFO, packed + struct.pack("i", index)))
            if ":" not in ip and self.options.flag(IPPROTO_IP, IP_PKTINFO):
                packed = struct.pack("i4x4s", index, _socket.inet_aton(found.local))
                ancillary.append((IPPROTO_IP, IP_PKTINFO, packed))
            if self.v6:
                offender = struct.pack("HHI16sI", _AF_INET6, 0, 0, _socket.inet_pton(_AF_INET6, shown), 0)
            else:
                offender = struct.pack("HH4s8x", _AF_INET, 0, _socket.inet_aton(ip))
        ancillary.append((*(_RECVERR_V6 if self.v6 else _RECVERR), error + offender))
        size = len(found.data)
        flags = MSG_ERRQUEUE | (_MSG_TRUNC if size > limit else 0)
        return Received(found.data[:limit], (shown, port), flags, size, ancillary=tuple(ancillary))

    def available(self) -> int:
        return len(self.queue[0].data) if self.queue else 0

    # --- receiving ------------------------------------------------------------------------------------

    def arrived(self, data: bytes, source: Address, ip: str, interface: str, label: str) -> None:
        """Append a datagram to the receive queue, or drop it if the receive buffer is full
        (__udp_enqueue_schedule_skb())."""
        if label.endswith(">"):
            self._heard[source] = label[:-1]
        if self.charged > self.options.rcvbuf:
            self.drops += 1
            return
        cost = truesize(len(data) + _HEADERS, HEAD_MAX)
        self.charged += cost
        asked = self.options.flag(IPPROTO_IP, IP_PKTINFO) or self.options.flag(IPPROTO_IPV6, IPV6_RECVPKTINFO)
        self.queue.append(Datagram(data, source, ip, interface, asked, cost))
        self.changed()

    def recv(self, limit: int, flags: int = 0) -> bytes:
        if limit <= 0:
            if limit < 0:
                raise ValueError("negative buffersize in recv")
            return b""  # Python does not ask the system for nothing (sock_recv_guts())
        return self.recvmsg(limit, flags).data

    def recvmsg(self, limit: int, flags: int = 0) -> Received:
        """Receive one datagram, as udp_recvmsg() does."""
        if flags & MSG_ERRQUEUE:
            return self._receive_error(limit)
        if flags & _MSG_OOB:
            raise fail(errno.EAGAIN if not self.queue else errno.EOPNOTSUPP)
        if self.error:
            raise fail(self.take_error())
        if not self.queue:
            if self.shut & _RCV and self.waits(flags):
                return Received(b"")
            raise fail(errno.EAGAIN)
        found = self.queue[0]
        if not flags & _MSG_PEEK:
            self.queue.popleft()
            self.charged -= found.cost
        size = len(found.data)
        return Received(
            found.data[:limit],
            (mapped(found.source[0], self.v6), found.source[1]),
            _MSG_TRUNC if size > limit else 0,
            size,
            ancillary=self._packet_info(found),
        )

    def _packet_info(self, found: Datagram) -> tuple[tuple[int, int, bytes], ...]:
        """Return the ancillary data on the destination of a datagram, for IP_PKTINFO and IPV6_RECVPKTINFO."""
        index = INTERFACES.index(found.interface)
        if self.v6 and self.options.flag(IPPROTO_IPV6, IPV6_RECVPKTINFO):
            packed = _socket.inet_pton(_socket.AF_INET6, mapped(found.ip, v6=True))
            return ((IPPROTO_IPV6, _IPV6_PKTINFO, packed + struct.pack("i", index)),)
        if ":" not in found.ip and self.options.flag(IPPROTO_IP, IP_PKTINFO):
            special = is_multicast(found.ip) or found.ip in _BROADCASTS
            local = found.ip if not special else "127.0.0.1" if index == 1 else self.host.ipv4
            if not found.is_prepared:
                index, local = 0, "0.0.0.0"
            packed = struct.pack("i4s4s", index, _socket.inet_aton(local), _socket.inet_aton(found.ip))
            return ((IPPROTO_IP, IP_PKTINFO, packed),)
        return ()

    # --- ending ---------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        if how not in (_socket.SHUT_RD, _socket.SHUT_WR, _socket.SHUT_RDWR):
            raise fail(errno.EINVAL)
        self.shut |= how + 1
        self.changed()
        if self.state == "CLOSED":
            raise fail(errno.ENOTCONN)  # inet_shutdown() takes note all the same

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for group in self._groups:
            self._leave(group)
        self._groups.clear()
        if self.port:
            self.host.udp.release(self)
            self.port = 0
        self.queue.clear()

    def lose_power(self) -> None:
        """Drop all state, since the socket's machine has lost power."""
        self.closed = True
        self._groups.clear()
        self.queue.clear()
        self.port = 0

    # --- options --------------------------------------------------------------------------------------

    def getsockopt(self, level: int, name: int) -> int | bytes:
        if (level, name) == (IPPROTO_IP, _socket.IP_MULTICAST_IF):
            return self._outgoing_ip
        if self.v6 and (level, name) == (IPPROTO_IPV6, _socket.IPV6_MULTICAST_IF):
            return INTERFACES.index(self._outgoing) if self._outgoing_ip else 0
        return super().getsockopt(level, name)

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        if level == IPPROTO_IP and name in (_socket.IP_ADD_MEMBERSHIP, _socket.IP_DROP_MEMBERSHIP):
            self._set_member(*self._group_v4(value, name), joins=name == _socket.IP_ADD_MEMBERSHIP)
        elif level == IPPROTO_IP and name == _socket.IP_MULTICAST_IF:
            raw = value if isinstance(value, bytes) else struct.pack("i", value)
            if len(raw) < 4:
                raise fail(errno.EINVAL)
            ip = raw[4:8] if len(raw) >= 8 else raw[:4]
            index = struct.unpack("i", raw[8:12])[0] if len(raw) >= 12 else 0
            self._outgoing, self._outgoing_ip = self._interface(ip, index, errno.EADDRNOTAVAIL), ip
        elif self.v6 and level == IPPROTO_IPV6 and name in (_socket.IPV6_JOIN_GROUP, _socket.IPV6_LEAVE_GROUP):
            if not isinstance(value, bytes) or len(value) < 20:
                raise fail(errno.EINVAL)
            group = _socket.inet_ntop(_socket.AF_INET6, value[:16])
            index = struct.unpack("i", value[16:20])[0]
            interface = self._interface(bytes(4), index, errno.ENODEV)
            self._set_member(group, interface, joins=name == _socket.IPV6_JOIN_GROUP)
        elif self.v6 and (level, name) == (IPPROTO_IPV6, _socket.IPV6_MULTICAST_IF):
            index = value if isinstance(value, int) else struct.unpack("i", value[:4].ljust(4, b"\0"))[0]
            self._outgoing = self._interface(bytes(4), index, errno.ENODEV)
        elif self.v6 and self.port and (level, name) == (IPPROTO_IPV6, _socket.IPV6_V6ONLY):
            raise fail(errno.EINVAL)
        else:
            super().setsockopt(level, name, value)
            if self.refusals and (level, name) in (_RECVERR, _RECVERR_V6) and not self.options.flag(level, name):
                self.charged -= sum(refusal.cost for refusal in self.refusals)
                self.refusals.clear()

    def _interface(self, ip: bytes, index: int, otherwise: int) -> str:
        """Return the interface with the number `index`, or with the address `ip` if `index` is 0; the wildcard address
        selects the one to the other hosts. Raises `OSError` with the errno `otherwise` if there is none."""
        if index:
            if not 0 < index < len(INTERFACES):
                raise fail(otherwise)
            return INTERFACES[index]
        address = _socket.inet_ntoa(ip)
        if address in ("0.0.0.0", self.host.ipv4):
            return "eth0"
        if not address.startswith("127."):
            raise fail(otherwise)
        return "lo"

    def _group_v4(self, value: int | bytes, name: int) -> tuple[str, str]:
        """Return the multicast group and the interface of `value`, a packed struct ip_mreq or ip_mreqn."""
        if not isinstance(value, bytes) or len(value) < 8:
            raise fail(errno.EINVAL)
        group = _socket.inet_ntoa(value[:4])
        joins = name == _socket.IP_ADD_MEMBERSHIP
        if not is_multicast(group):
            raise fail(errno.EINVAL if joins else errno.EADDRNOTAVAIL)
        index = struct.unpack("i", value[8:12])[0] if len(value) >= 12 else 0
        return group, self._interface(value[4:8], index, errno.ENODEV if joins else errno.EADDRNOTAVAIL)

    def _set_member(self, group: str, interface: str, *, joins: bool) -> None:
        if not is_multicast(group):
            raise fail(errno.EINVAL)
        member = group, interface
        if not joins:
            if member not in self._groups:
                raise fail(errno.EADDRNOTAVAIL)
            self._groups.remove(member)
            self._leave(member)
            return
        if member in self._groups:
            raise fail(errno.EADDRINUSE)
        self._groups.append(member)
        udp = self.host.udp
        if udp.groups is None:
            udp.groups = Counter()
        udp.groups[member] += 1

    def _leave(self, member: tuple[str, str]) -> None:
        groups = self.host.udp.groups
        assert groups is not None
        groups[member] -= 1
