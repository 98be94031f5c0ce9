"""Faults of the network: partitions, held packets, resets and losses, injected by a test or chosen by the
environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from simloop.kernel.clock import SECOND
from simloop.kernel.net.addresses import unmapped
from simloop.kernel.net.stream import Direction
from simloop.kernel.net.wire import LOST, PASSED, RESET

if TYPE_CHECKING:
    from simloop.kernel.host import Host
    from simloop.kernel.scheduler import Scheduler
    from simloop.network.links import Link
    from simloop.network.network import Network

# How long a partition lasts that the environment begins, and which ways it cuts: the answers at a `net.partition`
# point, after 0, are the ways for each duration.
DURATIONS_S = (1, 10, 60)
WAYS = ("there and back", "there", "back")


class Cut(NamedTuple):
    """Subject of a choice point `net.partition`, for reports: the packet that is about to arrive, and the links of both
    directions."""

    packet: object
    there: list[Link]
    back: list[Link]

    def told(self, answer: int) -> str:
        """Return a phrase for reports on the partition that `answer` begins."""
        duration, way = divmod(answer - 1, len(WAYS))
        links = self.back if way == 2 else self.there
        sources, destinations = ({getattr(link, name): 0 for link in links} for name in ("source", "destination"))
        how = f"from {_listed(sources)} to {_listed(destinations)} {'alone' if way else 'and back'}"
        return f"the network {how} was cut for {DURATIONS_S[duration]} s"


class Standstill(NamedTuple):
    """Object that a choice point `host.pause` is about, by which reports name it: a packet, the host's name, and True
    if the packet leaves the host, False if it arrives."""

    packet: object
    host: str
    leaves: bool


def partition_told(answer: int) -> str:
    """Return a phrase for reports on the answer at a choice point `net.partition` whose links are not known."""
    duration, way = divmod(answer - 1, len(WAYS))
    return f"{WAYS[way]}, for {DURATIONS_S[duration]} s"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)


def cut(links: Iterable[Link]) -> Callable[[], None]:
    """Cut links, so that no packet arrives over them. Returns a function that restores them; calling it again has no
    effect."""
    return _counted(list(links), "cuts")


def hold(links: Iterable[Link]) -> Callable[[], None]:
    """Hold all packets of links. Returns a function that lets them arrive; calling it again has no effect."""
    return _counted(list(links), "holds")


def _counted(links: list[Link], counter: str) -> Callable[[], None]:
    healed = [link.healed for link in links]
    for link in links:
        setattr(link, counter, getattr(link, counter) + 1)
        link.settle()
    if links and counter == "cuts" and links[0].on_cut is not None:
        links[0].on_cut()

    def end() -> None:
        for link, before in zip(links, healed, strict=False):
            if link.healed == before:
                setattr(link, counter, getattr(link, counter) - 1)
                link.settle()
        links.clear()

    return end


def heal(links: Iterable[Link]) -> None:
    """End all faults of links: no packet is cut off, held or lost any more. Latencies stay as they are."""
    for link in links:
        link.cuts = link.holds = 0
        link.healed += 1
        link.lossy = False
        link.rules.clear()
        link.permissions.clear()
        link.departures.clear()
        link.settle()


def reset(network: Network, a: Host, b: Host) -> None:
    """Reset all TCP connections between two hosts, at both ends."""
    for sock in a.ports.sockets():
        if sock.tx is not None and sock.tx.receiver is not None and unmapped(sock.peer[0]) in (b.ipv4, b.ipv6):
            network.scheduler.at(network.scheduler.clock.now, sock.tx.break_off)


class MayPartition:
    """Permission for the environment to cut the links between two groups of hosts for some time, when a packet is about
    to arrive; `budget` times at most."""

    def __init__(self, there: list[Link], back: list[Link], budget: int) -> None:
        self._ways = ([*there, *back], there, back)
        self._budget = budget

    def ask(self, link: Link, scheduler: Scheduler, who: str, subject: object) -> str | int:
        if not self._budget:
            return PASSED
        answer = scheduler.choices.choose(
            who, "net.partition", 1 + len(DURATIONS_S) * len(WAYS), Cut(subject, *self._ways[1:])
        )
        if not answer:
            return PASSED
        self._budget -= 1
        duration, way = divmod(answer - 1, len(WAYS))
        scheduler.at(scheduler.clock.now + DURATIONS_S[duration] * SECOND, cut(self._ways[way]))
        return LOST if link.cuts else PASSED


class MayPause:
    """Permission for the environment to pause a host for some time, once, when data leaves it or arrives at it."""

    def __init__(self, host: Host, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._host = host
        self._pause = pause
        self._resume = resume
        self._left = True

    def ask(self, link: Link, scheduler: Scheduler, who: str, subject: object) -> str | int:
        if not self._left or (isinstance(subject, Direction) and not subject.first_is_data()):
            return PASSED
        leaves = link.source == self._host.name
        standstill = Standstill(subject, self._host.name, leaves)
        answer = scheduler.choices.choose(who, "host.pause", 1 + len(DURATIONS_S), standstill)
        if not answer:
            return PASSED
        self._left = False
        duration_ns = DURATIONS_S[answer - 1] * SECOND
        self._pause()
        scheduler.at(scheduler.clock.now + duration_ns, self._resume)
        # What has not left yet does so later; what would have arrived finds nobody.
        return duration_ns if leaves else LOST


class Departure(NamedTuple):
    """Subject of a choice point `host.crash`, for reports: the packet that leaves the host."""

    packet: object


class MayCrash:
    """Permission for the environment to cut the power of a host right after data has left it, whenever ``may()``
    returns True. ``crash()`` cuts it."""

    def __init__(self, host: Host, may: Callable[[], bool], crash: Callable[[], None]) -> None:
        self._host = host
        self._may = may
        self._crash = crash

    def ask(self, scheduler: Scheduler, who: str, subject: object) -> None:
        if not self._may() or (isinstance(subject, Direction) and isinstance(subject.leaving, str)):
            return
        name = f"{self._host.name}:after sending on {who}"
        if scheduler.choices.order(name, "host.crash", 2, Departure(subject)):
            # The step goes on to its end: what it sends together leaves together.
            scheduler.at(scheduler.clock.now, self._crash)


class MayReset:
    """Permission for the environment to reset TCP connections, each when one of its packets is about to arrive;
    `budget` times at most."""

    def __init__(self, budget: int) -> None:
        self._budget = budget

    def ask(self, link: Link, scheduler: Scheduler, who: str, subject: object) -> str | int:
        if not self._budget or not isinstance(subject, Direction):
            return PASSED
        if not scheduler.choices.choose(who, "net.reset", 2, subject):
            return PASSED
        self._budget -= 1
        return RESET


class MayLose:
    """Permission for the environment to lose single packets, `budget` at most."""

    def __init__(self, budget: int) -> None:
        self._budget = budget

    def ask(self, link: Link, scheduler: Scheduler, who: str, subject: object) -> str | int:
        if not self._budget or not scheduler.choices.choose(who, "net.lose", 2, subject):
            return PASSED
        self._budget -= 1
        return LOST
