"""Wall clocks of hosts, which may be set and may drift. They are computed from the virtual clock of their world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.kernel.clock import BOOT_NS, SECOND, WALL_NS, Clock

if TYPE_CHECKING:
    from collections.abc import Callable


class WallClock:
    """Wall clock of a host (CLOCK_REALTIME), in nanoseconds since 1970, UTC. It may be set, as by settimeofday(2), and
    may run fast or slow; monotonic time (CLOCK_MONOTONIC) is not affected."""

    __slots__ = ("_clock", "_parts", "_set_at", "_set_to", "on_read")

    def __init__(self, clock: Clock, start_ns: int = WALL_NS) -> None:
        self._clock = clock
        self._set_at, self._set_to = BOOT_NS, start_ns
        #: Nanoseconds per second by which this clock runs fast; negative if it runs slow.
        self._parts = 0
        #: Function called before each reading by a program, in which the environment may set the clock; None for none.
        self.on_read: Callable[[], None] | None = None

    @property
    def now(self) -> int:
        """Current time in nanoseconds since 1970, UTC. Unlike `read`, this takes no virtual time."""
        passed = self._clock.now - self._set_at
        return self._set_to + passed + passed * self._parts // SECOND

    @property
    def uptime(self) -> int:
        """Nanoseconds since boot. Getting them takes no virtual time."""
        return self._clock.now

    def read(self) -> int:
        """Return the time in nanoseconds since 1970, as a program reads it. Like each reading of a clock, this takes
        `READ_NS`."""
        if self.on_read is not None:
            self.on_read()
        self._clock.read()
        return self.now

    def set(self, time_ns: int) -> None:
        """Set the wall clock to a time in nanoseconds since 1970."""
        self._set_at, self._set_to = self._clock.now, time_ns

    def drift(self, parts_per_million: float) -> None:
        """Let the wall clock run fast by `parts_per_million` from now on, or slow if that is negative."""
        self.set(self.now)
        self._parts = round(parts_per_million * 1000)
