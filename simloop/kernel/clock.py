"""Clocks: the virtual one of a world, moved by readings and by the scheduler; wall clocks of hosts, which may drift."""

from __future__ import annotations

from collections.abc import Callable

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
    """Virtual clock of a world: ``now`` is nanoseconds since boot. Only readings and the scheduler move it ahead."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = BOOT_NS

    def read(self) -> int:
        """Return the time since boot in nanoseconds, as a program reads it. Each reading takes `READ_NS`."""
        self.now += READ_NS
        return self.now

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the world began."""
        return (self.now - BOOT_NS) / SECOND


class WallClock:
    """Wall clock of a host (CLOCK_REALTIME), which may be set, as settimeofday(2) does, and may run fast or slow. Times
    are nanoseconds since 1970, UTC. Monotonic time (CLOCK_MONOTONIC) is not affected."""

    __slots__ = ("_clock", "_parts", "_set_at", "_set_to", "on_read")

    def __init__(self, clock: Clock, start_ns: int = WALL_NS) -> None:
        self._clock = clock
        self._set_at, self._set_to = BOOT_NS, start_ns
        #: Nanoseconds per second by which it runs fast.
        self._parts = 0
        #: Called before each reading by a program, where the environment may set the clock.
        self.on_read: Callable[[], None] | None = None

    @property
    def now(self) -> int:
        """Current time. Reading it here takes no virtual time."""
        passed = self._clock.now - self._set_at
        return self._set_to + passed + passed * self._parts // SECOND

    @property
    def uptime(self) -> int:
        """Nanoseconds since boot. Reading it here takes no virtual time."""
        return self._clock.now

    def read(self) -> int:
        """Return the time as a program reads it, which takes as long as any reading of the clock (`READ_NS`)."""
        if self.on_read is not None:
            self.on_read()
        self._clock.read()
        return self.now

    def set(self, time_ns: int) -> None:
        """Set the wall clock to a time in nanoseconds since 1970."""
        self._set_at, self._set_to = self._clock.now, time_ns

    def drift(self, parts_per_million: float) -> None:
        """Let the wall clock run fast from now on, or slow if the value is below 0."""
        self.set(self.now)
        self._parts = round(parts_per_million * 1000)
