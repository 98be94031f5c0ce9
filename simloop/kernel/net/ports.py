"""Port tables of one host, for TCP and UDP: which sockets are bound to each port or listen on it, and which ports are
in TIME_WAIT."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sized
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from simloop.kernel.clock import SECOND
from simloop.kernel.errors import fail
from simloop.kernel.net.addresses import Address, is_any, is_mapped, is_multicast, unmapped

if TYPE_CHECKING:
    from simloop.kernel.scheduler import Scheduler

EPHEMERAL = range(32_768, 61_000)  # net.ipv4.ip_local_port_range
TIME_WAIT_NS = 60 * SECOND


class Claim(NamedTuple):
    """Properties of a bound socket that decide if another one may share its port (inet_bind_bucket)."""

    ip: str
    v6: bool
    v6only: bool
    reuse_address: bool
    reuse_port: bool
    listening: bool = False

    def covers(self, ip: str) -> bool:
        """Return True if a packet with the destination `ip`, a literal address, is for the socket."""
        if ":" in ip:
            return self.v6 and self.ip in ("::", ip)
        if self.v6:
            return not self.v6only and (is_any(self.ip) or unmapped(self.ip) == ip)
        return self.ip in ("0.0.0.0", ip)

    def conflicts(self, other: Claim) -> bool:
        """Return True if the sockets of this claim and the other one may not share a port, as inet_bind_conflict() in
        net/ipv4/inet_connection_sock.c decides."""
        if self.reuse_port and other.reuse_port:
            return False
        if self.reuse_address and other.reuse_address and not other.listening:
            return False
        return self._overlaps(other)

    def _overlaps(self, other: Claim) -> bool:
        """Return True if the addresses of the two claims overlap, as inet_rcv_saddr_equal() decides, which is not quite
        symmetric."""
        if not self.v6 or (is_mapped(self.ip) and (is_mapped(other.ip) or not other.v6)):
            mine, theirs = self._as_ipv4(), other._as_ipv4()
            return not other.v6only and (mine == theirs or is_any(mine) or is_any(theirs))
        if self.ip == "::":
            return other.ip == "::" or not (self.v6only and (is_mapped(other.ip) or not other.v6))
        if other.ip == "::":
            return not (other.v6only and is_mapped(self.ip))
        return self.ip == other.ip

    def _as_ipv4(self) -> str:
        # LOOPBACK4_IPV6 in include/net/ipv6.h: a stand-in that collides with the IPv4 any-address only.
        return unmapped(self.ip) if not self.v6 or is_mapped(self.ip) or is_any(self.ip) else "127.0.0.6"


class Bound(Protocol):
    """Structural type of a socket that is bound to a port, as `Ports` sees it."""

    ip: str
    #: Port that the socket is bound to, and port that getsockname(2) returns, which remains when the former is
    #: released.
    port: int
    shown_port: int
    peer: Address | None
    state: str
    #: Time in nanoseconds at which the port becomes free although the connection has not ended; None if it does not.
    held_until_ns: int | None

    @property
    def queue(self) -> Sized:
        """Accept queue: connections that were not accepted yet."""

    def claim(self) -> Claim:
        """Return the properties of the socket that decide if another one may share its port."""

    def lose_power(self) -> None:
        """Drop all state without sending anything: the socket's machine has lost power."""


class Hearing(Bound, Protocol):
    """Structural type of a UDP socket that is bound to a port, as `UdpPorts` sees it."""

    v6: bool

    def hears(self, source: Address) -> bool:
        """Return True if the socket accepts datagrams from this address."""

    def is_member(self, group: str, interface: str) -> bool:
        """Return True if this socket itself has joined the multicast group on that interface."""


S = TypeVar("S", bound=Bound)
D = TypeVar("D", bound=Hearing)


class Ports(Generic[S]):
    """Table of one host's ports: the sockets that are bound to them, listening sockets, and claims in TIME_WAIT."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._holders: dict[int, list[S]] = {}
        self._listeners: dict[int, list[S]] = {}
        #: Claims of sockets in TIME_WAIT, by port, with the times in nanoseconds at which they expire.
        self._time_wait: dict[int, dict[Claim, int]] = {}
        self._next = EPHEMERAL.start
        #: Addresses and ports at which connections from this same host were refused.
        self.refused: list[tuple[str, int]] = []

    def claim(self, sock: S, port: int) -> int:
        """Bind a socket to `port`, or to any free one if `port` is 0. Returns the port. Raises `OSError` (EADDRINUSE)
        if it is taken."""
        if port == 0:
            port = self._free_port()
        else:
            self._check(sock, port)
        self._holders.setdefault(port, []).append(sock)
        return port

    def _check(self, sock: S, port: int) -> None:
        wanted = sock.claim()
        now = self._scheduler.clock.now
        for other in self._holders.get(port, ()):
            lapsed = other.held_until_ns is not None and other.held_until_ns <= now
            if other is not sock and not lapsed and wanted.conflicts(other.claim()):
                raise fail(errno.EADDRINUSE)
        if any(wanted.conflicts(claim) for claim in self._time_wait_at(port)):
            raise fail(errno.EADDRINUSE)

    def _free_port(self) -> int:
        for _ in EPHEMERAL:
            port = self._next
            self._next = port + 1 if port + 1 in EPHEMERAL else EPHEMERAL.start
            if port not in self._holders and not self._time_wait_at(port):
                return port
        raise fail(errno.EADDRINUSE)

    def listen(self, sock: S) -> None:
        """Register a socket, which is bound to its port, as listening."""
        # Looked at again: bound side by side with SO_REUSEADDR, only one may listen.
        self._check(sock, sock.port)
        self._listeners.setdefault(sock.port, []).append(sock)

    def unlisten(self, sock: S) -> None:
        listeners = self._listeners[sock.port]
        listeners.remove(sock)
        if not listeners:
            del self._listeners[sock.port]

    def listener(self, ip: str, port: int) -> S | None:
        """Return the listening socket for a connection to this literal address, preferring one bound to the address
        itself to one bound to the wildcard; None if there is none."""
        fitting = [sock for sock in self._listeners.get(port, ()) if sock.claim().covers(ip)]
        best = [sock for sock in fitting if not is_any(sock.ip)] or fitting
        if len(best) > 1:  # SO_REUSEPORT: the shortest queue stands in for the kernel's hash
            return min(best, key=lambda sock: len(sock.queue))
        return best[0] if best else None

    def connected(self, ip: str, port: int, peer: tuple[str, int]) -> bool:
        """Return True if a connection from `ip` and `port` to `peer` exists already."""
        return any(
            sock.peer == peer and sock.ip == ip and sock.state != "CLOSED" for sock in self._holders.get(port, ())
        )

    def adopt(self, child: S) -> None:
        """Bind an accepted connection to the port of its listening socket."""
        self._holders.setdefault(child.port, []).append(child)

    def in_use(self) -> bool:
        return bool(self._holders)

    def sockets(self) -> list[S]:
        """Return all sockets that are bound to a port, in the order in which the ports were first used."""
        return [sock for holders in self._holders.values() for sock in holders]

    def lose_power(self) -> None:
        """Drop all connections and listeners without telling their peers."""
        for sock in self.sockets():
            sock.lose_power()
        self._holders.clear()
        self._listeners.clear()
        self._time_wait.clear()

    def release(self, sock: S) -> None:
        holders = self._holders[sock.port]
        holders.remove(sock)
        if not holders:
            del self._holders[sock.port]

    def enter_time_wait(self, sock: S) -> None:
        """Keep the port of a connection, at the end that closed it first, in TIME_WAIT for `TIME_WAIT_NS`."""
        claims = self._time_wait.setdefault(sock.shown_port, {})
        claims[sock.claim()] = self._scheduler.clock.now + TIME_WAIT_NS

    def _time_wait_at(self, port: int) -> list[Claim]:
        claims = self._time_wait.get(port)
        if not claims:
            return []
        now = self._scheduler.clock.now
        for claim in [claim for claim, until in claims.items() if until <= now]:
            del claims[claim]
        if not claims:
            del self._time_wait[port]
        return list(claims)


class UdpPorts(Ports[D]):
    """Table of one host's UDP ports, and of the multicast groups that its sockets have joined."""

    #: Number of sockets that have joined each multicast group, by group and interface; None before the first one.
    groups: Counter[tuple[str, str]] | None = None

    def receiver(self, ip: str, port: int, source: Address) -> D | None:
        """Return the socket that gets a unicast datagram, as __udp4_lib_lookup() does; None if there is none.

        One bound to the address itself is preferred to one bound to the wildcard, then a connected one to others, then
        the newest.
        """
        best: list[D] = []
        highest = (False, 0, False)
        for sock in reversed(self._holders.get(port, ())):
            if not sock.claim().covers(ip) or not sock.hears(source):
                continue
            # compute_score(): a peer's port counts, too, which may be 0.
            rank = (not is_any(sock.ip), 0 if sock.peer is None else 1 + (sock.peer[1] > 0), not sock.v6)
            if not best or rank > highest:
                best, highest = [sock], rank
            elif rank == highest:
                best.append(sock)
        sharing = [sock for sock in best if sock.claim().reuse_port]
        if len(sharing) > 1 and sharing[0] is best[0]:
            # A hash of both addresses in the kernel: all that one sender sends goes to one socket.
            return sharing[source[1] % len(sharing)]
        return best[0] if best else None

    def receivers(self, ip: str, interface: str, port: int, source: Address) -> list[D]:
        """Return the sockets that get a multicast or broadcast datagram which arrives at `interface`, as
        __udp4_lib_mcast_deliver() does."""
        if is_multicast(ip) and (self.groups is None or not self.groups[ip, interface]):
            return []
        found = [sock for sock in self._holders.get(port, ()) if sock.claim().covers(ip) and sock.hears(source)]
        if is_multicast(ip) and ":" not in ip:
            # IP_MULTICAST_ALL is set for IPv4 sockets only.
            return [sock for sock in found if not sock.v6 or sock.is_member(ip, interface)]
        return found
