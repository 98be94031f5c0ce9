"""Handle on the network of a world: a test sets latencies, partitions hosts, filters packets by rules, and allows the
environment to inject faults."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from simloop.errors import ConfigurationError
from simloop.kernel.clock import SECOND
from simloop.kernel.net import wire
from simloop.network import faults
from simloop.sources import call_site

if TYPE_CHECKING:
    from simloop.kernel.host import Host
    from simloop.network.links import Link
    from simloop.world.world import World

Hosts = str | Collection[str]
"""Name of a host, or several."""


@dataclass(frozen=True)
class Packet:
    """Packet that is about to arrive, as a rule (`SimNetwork.rule`) gets it: its source, destination, connection and
    size in bytes."""

    source: str
    destination: str
    connection: str
    size: int


@dataclass(frozen=True)
class Pass:
    """Verdict of a rule that leaves the packet to the next rule; if none decides, it arrives."""


@dataclass(frozen=True)
class Deliver:
    """Verdict of a rule: the packet arrives, but later by so many virtual seconds."""

    delay: float


@dataclass(frozen=True)
class Drop:
    """Verdict of a network rule (`SimNetwork.rule`): the packet is lost. TCP retransmits it, after longer and longer
    times."""


Rule = Callable[[Packet], Pass | Deliver | Drop]


class Fault:
    """Injected fault, such as a partition. It lasts until `end` is called, or until the end of a ``with`` block on
    it."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    def end(self) -> None:
        """End the fault. Does nothing if it has ended."""
        self._end()

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()


class SimNetwork:
    """Handle on the network between the hosts of a world: ``sim.network``.

    Hosts are given by the names that they have in `Sim.host`, and must exist already: else `ConfigurationError` is
    raised. Faults affect open connections, too. TCP behaves as in tcp(7): lost data is retransmitted after 0.2 seconds,
    then after twice as long each time; after 15 minutes, or ``TCP_USER_TIMEOUT``, the sender gets `TimeoutError`. Lost
    datagrams are not sent again.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._network = world.network

    def link(
        self,
        a: str,
        b: str,
        *,
        latency: float | None = None,
        jitter: float | None = None,
        bandwidth: float | None = None,
        lossy: bool | None = None,
    ) -> Fault:
        """Change the link between two hosts, in both directions: its `latency` in virtual seconds, the `jitter`
        (seconds) that the environment may add, its `bandwidth` in bytes per second, and `lossy`: if True, the
        environment may lose any packet, and duplicate or reorder datagrams. Settings that are not given stay as they
        are; initially they are 0.5 ms, up to 50 ms, unlimited, and False. When the fault ends, all four are as before.

        >>> import asyncio, simloop
        >>> async def test():
        ...     sim = simloop.current()
        ...     async def serve():
        ...         server = await asyncio.start_server(lambda reader, writer: writer.close(), "0.0.0.0", 80)
        ...         await asyncio.sleep(60)
        ...     serving = asyncio.create_task(sim.host("db").run(serve))
        ...     await asyncio.sleep(1)
        ...     sim.network.link("localhost", "db", latency=2.0)
        ...     began = sim.elapsed
        ...     reader, writer = await asyncio.open_connection("db", 80)
        ...     writer.close()
        ...     return round(sim.elapsed - began)
        >>> simloop.run(test)
        4
        """
        links = [*self._between(a, b), *self._between(b, a)]
        values: dict[str, object] = {}
        for name, seconds in (("latency", latency), ("jitter", jitter)):
            if seconds is not None:
                values[f"{name}_ns"] = round(_number(seconds, name) * SECOND)
        if bandwidth is not None:
            if not _number(bandwidth, "bandwidth"):
                raise self._wrong("bandwidth must be above 0 bytes per second: cut the link with partition() instead")
            values["bandwidth"] = bandwidth
        if lossy is not None:
            if not isinstance(lossy, bool):
                raise self._wrong(f"lossy must be True or False, not {lossy!r}: the environment chooses what is lost")
            values["lossy"] = lossy
        before = [{name: getattr(link, name) for name in values} for link in links]
        _set(links, [values] * len(links))
        return Fault(partial(_set, links, before))

    def partition(self, a: Hosts, b: Hosts, *, one_way: bool = False) -> Fault:
        """Cut the network between two hosts, or two groups of hosts: all packets between them are lost. With `one_way`
        only packets from `a` to `b` are lost.

        >>> import asyncio, simloop
        >>> async def test():
        ...     sim = simloop.current()
        ...     sim.host("db")
        ...     with sim.network.partition("localhost", "db"):
        ...         try:
        ...             await asyncio.wait_for(asyncio.open_connection("db", 80), 5)
        ...         except TimeoutError:
        ...             return "no answer"
        >>> simloop.run(test)
        'no answer'
        """
        links = self._between(a, b)
        if not one_way:
            links += self._between(b, a)
        return Fault(faults.cut(links))

    def hold(self, a: Hosts, b: Hosts) -> Fault:
        """Hold back all packets between two hosts, or groups of hosts, in both directions. They arrive when the fault
        ends."""
        return Fault(faults.hold([*self._between(a, b), *self._between(b, a)]))

    def reset(self, a: Hosts, b: Hosts) -> None:
        """Reset all TCP connections between two hosts, or groups of hosts, as a firewall does that has lost its state:
        both ends get `ConnectionResetError` when they read or write."""
        for one in self._hosts(a):
            for other in self._hosts(b):
                self._distinct(one, other)
                faults.reset(self._network, one, other)

    def rule(self, rule: Rule, a: Hosts, b: Hosts) -> Fault:
        """Install a function that decides on each packet from `a` to `b` that is about to arrive: it takes a `Packet`
        and returns `Pass`, `Deliver` or `Drop`. Rules are asked in the order in which they were installed, until one
        does not return `Pass`.

        >>> import asyncio, simloop
        >>> async def test():
        ...     sim = simloop.current()
        ...     sim.host("db")
        ...     seen = []
        ...     def rule(packet):
        ...         seen.append(packet.destination)
        ...         return simloop.Drop()
        ...     with sim.network.rule(rule, "localhost", "db"):
        ...         try:
        ...             await asyncio.wait_for(asyncio.open_connection("db", 80), 2.5)
        ...         except TimeoutError:
        ...             return seen
        >>> simloop.run(test)
        ['db', 'db', 'db']
        """
        site = call_site()

        def decide(link: Link, connection: str, size: int) -> str | int:
            verdict = rule(Packet(link.source, link.destination, connection.rstrip("<>"), size))
            if isinstance(verdict, Drop):
                return wire.LOST
            if isinstance(verdict, Deliver):
                return round(_number(verdict.delay, "the delay of a rule") * SECOND)
            if not isinstance(verdict, Pass):
                raise ConfigurationError(
                    f"{site}: a rule must return Pass(), Deliver(delay) or Drop(), not {verdict!r}"
                )
            return wire.PASSED

        links = self._between(a, b)
        for link in links:
            link.rules.append(decide)
            link.settle()

        def end() -> None:
            for link in links:
                if decide in link.rules:
                    link.rules.remove(decide)
                    link.settle()

        return Fault(end)

    def may_partition(self, a: Hosts, b: Hosts, *, at_most: int = 1) -> None:
        """Declare that the environment may cut the network between two hosts, or groups of hosts, up to `at_most`
        times: when a packet is about to arrive, for 1, 10 or 60 virtual seconds, in both directions or in one."""
        there, back = self._between(a, b), self._between(b, a)
        self._permit([*there, *back], faults.MayPartition(there, back, checked_budget(at_most)))

    def may_reset(self, a: Hosts, b: Hosts, *, at_most: int = 1) -> None:
        """Declare that the environment may reset up to `at_most` TCP connections between two hosts, or groups of hosts,
        each when one of its packets is about to arrive."""
        self._permit([*self._between(a, b), *self._between(b, a)], faults.MayReset(checked_budget(at_most)))

    def may_lose(self, a: Hosts, b: Hosts, *, at_most: int = 1) -> None:
        """Declare that the environment may lose up to `at_most` packets between two hosts, or groups of hosts. TCP
        retransmits lost packets."""
        self._permit([*self._between(a, b), *self._between(b, a)], faults.MayLose(checked_budget(at_most)))

    def heal(self) -> None:
        """End all faults at once, also those of name look-ups, and revoke what the environment was allowed to do.
        Latencies and bandwidths stay."""
        faults.heal(self._network.links())
        self._network.names.heal()

    def _permit(self, links: list[Link], permission: faults.MayPartition | faults.MayReset | faults.MayLose) -> None:
        for link in links:
            link.permissions.append(permission)
            link.settle()

    def _between(self, a: Hosts, b: Hosts) -> list[Link]:
        """Return the links from each host of `a` to each of `b`."""
        found = []
        for one in self._hosts(a):
            for other in self._hosts(b):
                self._distinct(one, other)
                found.append(self._network.link(one, other))
        return found

    def _hosts(self, named: Hosts) -> list[Host]:
        names: Iterable[str] = [named] if isinstance(named, str) else named
        found = []
        for name in sorted(names) if isinstance(names, (set, frozenset)) else names:
            host = self._network.hosts.get(name)
            if host is None:
                raise self._wrong(f"there is no host {name!r}: sim.host({name!r}) makes it")
            found.append(host)
        return found

    def _distinct(self, one: Host, other: Host) -> None:
        if one is other:
            raise self._wrong(f"host {one.name!r} has no link to itself")

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"{call_site()}: {what}")

    def __repr__(self) -> str:
        return f"<SimNetwork of {', '.join(self._network.hosts)}>"


def _set(links: list[Link], values: list[dict[str, object]]) -> None:
    for link, wanted in zip(links, values, strict=True):
        for name, value in wanted.items():
            setattr(link, name, value)
        link.settle()


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ConfigurationError(f"{call_site()}: {what} must be a number of at least 0, not {value!r}")
    return value


def checked_budget(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{call_site()}: at_most must be a whole number of at least 1, not {value!r}")
    return value
