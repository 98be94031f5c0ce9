"""Links between two hosts: the delay of packets, choices of the environment about it, and the fate of each packet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from simloop.kernel.clock import MILLISECOND, SECOND
from simloop.kernel.net.wire import HELD, LOST, PASSED

if TYPE_CHECKING:
    from simloop.kernel.scheduler import Scheduler

# What the answers at a `net.deliver` point mean, in the order of their values. The last three need
# something that can be cut in two.
DELIVERIES = (
    "at once",
    "one turn later",
    "two turns later",
    "three turns later",
    "25 to 50 ms later",
    "its first byte alone, then the rest",
    "in two halves",
    "all but its last byte, then that",
)
_LATE = 4
_WHOLE = 5


class DeparturePermission(Protocol):
    """Protocol of a fault that the environment may choose as a packet leaves."""

    def ask(self, scheduler: Scheduler, who: str, subject: object) -> None: ...


class Permission(Protocol):
    """Protocol of a fault that the environment may choose as a packet arrives, within a budget."""

    def ask(self, link: Link, scheduler: Scheduler, who: str, subject: object) -> str | int:
        """Return the fate of packet `subject` of connection `who`, about to arrive by `link`, as the environment
        chooses."""


#: Function of a link, the connection's name and the packet's size: it returns the packet's fate.
Rule = Callable[["Link", str, int], str | int]


class Link:
    """Link from one host to another: the delay and fate of its packets."""

    __slots__ = (
        "_free_ns", "_held", "bandwidth", "calm", "cuts", "departures", "destination", "healed", "holds", "jitter_ns",
        "latency_ns", "lossy", "on_cut", "permissions", "rules", "source",
    )  # fmt: skip

    def __init__(self, latency_ns: int, jitter_ns: int, source: str = "", destination: str = "") -> None:
        #: Time that passes for every packet, in nanoseconds.
        self.latency_ns = latency_ns
        #: The most that the environment may add: on loopback it stands for a kernel thread that was not scheduled at
        #: once, elsewhere for a queue on the way.
        self.jitter_ns = jitter_ns
        #: Names of the hosts.
        self.source = source
        self.destination = destination
        #: True if packets may be lost, and datagrams also come twice, or overtake one another.
        self.lossy = False
        #: Bytes per second; None for as many as there are.
        self.bandwidth: float | None = None
        self._free_ns = 0
        #: Number of partitions that cut it, and of holds on it.
        self.cuts = 0
        self.holds = 0
        #: Called when a partition has cut it.
        self.on_cut: Callable[[], None] | None = None
        #: How often all of them were ended at once.
        self.healed = 0
        self._held: list[Callable[[], None]] = []
        #: What else decides on packets, first by the test's own words, then by choice.
        self.rules: list[Rule] = []
        self.permissions: list[Permission] = []
        #: Permissions to cut the power of the source as packets leave it.
        self.departures: list[DeparturePermission] = []
        #: True while packets are only delayed.
        self.calm = True

    def settle(self) -> None:
        """Apply a change of the link's faults, and deliver packets that are no longer held."""
        self.calm = not (self.cuts or self.holds or self.lossy or self.rules or self.permissions)
        if not self.holds:
            held, self._held = self._held, []
            for deliver in held:
                deliver()

    def hold(self, deliver: Callable[[], None]) -> None:
        """Call ``deliver()`` once packets on this link are no longer held."""
        if deliver not in self._held:
            self._held.append(deliver)

    def fate(self, scheduler: Scheduler, who: str, size: int, subject: object) -> str | int:
        """Return the fate of a packet that would arrive now (see `kernel.net.wire`)."""
        if self.cuts:
            return LOST
        if self.holds:
            return HELD
        for rule in self.rules:
            found = rule(self, who, size)
            if found != PASSED:
                return found
        for permission in self.permissions:
            found = permission.ask(self, scheduler, who, subject)
            if found != PASSED:
                return found
        return PASSED

    def ask(self, scheduler: Scheduler, who: str, kind: str, size: int, subject: object) -> int:
        """Return the environment's choice for the delivery of a packet of `size` bytes: an index of `DELIVERIES`."""
        choices = scheduler.choices
        answer = choices.choose(who, kind, len(DELIVERIES) if size > 1 else _WHOLE, subject)
        if answer >= _WHOLE:
            # How data is cut shows in no order, only in what the program reads.
            choices.fold(who, answer)
        if self.departures and kind == "net.deliver":
            for permission in self.departures:
                permission.ask(scheduler, who, subject)
        return answer

    def timer_race(self, scheduler: Scheduler, who: str, which: int, subject: object) -> int | None:
        """Return the arrival time of a packet that the environment makes late enough to meet a timer, or None; see
        `Scheduler.timer_race`."""
        return scheduler.timer_race(
            who, which, "net.race", scheduler.clock.now + self.latency_ns, self.jitter_ns, subject
        )

    def carry(
        self, scheduler: Scheduler, answer: int, raced: int | None, size: int, deliver: Callable[[], None]
    ) -> int:
        """Carry a packet as `answer` says: calls ``deliver()`` when it arrives, which may be at once.

        Returns how many of its bytes travel in it: fewer than `size` when the packet is split, and the
        caller sends the rest as a packet of its own.
        """
        travelling = size if answer < _WHOLE else (1, size // 2, size - 1)[answer - _WHOLE]
        now = due = scheduler.clock.now
        if self.bandwidth is not None:
            due = self._free_ns = max(now, self._free_ns) + int(travelling * SECOND / self.bandwidth)
        if raced is not None:
            scheduler.at(max(due, raced), deliver)
            return size
        due += self.latency_ns
        if answer == 0 and due == now:
            deliver()
        elif 1 <= answer <= 3:
            if due > now:
                scheduler.at(due, lambda: scheduler.after_turns(answer, deliver))
            else:
                scheduler.after_turns(answer, deliver)
        else:
            if answer == _LATE and (half := self.jitter_ns // 2):
                # Until a time at which others arrive, too: what is late in the same 25 ms is seen by one poll, so that
                # arrivals meet that no other pair of delays would bring together.
                due += half + -(due + half) % half
            scheduler.at(due, deliver)
        return travelling


JITTER_NS = 50 * MILLISECOND
#: Latency between two hosts, unless the test says otherwise.
LATENCY_NS = MILLISECOND // 2
