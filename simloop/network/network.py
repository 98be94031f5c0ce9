"""Network of a world: the names and addresses of its hosts, and the links between them."""

from __future__ import annotations

import socket as _socket  # constants only
from typing import TYPE_CHECKING

from simloop.kernel.host import LOCALHOST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simloop.kernel.host import Host
    from simloop.kernel.net.stream import Direction
    from simloop.kernel.net.wire import Machine
    from simloop.kernel.scheduler import Scheduler
    from simloop.network.links import Link
    from simloop.network.names import Names

_SO_KEEPALIVE = int(_socket.SO_KEEPALIVE)


class Network:
    """Network of one world, between `hosts`, by their names; others may be added later. Every host has loopback
    addresses, and one IPv4 and one IPv6 address for the other hosts."""

    __slots__ = (
        "_addresses",
        "_connections",
        "_links",
        "_loopback",
        "_names",
        "directions",
        "hosts",
        "scheduler",
    )

    def __init__(self, scheduler: Scheduler, hosts: dict[str, Host]) -> None:
        self.scheduler = scheduler
        self.hosts = hosts
        #: Directions (`kernel.net.stream.Direction`) of all TCP connections so far.
        self.directions: list[Direction] = []
        self._names: Names | None = None
        self._connections: dict[str, int] = {}
        # Links between two hosts, by the names of both, in order of their first use; and that of each host to itself.
        self._links: dict[tuple[str, str], Link] = {}
        self._loopback: Link | None = None
        # Hosts by their addresses, which many never need.
        self._addresses: dict[str, Host] = {}

    @property
    def names(self) -> Names:
        """Name records of the network, except for the names of its hosts; made at the first use."""
        if self._names is None:
            from simloop.network.names import Names

            self._names = Names(self.scheduler.clock)
        return self._names

    def forget_names(self, host: str) -> None:
        """Clear the name cache of a host."""
        if self._names is not None:
            self._names.forget(host)

    def close(self) -> None:
        """Drop addresses and connections, to break reference cycles, so that a finished world is freed without the
        garbage collector."""
        self._addresses.clear()
        if self._links:
            for link in self._links.values():
                link.on_cut = None
            self._links.clear()
        if self.directions:
            for direction in self.directions:
                direction.forget()
            self.directions.clear()

    def _at(self, address: str) -> Host | None:
        if len(self._addresses) < 2 * len(self.hosts):
            for host in self.hosts.values():
                self._addresses[host.ipv4] = self._addresses[host.ipv6] = host
        return self._addresses.get(address)

    def owner(self, address: str, asking: Machine) -> Machine | None:
        """Return the host that has the literal `address`, as seen from the host `asking`, which has all loopback
        addresses itself; None if no host has it."""
        from simloop.kernel.net.addresses import is_any, is_loopback

        return asking if is_loopback(address) or is_any(address) else self._at(address)

    def link(self, a: Machine, b: Machine) -> Link:
        """Return the link from `a` to `b`, always the same object."""
        if a is b:
            if self._loopback is None:
                from simloop.network.links import JITTER_NS, Link

                self._loopback = Link(0, JITTER_NS)
            return self._loopback
        key = a.name, b.name
        found = self._links.get(key)
        if found is None:
            from simloop.network.links import JITTER_NS, LATENCY_NS, Link

            found = self._links[key] = Link(LATENCY_NS, JITTER_NS, *key)
            found.on_cut = self.cut_off
        return found

    def cut_off(self) -> None:
        """Let TCP connections with SO_KEEPALIVE probe their peers, since hosts have stopped or links were cut."""
        for host in self.hosts.values():
            if host.has_connections():
                for sock in host.ports.sockets():
                    from simloop.kernel.net.options import SOL_SOCKET

                    if sock.tx is not None and sock.options.flag(SOL_SOCKET, _SO_KEEPALIVE):
                        from simloop.kernel.net.keepalive import watch

                        watch(sock)

    def links(self) -> Iterable[Link]:
        """Return the links between different hosts that were used or changed so far."""
        return self._links.values()

    def machines(self) -> Iterable[Host]:
        """Return all hosts, in the order in which they were added."""
        return self.hosts.values()

    def label(self, client: Machine, server: Machine, port: int | str) -> str:
        """Return a name for a new connection: both hosts, the port, and its number among the connections of the same
        hosts and port."""
        ends = server.name if client is server else f"{client.name}>{server.name}"
        stem = f"{ends}:{port}"
        self._connections[stem] = number = self._connections.get(stem, 0) + 1
        return f"{stem}#{number}"

    def lookup(self, name: str, asking: Machine) -> tuple[str, ...] | None:
        """Return the addresses of `name` for a look-up by the host `asking`; None if the name is unknown."""
        from simloop.network.names import canonical

        lowered = canonical(name)
        if is_local(lowered):
            return "127.0.0.1", "::1"
        found = self.names.find(lowered, asking.name)
        if found is not None:
            return found
        host = self.hosts.get(name) or self.hosts.get(lowered)
        return (host.ipv4, host.ipv6) if host is not None else None

    def name_of(self, address: str) -> str | None:
        """Return the name of the host, or of the record, that has this address; None if there is none."""
        from simloop.kernel.net.addresses import is_loopback

        if is_loopback(address):
            return LOCALHOST
        host = self._at(address)
        return host.name if host is not None else self.names.name_of(address)


def is_local(name: str) -> bool:
    """Return True if `name` (`canonical`) always means the host itself, as "localhost" does, so that no name server is
    queried (RFC 6761, section 6.3)."""
    return name == LOCALHOST or name.endswith("." + LOCALHOST)
