"""Entered world: the one in which simulated calls take effect. Shims get it here if the calling thread belongs to it;
all other threads use the real system."""

from __future__ import annotations

from _thread import get_ident
from typing import TYPE_CHECKING, Any

from simloop.errors import EscapedSimulationError

if TYPE_CHECKING:
    from simloop.world.world import World

# Stands for a thread that is not of the world; None is the world's main one.
_STRANGER: Any = object()

#: World that is entered now; None outside of a run. Only `world_entered` and the context of a run assign it.
entered: World | None = None


def world() -> World | None:
    """Return the entered world if the calling thread belongs to it; None in the real world.

    To be called before each simulated call: here the environment may preempt a thread other than the world's main one,
    or a process if there are several.
    """
    if entered is not None:
        found = entered
        thread = found.threads.get(get_ident(), _STRANGER)
        if thread is None:
            if found.scheduler.stepped:
                _may_switch(found)
            return found
        if thread is not _STRANGER:
            thread.may_switch()
            return found
    return None


def _may_switch(world: World) -> None:
    """Preempt the current process, if the environment chooses so."""
    if world.switches is None:
        from simloop.world.switches import Switches

        world.switches = Switches(world)
    world.switches.ask()


def here() -> World | None:
    """Return the entered world if the calling thread belongs to it, else None. Unlike `world`, this never preempts the
    caller."""
    return entered if entered is not None and get_ident() in entered.threads else None


def is_inside() -> bool:
    """Return True if the calling thread belongs to the entered world."""
    return here() is not None


class world_entered:
    """Context manager in whose body `world` is the entered one; None for the real world."""

    __slots__ = ("_before", "_world")

    def __init__(self, world: World | None) -> None:
        self._world = world

    def __enter__(self) -> None:
        global entered
        self._before, entered = entered, self._world

    def __exit__(self, *_: object) -> None:
        global entered
        entered = self._before


def escape(what: str, remedy: str) -> EscapedSimulationError:
    """Return `EscapedSimulationError` for code that tried to use the real system. `what` it tried to use and the
    `remedy` go into its message. The run fails even if the error is swallowed."""
    from simloop.sources import call_site

    error = EscapedSimulationError(f"{call_site()}: {what} is outside of the simulation: {remedy}")
    if entered is not None:
        entered.escaped(error)
    return error
