"""Wall clocks of hosts, which may be set and may drift, over the virtual clock of their world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.kernel.clock import BOOT_NS, SECOND, WALL_NS, Clock

if TYPE_CHECKING:
    from collections.abc import Callable


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
