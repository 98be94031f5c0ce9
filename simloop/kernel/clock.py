"""Virtual clock of a world. Two things advance it: reading it, and the scheduler."""

from __future__ import annotations

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
MICROSECOND = 1_000

# A machine that has been up for a while: neither zero, which hides `if deadline:` mistakes, nor
# epoch-sized, where floats can no longer tell nanoseconds apart.
BOOT_NS = 1_000 * SECOND
# 2026-01-01T00:00:00Z is the wall clock's reading when a world begins.
WALL_NS = 1_767_225_600 * SECOND
# What a look at the clock costs. It is not zero because on a real machine two looks never agree: with a
# clock that stands still, two `sleep(1)` in a row would tie and could then run in an order that stock
# asyncio cannot produce, and `while time.monotonic() < end` would never end.
READ_NS = MICROSECOND
# Processor time of a step of a loop, as order of magnitude.
STEP_CPU_NS = 20 * MICROSECOND


class Clock:
    """Virtual clock of a world: ``now`` is nanoseconds since boot. Only `read` and the scheduler advance it."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = BOOT_NS

    def read(self) -> int:
        """Advance the clock by `READ_NS`, and return the nanoseconds since boot: a program has read the clock."""
        self.now += READ_NS
        return self.now

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the world began."""
        return (self.now - BOOT_NS) / SECOND
