"""A simulated machine: its addresses, ports and files. Its processes are kept by `process.table`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simloop.kernel.clock import WallClock
    from simloop.kernel.files.filesystem import FileSystem
    from simloop.kernel.net.ports import Ports
    from simloop.kernel.scheduler import Scheduler


class Host:
    """Simulated machine: a name, two addresses, its TCP ports, its wall clock and its files."""

    def __init__(self, name: str, number: int, scheduler: Scheduler, wall: WallClock) -> None:
        self.name = name
        self.number = number
        self._scheduler = scheduler
        self.wall = wall
        #: How many pipes were made on it so far.
        self.pipes = 0
        #: Its file system; None until it is first used.
        self.fs: FileSystem | None = None
        #: True while it has power.
        self.up = True

    @cached_property
    def ports(self) -> Ports[Any]:
        """Its TCP ports. Most hosts have no socket."""
        from simloop.kernel.net.ports import Ports

        return Ports(self._scheduler)

    @cached_property
    def ipv4(self) -> str:
        return f"10.0.{self.number >> 8}.{self.number & 255}"

    @cached_property
    def ipv6(self) -> str:
        return f"fd00::{self.number:x}"

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.ipv4}>"
