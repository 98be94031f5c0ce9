"""Protocols (`typing.Protocol`) by which sockets reach their surroundings: the network, a link of it, a machine.

`simloop.network` implements the first two, `simloop.kernel.host` the last. `tests/parity` and the unit tests of the
kernel implement them with a few lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from simloop.kernel.net.ports import Ports, UdpPorts
    from simloop.kernel.scheduler import Scheduler


class Machine(Protocol):
    """Protocol of a host, as its sockets and those of its peers see it."""

    name: str
    #: True while it has power.
    up: bool
    #: True while it stands still: nothing runs on it.
    paused: bool

    @property
    def ports(self) -> Ports[Any]:
        """TCP ports of the host."""

    @property
    def udp(self) -> UdpPorts[Any]:
        """UDP ports of the host."""

    @property
    def ipv4(self) -> str:
        """IPv4 address beside 127.0.0.0/8."""

    @property
    def ipv6(self) -> str:
        """IPv6 address beside ::1."""


#: What becomes of a packet at the end of a link (`Link.fate`).
PASSED, LOST, HELD, RESET = "passed", "lost", "held", "reset"


class Link(Protocol):
    """Protocol of a link from one machine to another: it decides when a packet arrives, in how many pieces, and if it
    arrives at all."""

    #: Least latency of a packet, in nanoseconds, and the most that the environment may add to it.
    latency_ns: int
    jitter_ns: int
    #: True if datagrams may be lost, come twice, or overtake one another.
    lossy: bool
    #: True while packets are only delayed: `fate` need not be asked.
    calm: bool
    #: Number of partitions that cut the link.
    cuts: int

    def ask(self, scheduler: Scheduler, who: str, kind: str, size: int, subject: object) -> int:
        """Return the environment's choice for the delivery of a packet of `size` bytes, to be handed to `carry`."""

    def timer_race(self, scheduler: Scheduler, who: str, which: int, subject: object) -> int | None:
        """Return the arrival time (nanoseconds) of a packet that the environment makes late enough to meet a timer;
        None if it does not."""

    def carry(
        self, scheduler: Scheduler, answer: int, raced: int | None, size: int, deliver: Callable[[], None]
    ) -> int:
        """Schedule ``deliver()`` for the arrival of the packet, which may be now. Returns how many of its bytes travel
        in it: the caller sends the rest as another packet."""

    def fate(self, scheduler: Scheduler, who: str, size: int, subject: object) -> str | int:
        """Return the fate of a packet that would arrive now: `PASSED`, `LOST`, `HELD` or `RESET`; or the nanoseconds by
        which it is late."""

    def hold(self, deliver: Callable[[], None]) -> None:
        """Call ``deliver()`` once packets on this link are no longer held."""


class Net(Protocol):
    """Protocol of the network that joins the machines of a world."""

    scheduler: Scheduler
    #: Directions (`stream`) of all connections so far.
    directions: list[Any]

    def owner(self, address: str, asking: Machine) -> Machine | None:
        """Return the machine that has `address` (a literal), as seen from `asking`."""

    def link(self, a: Machine, b: Machine) -> Link:
        """Return the link from `a` to `b`."""

    def machines(self) -> Iterable[Machine]:
        """Return all machines of the network, in the order in which they were added."""

    def label(self, client: Machine, server: Machine, port: int | str) -> str:
        """Return a name for a new connection, for choice points. Edits elsewhere in the program do not change it."""
