"""Links between two hosts: the delay of packets, which the environment may choose, and which of them are lost, held or
reset."""

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
    """Structural type of a fault that the environment may choose when a packet leaves a host."""

    def ask(self, scheduler: Scheduler, who: str, subject: object) -> None: ...


class Permission(Protocol):
    """Structural type of a fault that the environment may choose when a packet arrives, a limited number of times."""

    def ask(self, link: Link, scheduler: Scheduler, who: str, subject: object) -> str | int:
        """Ask at a choice point what happens to the packet `subject` of the connection named `who`, which is about to
        arrive over `link`. Returns its fate, see `Link.fate`."""


#: Rule of a test for packets: function of a link, the connection's name and the packet's size that returns the packet's
#: fate, see `Link.fate`.
Rule = Callable[["Link", str, int], str | int]


class Link:
    """Link from one host to another (one direction): decides when a packet arrives, if it is split, and if it arrives
    at all."""

    __slots__ = (
        "_free_ns", "_held", "bandwidth", "calm", "cuts", "departures", "destination", "healed", "holds", "jitter_ns",
        "latency_ns", "lossy", "on_cut", "permissions", "rules", "source",
    )  # fmt: skip

    def __init__(self, latency_ns: int, jitter_ns: int, source: str = "", destination: str = "") -> None:
        #: Minimum latency of each packet, in nanoseconds.
        self.latency_ns = latency_ns
        #: Maximum that the environment may add to the latency, in nanoseconds: for a kernel thread that is not
        #: scheduled at once (on loopback), or queues in routers.
        self.jitter_ns = jitter_ns
        #: Names of the two hosts; empty for a loopback link.
        self.source = source
        self.destination = destination
        #: True if packets may be lost, and datagrams also duplicated or reordered.
        self.lossy = False
        #: Bandwidth in bytes per second; None for no limit.
        self.bandwidth: float | None = None
        self._free_ns = 0
        #: Number of partitions that cut the link now, and of holds on its packets.
        self.cuts = 0
        self.holds = 0
        #: Function to be called when a partition has cut the link; None for none.
        self.on_cut: Callable[[], None] | None = None
        #: Number of calls of `heal`, which ends all partitions and holds at once.
        self.healed = 0
        self._held: list[Callable[[], None]] = []
        #: Further faults of packets: first the test's rules, then permissions, which the environment may use.
        self.rules: list[Rule] = []
        self.permissions: list[Permission] = []
        #: Permissions for the environment to cut the power of the sending host when packets leave it.
        self.departures: list[DeparturePermission] = []
        #: True while packets are delayed at most, so that `fate` need not be called.
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
        """Ask, at choice points if there are permissions, what happens to a packet that would arrive now: `PASSED`,
        `LOST`, `HELD`, `RESET`, or a delay in nanoseconds.

        `who` is the name of the connection, `size` the packet's number of bytes, and `subject` the object that reports
        describe.
        """
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
        """Ask at a choice point of the kind `kind` how a packet of `size` bytes is delivered. Returns an index of
        `DELIVERIES`.

        `who` is the name of the connection, and `subject` the object that reports describe.
        """
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
        """Ask at a choice point if a packet is delayed until a timer fires. Returns the time in nanoseconds at which it
        then arrives, or None if it is not; see `Scheduler.timer_race`."""
        return scheduler.timer_race(
            who, which, "net.race", scheduler.clock.now + self.latency_ns, self.jitter_ns, subject
        )

    def carry(
        self, scheduler: Scheduler, answer: int, raced: int | None, size: int, deliver: Callable[[], None]
    ) -> int:
        """Deliver a packet of `size` bytes: ``deliver()`` is called when it arrives, which may be at once. Returns the
        number of its bytes that travel in it: fewer than `size` if it is split; the caller sends the rest as another
        packet.

        `answer` is the result of `ask`, and `raced` that of `timer_race`.
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
#: Default latency between two hosts, in nanoseconds.
LATENCY_NS = MILLISECOND // 2
