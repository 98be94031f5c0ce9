"""`breakpoint()` in a simulated test: passed over in the many runs that explore, live in the one run that counts.

While a debugger is open, clocks show the time of the run that it looks at, and stand still.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pdb
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_simloop import fixture_worlds
from simloop.kernel.clock import Clock
from simloop.world import active
from simloop.world.world import World


class Breakpoints:
    """Use as a context manager around all runs of one test."""

    def __init__(self) -> None:
        #: Whether a run came to a breakpoint that was passed over.
        self.hit = False
        self._real: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Breakpoints:
        places: list[tuple[Any, str]] = [(pdb, "set_trace"), (pytest, "set_trace")]
        # With PYTHONBREAKPOINT=0 there is nothing to pass over.
        if sys.breakpointhook is not sys.__breakpointhook__ or os.environ.get("PYTHONBREAKPOINT") != "0":
            places.append((sys, "breakpointhook"))
        self._real = [(owner, name, getattr(owner, name)) for owner, name in places]
        self.mute()
        return self

    def __exit__(self, *exc: object) -> None:
        self.restore()

    def mute(self) -> None:
        """From now on they are passed over."""
        for owner, name, _ in self._real:
            setattr(owner, name, self._pass_over)

    def restore(self) -> None:
        """From now on they stop."""
        for owner, name, real in self._real:
            setattr(owner, name, real)

    def _pass_over(self, *args: Any, **kwargs: Any) -> None:
        self.hit = True


class _StillClock(Clock):
    """A clock that may be looked at for nothing."""

    __slots__ = ()

    def read(self) -> int:
        return self.now


def note_time(error: BaseException, world: World) -> None:
    """Remember when in virtual time the test raised `error`."""
    if getattr(error, "_simloop_raised", (None,))[0] is world:
        return  # its way out of the test was noted before
    with contextlib.suppress(AttributeError, TypeError):  # of an exception that takes no attributes
        error._simloop_raised = (world, world.scheduler.clock.now)  # type: ignore[attr-defined]


@contextlib.contextmanager
def at_the_time_of(error: BaseException | None) -> Iterator[None]:
    """The calling thread is in the world in which `error` was raised, or else in the one that it is in already, and
    the clock there stands still. The real world can be reached: a debugger needs it."""
    world, now = getattr(error, "_simloop_raised", (active.world() or fixture_worlds.aside, None))
    if world is None:
        yield
        return
    clock = world.scheduler.clock
    before = (world.reaching_out, clock.now)
    world.reaching_out = True
    clock.now = clock.now if now is None else now
    clock.__class__ = _StillClock
    try:
        with active.world_entered(world):
            yield
    finally:
        clock.__class__ = Clock
        world.reaching_out, clock.now = before


#: What is being looked at after its death, if anything.
_examined: BaseException | None = None


@contextlib.contextmanager
def examining(error: BaseException) -> Iterator[None]:
    """A debugger that is opened in this block looks at `error`."""
    global _examined
    _examined = error
    try:
        yield
    finally:
        _examined = None


def stop_clocks_for(debugger: Any) -> None:
    """Make the clocks stand still whenever this debugger is open."""
    interaction: Callable[..., Any] = debugger.interaction
    error = _examined

    @functools.wraps(interaction)
    def interact(*args: Any, **kwargs: Any) -> Any:
        with at_the_time_of(error):
            return interaction(*args, **kwargs)

    debugger.interaction = interact
