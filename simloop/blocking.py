"""Calls that block in a coroutine: what is said of them."""

from __future__ import annotations

import sys
import threading
import warnings
from types import FrameType

from simloop.errors import BlockingCallError, BlockingCallWarning, ConfigurationError
from simloop.kernel.clock import MILLISECOND, SECOND
from simloop.network.world import World
from simloop.shims import active

ANSWERS = ("ignore", "warn", "fail")
# Shorter ones, such as most writes to a file, are what every coroutine does.
LONG_NS = 5 * MILLISECOND


def check_blocking(answer: str) -> str:
    if answer not in ANSWERS:
        raise ConfigurationError(f"blocking must be one of {', '.join(ANSWERS)}, not {answer!r}")
    return answer


def refuse_block(world: World, took_ns: int) -> None:
    """A call has stopped the current process's loop for so long: the run fails."""
    if took_ns >= LONG_NS and not _starts_thread():
        raise world.escaped(BlockingCallError(f"{active.call_site()}: {_told(world, took_ns)}"))


def warn_of_block(world: World, took_ns: int) -> None:
    """The same, as a warning at the line of the call."""
    if took_ns >= LONG_NS and not _starts_thread():
        file, _, line = active.call_site().rpartition(":")
        warnings.warn_explicit(_told(world, took_ns), BlockingCallWarning, file or "?", int(line) if file else 0)


def _starts_thread() -> bool:
    """Whether it is Thread.start(), which waits until the thread runs: asyncio starts threads itself, for children up
    to Python 3.11, and nobody could await that instead."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not threading.Thread.start.__code__:
        frame = frame.f_back
    return frame is not None


def _told(world: World, took_ns: int) -> str:
    return (
        f"a blocking call stopped the loop of {world.current.name} for {took_ns / SECOND:.3g} s: "
        "await something instead, or run it in an executor"
    )
