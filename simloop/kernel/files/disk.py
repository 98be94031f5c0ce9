"""Disk under a simulated file system: its capacity, timing, disk model (what survives a power failure) and injected
faults."""

from __future__ import annotations

import errno as _errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simloop.errors import ConfigurationError
from simloop.kernel.clock import MICROSECOND, MILLISECOND, SECOND
from simloop.kernel.errors import fail

if TYPE_CHECKING:
    from simloop.kernel.files.faults import Effect, Fault

#: Disk models, which say what may be lost in a power failure. `ext4-ordered`: as ext4 with its defaults, data=ordered
#: and auto_da_alloc (https://docs.kernel.org/admin-guide/ext4.html). `posix`: whatever fsync(2) does not rule out.
DISK_MODELS = ("ext4-ordered", "posix")

# A transaction of the journal is committed after five seconds (the mount option commit=); some slack is added.
COMMIT_NS = 6 * SECOND
# Dirty data are written after 30 seconds, which is looked at every 5 (vm.dirty_expire_centisecs and
# dirty_writeback_centisecs), and their sizes committed with the transaction then.
WRITEBACK_NS = 36 * SECOND + COMMIT_NS

#: Capacity in bytes that statvfs(3) reports for a disk without a limit.
NOMINAL_CAPACITY = 64 << 30


@dataclass(frozen=True, kw_only=True)
class DiskTiming:
    """Latency and throughput of a disk, in virtual time. The defaults are those of an NVMe drive of a cloud machine, as
    orders of magnitude.

    Calls that change nothing take no time, nor does reading files that were not written in this world: of several runs
    in one real process, only the first one loads such files (modules, for instance), and all runs must be alike.

    >>> import os, simloop
    >>> async def main():
    ...     sim = simloop.current()
    ...     sim.fs.timing = simloop.DiskTiming(flush_latency_ns=30_000_000)
    ...     with open("/tmp/slow", "w") as file:
    ...         os.fsync(file.fileno())
    ...     return round(sim.elapsed, 3)
    >>> simloop.run(main, blocking="ignore")
    0.03
    """

    #: Duration of a system call whose data is all in memory.
    call_ns: int = MICROSECOND
    #: Time until the first byte of data that is not in memory.
    read_latency_ns: int = 100 * MICROSECOND
    #: Duration of a flush by fsync(2).
    flush_latency_ns: int = MILLISECOND
    #: Throughput of the drive.
    bytes_per_second: int = 500_000_000
    #: Throughput of the page cache: of copies to and from memory.
    cache_bytes_per_second: int = 5_000_000_000

    def transfer_ns(self, size: int) -> int:
        """Return the time in nanoseconds in which the drive transfers `size` bytes."""
        return size * SECOND // self.bytes_per_second

    def copy_ns(self, size: int) -> int:
        """Return the time in nanoseconds in which `size` bytes are copied to or from the page cache."""
        return size * SECOND // self.cache_bytes_per_second


class Disk:
    """Simulated disk of one file system: how long operations take, and which ones fail."""

    def __init__(self, model: str = "ext4-ordered", timing: DiskTiming | None = None) -> None:
        self.model = model
        self.timing = timing or DiskTiming()
        #: Capacity in bytes; None for no limit. Files of the real disk occupy no space until they are changed.
        self.capacity: int | None = None
        self.faults: list[Fault] = []
        #: Function that asks at a choice point if a fault with `Fault.by_choice` strikes, see `Fault.strikes`.
        self.ask: Callable[[str, tuple[Effect, ...]], int] = lambda who, effects: 0
        #: True if the data read by the current call is to be corrupted.
        self.spoils = False
        #: Deferred I/O latency: virtual nanoseconds that operations take, and by which the clock was not advanced yet.
        self.deferred_ns = 0

    @property
    def model(self) -> str:
        """Disk model: one of `DISK_MODELS`."""
        return self._model

    @model.setter
    def model(self, name: str) -> None:
        if name not in DISK_MODELS:
            raise ConfigurationError(f"unknown profile {name!r}: use one of {', '.join(DISK_MODELS)}")
        self._model = name

    @property
    def journals(self) -> bool:
        """True if changes of metadata reach the disk in the order in which they were made."""
        return self._model == "ext4-ordered"

    def take_ns(self) -> int:
        """Return the deferred I/O latency and reset it. The caller advances the clock by that time."""
        deferred, self.deferred_ns = self.deferred_ns, 0
        return deferred

    def check(self, operation: str, path: str) -> None:
        """Apply injected faults to an operation that begins. Raises the `OSError` of a fault that strikes."""
        if self.faults:
            self._strike(operation, path, 0)

    def limit(self, operation: str, path: str, size: int) -> int:
        """Apply injected faults to a read or write of `size` bytes. Returns how many of them may be transferred."""
        return self._strike(operation, path, size) if self.faults else size

    def _strike(self, operation: str, path: str, size: int) -> int:
        spoils = False
        for fault in self.faults:
            effect = fault.strikes(operation, path, self.ask)
            if effect is None:
                continue
            self.deferred_ns += effect.delay_ns
            if effect.number:
                raise effect.failure()
            if effect.short is not None:
                size = min(size, effect.short)
            spoils |= effect.corrupt
        self.spoils = spoils
        return size

    def need(self, size: int, used: int) -> int:
        """Return how many of `size` additional bytes fit on the disk, of which `used` bytes are occupied. Raises
        `OSError` (ENOSPC) if it is full."""
        if self.capacity is None or used + size <= self.capacity:
            return size
        if used >= self.capacity:
            raise fail(_errno.ENOSPC)
        return self.capacity - used
