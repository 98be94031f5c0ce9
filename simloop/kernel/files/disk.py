"""The disk below a simulated file system: how large, how fast, how faithful, and what it does wrong."""

from __future__ import annotations

import errno as _errno
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from simloop.kernel.clock import MICROSECOND, MILLISECOND, SECOND
from simloop.kernel.errors import fail

#: What a power cut may leave. `ext4-ordered`: as ext4 with its defaults, data=ordered and auto_da_alloc
#: (https://docs.kernel.org/admin-guide/ext4.html). `posix`: whatever fsync(2) does not rule out.
PROFILES = ("ext4-ordered", "posix")

#: The operations that can be made to fail.
OPERATIONS = (
    "chmod", "fsync", "link", "listdir", "mkdir", "open", "read", "rename", "rmdir", "stat", "symlink", "truncate",
    "unlink", "utime", "write",
)  # fmt: skip

#: What statvfs(3) says of a disk without a limit.
NOMINAL_CAPACITY = 64 << 30


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long operations take, in virtual time. The defaults are an NVMe drive of a cloud machine, as order of
    magnitude; `call_ns` is what a system call costs that finds everything in memory.

    Calls that only look, and reading what nobody wrote in this world, take no time: programs load such files once, in
    their first run, and a later run in the same process must not go another way for it.
    """

    call_ns: int = MICROSECOND
    read_latency_ns: int = 100 * MICROSECOND
    flush_latency_ns: int = MILLISECOND
    bytes_per_second: int = 500_000_000
    #: The page cache: what copying to and from memory takes.
    cache_bytes_per_second: int = 5_000_000_000

    def transfer_ns(self, size: int) -> int:
        return size * SECOND // self.bytes_per_second

    def copy_ns(self, size: int) -> int:
        return size * SECOND // self.cache_bytes_per_second


@dataclass
class Fault:
    """An operation that goes wrong: the `after` first ones that match pass, the next `times` fail, and the rest pass
    again (`times` of None: all of them fail).

    `pattern` is a shell pattern of absolute paths, in which ``*`` matches slashes, too. `number` is the errno; 0
    lets a read or write go through, but with at most `short` bytes.
    """

    pattern: str
    operation: str
    number: int
    after: int = 0
    times: int | None = 1
    short: int = 1
    #: How often it has struck.
    struck: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS and self.operation != "*":
            raise ValueError(f"no operation {self.operation!r}: use one of {', '.join(OPERATIONS)}, or *")
        if not self.number and self.operation not in ("read", "write"):
            raise ValueError("only read and write can fall short")

    def strikes(self, operation: str, path: str) -> bool:
        if self.operation not in ("*", operation) or not fnmatchcase(path, self.pattern):
            return False
        self._seen += 1
        if self._seen <= self.after or (self.times is not None and self.struck >= self.times):
            return False
        self.struck += 1
        return True


class Disk:
    """What may go wrong, and what everything costs. Each file system has one."""

    def __init__(self, profile: str = "ext4-ordered", timing: Timing | None = None) -> None:
        self.profile = profile
        self.timing = timing or Timing()
        #: In bytes; None for no limit. What is on the real disk does not count until it is changed.
        self.capacity: int | None = None
        self.faults: list[Fault] = []
        #: Virtual nanoseconds that operations have taken and nobody has spent yet.
        self.owed_ns = 0

    @property
    def profile(self) -> str:
        return self._profile

    @profile.setter
    def profile(self, name: str) -> None:
        if name not in PROFILES:
            raise ValueError(f"unknown profile {name!r}: use one of {', '.join(PROFILES)}")
        self._profile = name

    @property
    def journals(self) -> bool:
        """Whether metadata reach the disk in the order in which they were changed."""
        return self._profile == "ext4-ordered"

    def take_ns(self) -> int:
        """How long the operations since the last call took: the caller lets that time pass."""
        owed, self.owed_ns = self.owed_ns, 0
        return owed

    def check(self, operation: str, path: str) -> None:
        """Called by each operation before it does anything: fails if it is to fail."""
        if self.faults:
            self._strike(operation, path, None)

    def limit(self, operation: str, path: str, size: int) -> int:
        """`check` for reading or writing `size` bytes. Returns how many of them it may move."""
        return self._strike(operation, path, size) if self.faults else size

    def _strike(self, operation: str, path: str, size: int | None) -> int:
        for fault in self.faults:
            if fault.strikes(operation, path):
                if fault.number:
                    raise fail(fault.number)
                if size is not None:
                    size = min(size, fault.short)
        return size or 0

    def need(self, size: int, used: int) -> int:
        """How many of `size` more bytes find room. Fails with ENOSPC where none does."""
        if self.capacity is None or used + size <= self.capacity:
            return size
        if used >= self.capacity:
            raise fail(_errno.ENOSPC)
        return self.capacity - used
