"""Protocols by which sockets see what lies below and between them: the network, a link of it, a machine.

`simloop.network` implements the first two, `simloop.kernel.host` the last. `tests/parity` and the unit tests of the
kernel implement them with a few lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from simloop.kernel.net.ports import Ports
from simloop.kernel.scheduler import Scheduler


class Machine(Protocol):
    """A host, as its sockets and those of its peers see it."""

    name: str
    ports: Ports[Any]
    #: True while it has power.
    up: bool

    @property
    def ipv4(self) -> str:
        """Its address beside 127.0.0.0/8."""

    @property
    def ipv6(self) -> str:
        """Its address beside ::1."""


class Link(Protocol):
    """One way between two machines: it decides when a packet arrives, and in how many pieces."""

    @property
    def latency_ns(self) -> int:
        """The least time that a packet takes, in nanoseconds."""

    def ask(self, scheduler: Scheduler, who: str, kind: str, size: int, subject: object) -> int:
        """The environment's answer for a packet of `size` bytes, to be handed to `carry`."""

    def timer_race(self, scheduler: Scheduler, who: str, which: int, subject: object) -> int | None:
        """When the packet arrives if it is late by just so much as to meet a timer (nanoseconds); else None."""

    def carry(
        self, scheduler: Scheduler, answer: int, raced: int | None, size: int, deliver: Callable[[], None]
    ) -> int:
        """Let ``deliver()`` be called when the packet arrives, maybe at once. Returns how many of its bytes travel in
        it: the caller sends the rest as a packet of its own."""


class Net(Protocol):
    """The network that joins the machines of a world."""

    scheduler: Scheduler

    def owner(self, address: str, asking: Machine) -> Machine | None:
        """The machine that `address` (a literal) leads to, as seen from `asking`."""

    def link(self, a: Machine, b: Machine) -> Link:
        """The way from `a` to `b`."""

    def label(self, client: Machine, server: Machine, port: int) -> str:
        """A name for a new connection, for choice points: stable under edits elsewhere."""
