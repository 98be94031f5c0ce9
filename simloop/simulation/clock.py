"""Handle on the wall clock of a host: a test can set it, make it run fast or slow, or allow the environment to step
it."""

from __future__ import annotations

import math
import time
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from simloop.errors import ConfigurationError
from simloop.kernel.clock import MICROSECOND, SECOND
from simloop.shims.patch import original
from simloop.shims.time import exact_datetime

if TYPE_CHECKING:
    from simloop.kernel.host import Host
    from simloop.world.world import World

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nanoseconds_of(moment: object, what: str) -> int:
    """Return a datetime as nanoseconds since 1970. Raises `ConfigurationError`, whose message begins with `what`, for
    anything but a datetime with a time zone, from 1970 on."""
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigurationError(f"{what} must be a datetime with a time zone, such as tzinfo=UTC, not {moment!r}")
    if moment < _EPOCH:
        raise ConfigurationError(f"{what} must not be before 1970, as {moment} is")
    return (moment - _EPOCH) // timedelta(microseconds=1) * MICROSECOND


def start_of(value: object) -> int:
    """Return the value of the option ``start`` as nanoseconds since 1970: a date, which begins at 00:00 UTC, or a
    datetime; either may be ISO 8601 text, in which a time without an offset is UTC."""
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigurationError(
                f"start must be now, or a date such as 2026-10-25T00:30+02:00, not {value!r}"
            ) from None
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    elif isinstance(value, date) and not isinstance(value, datetime):
        moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return nanoseconds_of(moment, "start")


def present() -> datetime:
    """Return the real time, in UTC."""
    return exact_datetime(original(time, "time_ns")())


class SimClock:
    """Handle on a host's wall clock, which `time.time`, `datetime.now` and file times on the host follow: ``sim.clock``
    or ``host.clock``. The clocks that measure durations are not changed by it: `time.monotonic`, timeouts, the event
    loop's time.

    >>> import simloop, time
    >>> async def main():
    ...     clock = simloop.current().clock
    ...     before = time.time(), time.monotonic()
    ...     clock.step(-3600)
    ...     return round(time.time() - before[0]), round(time.monotonic() - before[1])
    >>> simloop.run(main)
    (-3600, 0)
    """

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host

    @property
    def now(self) -> datetime:
        """Current time of the clock, in UTC. Reading it takes no virtual time."""
        return exact_datetime(self._host.wall.now)

    def set(self, moment: datetime) -> None:
        """Set the clock to `moment`. Raises `ConfigurationError` for a datetime without a time zone, or before 1970."""
        self._host.wall.set(nanoseconds_of(moment, "the time"))

    def step(self, seconds: float) -> None:
        """Move the clock forward by `seconds`, or back if they are negative. Raises `ConfigurationError` for a value
        that is not a number, or that leads to a time before 1970."""
        self._host.wall.set(self._stepped(seconds, "seconds"))

    def drift(self, ppm: float) -> None:
        """Make the clock run fast from now on by `ppm` parts per million, or slow if that is negative. Raises
        `ConfigurationError` for a value at which time would stop, or run more than twice as fast."""
        if isinstance(ppm, bool) or not isinstance(ppm, (int, float)) or not -1e6 < ppm <= 1e6:
            raise ConfigurationError(f"ppm must be a number above -1,000,000 and up to 1,000,000, not {ppm!r}")
        self._host.wall.drift(ppm)

    def may_step(self, *, up_to: float) -> None:
        """Declare that the environment may step the clock once, by `up_to` seconds forward or back, right before a
        program reads it: as ntpd or an operator may at any time.

        >>> import simloop, time
        >>> async def main():
        ...     simloop.current().clock.may_step(up_to=60)
        ...     before = time.time()
        ...     assert time.time() >= before
        >>> simloop.explore(main).failure.strategy
        'fault sweep'
        """
        self._stepped(up_to, "up_to")
        self._stepped(-up_to, "up_to")
        wall, choices, name = self._host.wall, self._world.choices, self._host.name

        def ask() -> None:
            answer = choices.choose(name, "clock.step", 3, up_to)
            if answer:
                wall.on_read = None
                wall.set(self._stepped(up_to if answer == 1 else -up_to, "up_to"))

        wall.on_read = ask

    def _stepped(self, seconds: float, what: str) -> int:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
            raise ConfigurationError(f"{what} must be a number of seconds, not {seconds!r}")
        stepped = self._host.wall.now + round(seconds * SECOND)
        if stepped < 0:
            raise ConfigurationError(f"a step of {seconds:g} s leads to before 1970")
        return stepped
