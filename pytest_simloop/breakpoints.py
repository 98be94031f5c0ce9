"""Breakpoints in simulated tests: passed over in the many runs that explore, live in the one run that is reported.

While a debugger is open, the virtual clock is stopped at the time of the run that is debugged.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pdb
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_simloop import fixture_worlds
from simloop.kernel.clock import Clock
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World


class Breakpoints:
    """Context manager around all runs of a test, which replaces the entry points of debuggers, such as `breakpoint`."""

    def __init__(self) -> None:
        #: True once a run has reached a breakpoint and passed over it.
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
        """Make the program pass over breakpoints from now on."""
        for owner, name, _ in self._real:
            setattr(owner, name, self._pass_over)

    def restore(self) -> None:
        """Put the real entry points of debuggers back, so that breakpoints stop the program again."""
        for owner, name, real in self._real:
            setattr(owner, name, real)

    def _pass_over(self, *args: Any, **kwargs: Any) -> None:
        self.hit = True


class _StillClock(Clock):
    """Virtual clock that is stopped: reading it takes no virtual time."""

    __slots__ = ()

    def read(self) -> int:
        return self.now


def note_time(error: BaseException, world: World) -> None:
    """Store on `error` the virtual time at which the test raised it, for a debugger to be opened at that time."""
    if getattr(error, "_simloop_raised", (None,))[0] is world:
        return  # its way out of the test was noted before
    with contextlib.suppress(AttributeError, TypeError):  # of an exception that takes no attributes
        error._simloop_raised = (world, world.scheduler.clock.now)  # type: ignore[attr-defined]


@contextlib.contextmanager
def at_the_time_of(error: BaseException | None) -> Iterator[None]:
    """Context manager that puts the calling thread into the world in which `error` was raised, and stops the virtual
    clock at the time of the error. If that is not known, it is the current world and its current time. The real world
    can be reached inside, as a debugger needs."""
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


#: The exception that a post-mortem debugger is looking at, if any.
_examined: BaseException | None = None


@contextlib.contextmanager
def examining(error: BaseException) -> Iterator[None]:
    """Context manager for the post-mortem debugger: a debugger that is opened inside of it looks at `error`."""
    global _examined
    _examined = error
    try:
        yield
    finally:
        _examined = None


def stop_clocks_for(debugger: Any) -> None:
    """Install a hook in a debugger, so that the virtual clock is stopped whenever the debugger is open."""
    interaction: Callable[..., Any] = debugger.interaction
    error = _examined

    @functools.wraps(interaction)
    def interact(*args: Any, **kwargs: Any) -> Any:
        with at_the_time_of(error):
            return interaction(*args, **kwargs)

    debugger.interaction = interact
