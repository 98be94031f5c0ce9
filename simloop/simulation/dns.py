"""Handle on the host names of a simulated network: a test sets them, and lets look-ups fail or be slow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from simloop.errors import ConfigurationError
from simloop.kernel.clock import SECOND
from simloop.kernel.host import LOCALHOST
from simloop.network.names import Permission, canonical
from simloop.shims.socket.names import literal
from simloop.simulation.hosts import SimHost
from simloop.simulation.network import checked_budget
from simloop.sources import call_site

if TYPE_CHECKING:
    from simloop.world.world import World

# RFC 1035, section 2.3.4.
_NAME_MAX, _LABEL_MAX = 253, 63


class SimDns:
    """Handle on the simulated DNS, the names that hosts look up: ``sim.dns``.

    Names of hosts (`Sim.host`) need not be set. A look-up takes the first answer of three: from ``/etc/hosts``, if a
    process has written that file on its host; from the names set here; from the names of hosts. All look-ups of Python
    use it: ``socket.getaddrinfo``, the event loop's, reverse ones.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._names = world.network.names

    def set(self, name: str, addresses: str | SimHost | Iterable[str | SimHost], *, ttl: float = 0.0) -> None:
        """Set the addresses of a name, from now on, in the order in which look-ups return them: IP addresses, and
        hosts, which stand for their IPv4 address and then their IPv6 address. An empty list means a name without
        addresses (``EAI_NODATA``).

        `ttl` is the time to live in virtual seconds: for so long a host that has looked the name up caches the answer,
        even if other addresses are set meanwhile. With 0 every look-up asks again, as the C library does where no
        resolver caches answers.

        Raises `ConfigurationError` for an invalid name or address, an unknown host, and a negative time to live.

        >>> import socket, simloop
        >>> async def main():
        ...     sim = simloop.current()
        ...     sim.dns.set("db.internal", [sim.host("db"), "192.0.2.7"])
        ...     return socket.gethostbyname_ex("db.internal")[2]
        >>> simloop.run(main)
        ['10.0.0.2', '192.0.2.7']
        """
        name = _checked_name(name)
        if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 <= ttl < math.inf:
            raise _wrong(f"ttl must be a number of seconds of at least 0, not {ttl!r}")
        given = [addresses] if isinstance(addresses, (str, SimHost)) else addresses
        found: list[str] = []
        for address in given:
            found += self._addresses(address)
        self._names.set(name, tuple(dict.fromkeys(found)), round(ttl * SECOND))

    def remove(self, name: str) -> None:
        """Remove a name that was set: from now on look-ups fail with ``EAI_NONAME``, except on hosts that still cache
        it for its time to live. Raises `ConfigurationError` if it was not set."""
        if not self._names.remove(_checked_name(name)):
            raise _wrong(f"the name {name!r} was not set by sim.dns.set()")

    def may_fail(self, *names: str, at_most: int = 1) -> None:
        """Declare that the environment may make up to `at_most` look-ups of these names (of any name if none is given)
        fail with ``EAI_AGAIN``: at once, as when a name server fails, or after 10 virtual seconds, as when no server
        answers."""
        self._names.may_fail.append(self._permission(names, at_most))

    def may_be_slow(self, *names: str, at_most: int = 1) -> None:
        """Declare that the environment may delay up to `at_most` look-ups of these names (of any name if none is
        given), each by 1 s of virtual time, or by 5 s, as if a query had been lost."""
        self._names.may_be_slow.append(self._permission(names, at_most))

    def _permission(self, names: tuple[str, ...], at_most: int) -> Permission:
        return Permission(frozenset(canonical(_checked_name(name)) for name in names), checked_budget(at_most))

    def _addresses(self, address: object) -> tuple[str, ...]:
        if isinstance(address, SimHost):
            return address.ip, address.ipv6
        if isinstance(address, str):
            spelled = literal(address)
            if spelled is not None:
                return (spelled,)
            host = self._world.hosts.get(address)
            if host is not None:
                return host.ipv4, host.ipv6
        raise _wrong(f"{address!r} is neither an IP address nor a host of sim.host()")

    def __repr__(self) -> str:
        return "<SimDns>"


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name or len(name) > _NAME_MAX or any(map(str.isspace, name)):
        raise _wrong(f"{name!r} is no name that could be looked up")
    if not all(0 < len(label) <= _LABEL_MAX for label in name.rstrip(".").split(".")):
        raise _wrong(f"{name!r} is no name that could be looked up")
    if literal(name) is not None:
        raise _wrong(f"{name!r} is an address, which nobody looks up")
    if canonical(name) == LOCALHOST:
        raise _wrong("localhost is always the host itself")
    return name


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(f"{call_site()}: {what}")
