"""Limits and options of one run."""

from __future__ import annotations

import warnings
from datetime import date
from typing import Any, NamedTuple

from simloop.choices.choices import check_profile
from simloop.errors import ConfigurationError
from simloop.kernel.scheduler import DEFAULT_MAX_STALL, DEFAULT_MAX_TIME
from simloop.simulation.blocking import check_blocking
from simloop.simulation.watchdog import DEFAULT_MAX_HANG
from simloop.world.world import DEFAULT_MAX_STEPS

#: Value of `Limits.start` for the real time.
NOW = "now"


class Limits(NamedTuple):
    """Limits and options of a run: how long it may last, and which orders of events count as legal in it.

    `max_steps` counts callbacks. `max_time` and `max_stall` are virtual seconds: how long the run may last, and how
    long one slow callback may keep a loop from its timers. `max_hang` is real seconds without progress. `start` is the
    wall clock's time when a run begins; ``now`` is the real time. `threads` is deprecated and has no effect: threads
    are always simulated. `cancel` lets the environment cancel any task that the main function itself creates; a run
    that ends with that cancellation counts as passed. `blocking` says what happens on calls that block in a coroutine
    for 5 virtual milliseconds or more: ``warn`` (`BlockingCallWarning`), ``fail`` (`BlockingCallError`) or ``ignore``.
    `preempt` says where a simulated thread may be preempted: before its system ``calls``, or also between the ``lines``
    of the user's own code. `strict_programs` makes a run that would have passed fail with `UncalledProgramError` if a
    program that it registered was never started.
    """

    profile: str = "cpython"
    max_steps: int = DEFAULT_MAX_STEPS
    max_time: float = DEFAULT_MAX_TIME
    max_stall: float = DEFAULT_MAX_STALL
    max_hang: float = DEFAULT_MAX_HANG
    threads: bool | None = None
    start: str | date | None = None
    cancel: bool = False
    blocking: str = "warn"
    preempt: str = "calls"
    strict_programs: bool = False

    def check(self) -> Limits:
        """Return these limits if all values are valid; else raise `ConfigurationError`."""
        check_profile(self.profile)
        if isinstance(self.max_steps, bool) or not isinstance(self.max_steps, int) or self.max_steps < 1:
            raise ConfigurationError(f"max_steps must be a whole number of at least 1, not {self.max_steps!r}")
        for name in ("cancel", "strict_programs"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} must be True or False, not {getattr(self, name)!r}")
        check_blocking(self.blocking)
        if self.preempt not in ("calls", "lines"):
            raise ConfigurationError(f"preempt must be one of calls, lines, not {self.preempt!r}")
        for name in ("max_time", "max_stall"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
                raise ConfigurationError(f"{name} must be a number of virtual seconds, not {value!r}")
        hang = self.max_hang
        if isinstance(hang, bool) or not isinstance(hang, (int, float)) or not 0 < hang < 1e6:
            raise ConfigurationError(f"max_hang must be a number of real seconds above 0, not {hang!r}")
        if self.start not in (None, NOW):
            _ = self.start_ns  # raises an error if it is none
        return self

    def at_present(self) -> Limits:
        """Return these limits with the real time in place of ``now``, so that all runs of a campaign begin alike."""
        if self.start != NOW:
            return self
        from simloop.simulation.clock import present

        return self._replace(start=present())

    @property
    def start_ns(self) -> int:
        """Time of the wall clock when a run begins, in nanoseconds since 1970."""
        from simloop.simulation.clock import start_of

        return start_of(self.start)


_DEFAULT_LIMITS = Limits()


def make_limits(options: dict[str, Any]) -> Limits:
    """Return the limits of runs that begin at once, from keyword arguments of the user."""
    return checked_limits(options).at_present()


def checked_limits(options: dict[str, Any]) -> Limits:
    if not options:
        return _DEFAULT_LIMITS
    unknown = set(options) - set(Limits._fields)
    if unknown:
        raise ConfigurationError(f"unknown option {sorted(unknown)[0]!r}: use one of {', '.join(Limits._fields)}")
    if options.get("threads") is not None:
        from simloop.sources import level_of_caller

        warnings.warn(
            "threads= makes no difference any more: threads are simulated always",
            DeprecationWarning,
            stacklevel=level_of_caller(),
        )
    return Limits(**options).check()
