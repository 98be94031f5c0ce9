"""Virtual clock while a debugger is open: it is stopped at the time of the run that is debugged."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from pytest_simloop import fixture_worlds
from simloop.kernel.clock import Clock
from simloop.world import active


class _StillClock(Clock):
    """Virtual clock that is stopped: reading it takes no virtual time."""

    __slots__ = ()

    def read(self) -> int:
        return self.now


@contextlib.contextmanager
def at_the_time_of(error: BaseException | None) -> Iterator[None]:
    """Context manager that puts the calling thread into the world in which `error` was raised, and stops the virtual
    clock at the time of the error; if these are not known, into the current world at its current time. Inside, the real
    world can be accessed, as a debugger needs."""
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


#: Exception that a post-mortem debugger is examining; None if there is none.
_examined: BaseException | None = None


@contextlib.contextmanager
def examining(error: BaseException) -> Iterator[None]:
    """Context manager for post-mortem debugging: a debugger opened inside of it examines `error`."""
    global _examined
    _examined = error
    try:
        yield
    finally:
        _examined = None


def stop_clocks_for(debugger: Any) -> None:
    """Patch `debugger` so that the virtual clock is stopped whenever the debugger is open."""
    interaction: Callable[..., Any] = debugger.interaction
    error = _examined

    @functools.wraps(interaction)
    def interact(*args: Any, **kwargs: Any) -> Any:
        with at_the_time_of(error):
            return interaction(*args, **kwargs)

    debugger.interaction = interact
