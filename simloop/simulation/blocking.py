"""Handling of blocking calls in coroutines, by the option ``blocking``: a warning or an error."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simloop.errors import BlockingCallError, BlockingCallWarning, ConfigurationError
from simloop.kernel.clock import MILLISECOND, SECOND

if TYPE_CHECKING:
    from simloop.world.world import World

ANSWERS = ("ignore", "warn", "fail")
# Shorter ones, such as most writes to a file, are what every coroutine does.
LONG_NS = 5 * MILLISECOND
#: Function that is called in place of the warning, if set. Its arguments are the file and line of the call, and for how
#: many nanoseconds it stopped the loop.
listener: Callable[[str, int, int], None] | None = None
# What `warnings` knows of: a test whose hundred runs all block is warned once.
_warned: dict[Any, Any] = {}


def check_blocking(answer: str) -> str:
    if answer not in ANSWERS:
        raise ConfigurationError(f"blocking must be one of {', '.join(ANSWERS)}, not {answer!r}")
    return answer


def refuse_block(world: World, took_ns: int) -> None:
    """Raise `BlockingCallError` if the blocking call that just ended has stopped the current process's event loop for 5
    virtual milliseconds or more. `took_ns` is how long, in nanoseconds."""
    if took_ns >= LONG_NS:
        from simloop.sources import call_site

        raise world.escaped(BlockingCallError(f"{call_site()}: {_told(world, took_ns)}"))


def warn_of_block(world: World, took_ns: int) -> None:
    """Warn, at the line of the call, if the blocking call that just ended has stopped the current process's event loop
    for 5 virtual milliseconds or more. `took_ns` is how long, in nanoseconds. If there is a `listener`, call that
    instead."""
    if took_ns < LONG_NS:
        return
    from simloop.sources import call_site

    site, _, digits = call_site().rpartition(":")
    file, line = (site, int(digits)) if site else ("?", 0)
    if listener is not None:
        listener(file, line, took_ns)
    else:
        warnings.warn_explicit(_told(world, took_ns), BlockingCallWarning, file, line, registry=_warned)


def _told(world: World, took_ns: int) -> str:
    return (
        f"a blocking call stopped the loop of {world.current.name} for {took_ns / SECOND:.3g} s: "
        "await something instead, or run it in an executor"
    )
