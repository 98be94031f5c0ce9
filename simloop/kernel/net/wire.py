"""Protocols (`typing.Protocol`) of the surroundings of sockets: the network, a link of it, and a machine.

`simloop.network` implements the first two, `simloop.kernel.host` the last. `tests/parity` and the unit tests of the
kernel have simple implementations of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from simloop.kernel.net.ports import Ports, UdpPorts
    from simloop.kernel.scheduler import Scheduler


class Machine(Protocol):
    """Structural type of a host, as sockets see it: their own, or that of a peer."""

    name: str
    #: True while the host has power.
    up: bool
    #: True while the host is paused: nothing runs on it.
    paused: bool

    @property
    def ports(self) -> Ports[Any]:
        """TCP ports of the host."""

    @property
    def udp(self) -> UdpPorts[Any]:
        """UDP ports of the host."""

    @property
    def ipv4(self) -> str:
        """IPv4 address of the interface to other hosts."""

    @property
    def ipv6(self) -> str:
        """IPv6 address of the interface to other hosts."""


#: Results of `Link.fate`: the packet arrives, is lost, is held until `Link.hold` releases it, or resets the connection.
PASSED, LOST, HELD, RESET = "passed", "lost", "held", "reset"


class Link(Protocol):
    """Structural type of a link from one machine to another (one direction). It decides if and when a packet arrives,
    and if it is split."""

    #: Minimum latency of a packet, and the maximum that the environment may add to it, both in nanoseconds.
    latency_ns: int
    jitter_ns: int
    #: True if datagrams may be lost, duplicated or reordered.
    lossy: bool
    #: True while packets are delayed at most, so that `fate` need not be called.
    calm: bool
    #: Number of partitions that cut the link.
    cuts: int

    def ask(self, scheduler: Scheduler, who: str, kind: str, size: int, subject: object) -> int:
        """Ask at a choice point of the kind `kind` how a packet of `size` bytes is delivered. Returns the answer, to be
        passed to `carry`.

        `who` is the name of the connection in the choice point, and `subject` the object that reports describe.
        """

    def timer_race(self, scheduler: Scheduler, who: str, which: int, subject: object) -> int | None:
        """Ask at a choice point if a packet is delayed until a timer fires. Returns the time in nanoseconds at which it
        then arrives, or None if it is not.

        `who` is the name of the connection, `which` the number of the packet in it, and `subject` the object that
        reports describe.
        """

    def carry(
        self, scheduler: Scheduler, answer: int, raced: int | None, size: int, deliver: Callable[[], None]
    ) -> int:
        """Schedule ``deliver()`` for the arrival of a packet of `size` bytes, which may be now. Returns the number of
        its bytes that travel in it; the caller sends the rest as another packet.

        `answer` is the result of `ask`, and `raced` that of `timer_race`.
        """

    def fate(self, scheduler: Scheduler, who: str, size: int, subject: object) -> str | int:
        """Ask, at choice points if there are faults, what happens to a packet that would arrive now: `PASSED`, `LOST`,
        `HELD`, `RESET`, or a delay in nanoseconds.

        `who` is the name of the connection, `size` the packet's number of bytes, and `subject` the object that reports
        describe.
        """

    def hold(self, deliver: Callable[[], None]) -> None:
        """Call ``deliver()`` once packets on this link are no longer held."""


class Net(Protocol):
    """Structural type of the network that joins the machines of a world."""

    scheduler: Scheduler
    #: Directions (`stream.Direction`) of all TCP connections so far.
    directions: list[Any]

    def owner(self, address: str, asking: Machine) -> Machine | None:
        """Return the machine that has the literal `address`, as seen from the machine `asking` (which has all loopback
        addresses itself); None if no machine has it."""

    def link(self, a: Machine, b: Machine) -> Link:
        """Return the link from `a` to `b`."""

    def machines(self) -> Iterable[Machine]:
        """Return all machines of the network, in the order in which they were added."""

    def label(self, client: Machine, server: Machine, port: int | str) -> str:
        """Return a name for a new connection, for choice points. It does not depend on connections to other machines or
        ports."""
