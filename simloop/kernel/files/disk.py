"""Disk below a simulated file system: its capacity, timing, disk model and injected faults."""

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

#: Disk models: what a power cut may leave. `ext4-ordered`: as ext4 with its defaults, data=ordered and auto_da_alloc
#: (https://docs.kernel.org/admin-guide/ext4.html). `posix`: whatever fsync(2) does not rule out.
DISK_MODELS = ("ext4-ordered", "posix")

# A transaction of the journal is committed after five seconds (the mount option commit=); some slack is added.
COMMIT_NS = 6 * SECOND
# Dirty data are written after 30 seconds, which is looked at every 5 (vm.dirty_expire_centisecs and
# dirty_writeback_centisecs), and their sizes committed with the transaction then.
WRITEBACK_NS = 36 * SECOND + COMMIT_NS

#: What statvfs(3) says of a disk without a limit.
NOMINAL_CAPACITY = 64 << 30


@dataclass(frozen=True, kw_only=True)
class DiskTiming:
    """Latency and throughput of a disk, in virtual time. The defaults are those of an NVMe drive of a cloud machine, as
    orders of magnitude.

    Calls that change nothing take no time, and neither does reading files that were not written in this world: programs
    load such files only in their first run, and later runs in the same process must not differ for it.

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

    #: Duration of a system call that finds everything in memory.
    call_ns: int = MICROSECOND
    #: Time to the first byte of what is not in memory.
    read_latency_ns: int = 100 * MICROSECOND
    #: Duration of a flush, as fsync(2) makes one.
    flush_latency_ns: int = MILLISECOND
    #: Throughput of the drive.
    bytes_per_second: int = 500_000_000
    #: Throughput of the page cache: of copies to and from memory.
    cache_bytes_per_second: int = 5_000_000_000

    def transfer_ns(self, size: int) -> int:
        """Return the time that the drive takes for `size` bytes."""
        return size * SECOND // self.bytes_per_second

    def copy_ns(self, size: int) -> int:
        """Return the time that the page cache takes for `size` bytes."""
        return size * SECOND // self.cache_bytes_per_second


class Disk:
    """Simulated disk of one file system: how long operations take, and which of them fail."""

    def __init__(self, model: str = "ext4-ordered", timing: DiskTiming | None = None) -> None:
        self.model = model
        self.timing = timing or DiskTiming()
        #: Capacity in bytes; None for no limit. Files of the real disk do not count until they are changed.
        self.capacity: int | None = None
        self.faults: list[Fault] = []
        #: Asks the environment about faults with `Fault.by_choice`, see `Fault.strikes`.
        self.ask: Callable[[str, tuple[Effect, ...]], int] = lambda who, effects: 0
        #: True while the current call reads corrupt data.
        self.spoils = False
        #: Deferred I/O latency: virtual nanoseconds that operations have taken and no caller has let pass yet.
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
        """True if metadata reach the disk in the order in which they were changed."""
        return self._model == "ext4-ordered"

    def take_ns(self) -> int:
        """Return the deferred I/O latency, and reset it: the caller lets that time pass."""
        deferred, self.deferred_ns = self.deferred_ns, 0
        return deferred

    def check(self, operation: str, path: str) -> None:
        """Apply injected faults to an operation that is about to begin: raises the error if a fault makes it fail."""
        if self.faults:
            self._strike(operation, path, 0)

    def limit(self, operation: str, path: str, size: int) -> int:
        """Apply injected faults to a read or write of `size` bytes. Returns how many of them it may move."""
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
        """Return the number of bytes, of `size` more, that the disk has space for. Fails with ENOSPC if it is full."""
        if self.capacity is None or used + size <= self.capacity:
            return size
        if used >= self.capacity:
            raise fail(_errno.ENOSPC)
        return self.capacity - used
