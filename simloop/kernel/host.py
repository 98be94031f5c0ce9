"""Simulated machine: its addresses, ports and files."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from simloop.kernel.clock import WALL_NS
from simloop.kernel.process.pids import PidTable

if TYPE_CHECKING:
    from simloop.kernel.files.filesystem import FileSystem
    from simloop.kernel.net.ports import Ports, UdpPorts
    from simloop.kernel.net.unix import UnixSpace
    from simloop.kernel.scheduler import Scheduler
    from simloop.kernel.wall import WallClock

#: Name of the host that each world has from its beginning.
LOCALHOST = "localhost"


class Host:
    """Simulated machine: a name, an IPv4 and an IPv6 address, its TCP and UDP ports, its wall clock and its files."""

    def __init__(self, name: str, number: int, scheduler: Scheduler, start_ns: int = WALL_NS) -> None:
        self.name = name
        self.number = number
        self._scheduler = scheduler
        self._start_ns = start_ns
        #: Its processes by pid, which `process.table` adds.
        self.processes: PidTable[Any] = PidTable()
        #: Number of pipes made on this host so far.
        self.pipes = 0
        #: Its file system; None until it is first used.
        self.fs: FileSystem | None = None
        #: True while the host has power.
        self.up = True
        #: True while the host is paused, as a virtual machine is during live migration: nothing runs on it.
        self.paused = False
        #: Factor by which its processors are slower than those of other hosts; 1 if they are as fast.
        self.slowness: float = 1
        #: Processes that were paused with the host, and are resumed with it.
        self.standing: list[Any] = []

    @cached_property
    def wall(self) -> WallClock:
        """Wall clock of the host, made at the first use."""
        from simloop.kernel.wall import WallClock

        return WallClock(self._scheduler.clock, self._start_ns)

    @cached_property
    def ports(self) -> Ports[Any]:
        """TCP ports of the host, made at the first use."""
        from simloop.kernel.net.ports import Ports

        return Ports(self._scheduler)

    @cached_property
    def udp(self) -> UdpPorts[Any]:
        """UDP ports of the host, made at the first use."""
        from simloop.kernel.net.ports import UdpPorts

        return UdpPorts(self._scheduler)

    @cached_property
    def unix(self) -> UnixSpace:
        """Names of the host's unix sockets, made at the first use."""
        from simloop.kernel.net.unix import UnixSpace

        return UnixSpace(self.name)

    def has_connections(self) -> bool:
        """Return True if any TCP or UDP socket of the host is bound to a port."""
        return self.ports.in_use() or ("udp" in self.__dict__ and self.udp.in_use())

    def lose_power(self) -> None:
        """Drop all sockets without notifying their peers, as a power failure does."""
        self.paused = False
        self.standing.clear()
        self.ports.lose_power()
        if "udp" in self.__dict__:
            self.udp.lose_power()
            self.udp.groups = None
        if "unix" in self.__dict__:
            self.unix.lose_power()

    def close(self) -> None:
        """Break reference cycles at the end of the world."""
        self.processes.clear()
        if self.fs is not None:
            self.fs.close()
            self.fs = None
        if "unix" in self.__dict__:
            self.unix.close()

    @cached_property
    def ipv4(self) -> str:
        return f"10.0.{self.number >> 8}.{self.number & 255}"

    @cached_property
    def ipv6(self) -> str:
        return f"fd00::{self.number:x}"

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.ipv4}>"
