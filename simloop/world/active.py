"""Access to the entered world, for shims: threads inside of it get it, and all others the real world."""

from __future__ import annotations

from _thread import get_ident
from typing import TYPE_CHECKING, Any

from simloop.errors import EscapedSimulationError

if TYPE_CHECKING:
    from simloop.world.world import World

# Stands for a thread that is not of the world; None is the world's main one.
_STRANGER: Any = object()

#: The world that is entered, if any. Only `world_entered` and the context of a run assign it.
entered: World | None = None


def world() -> World | None:
    """Return the world that the calling thread is inside of; None in the real world. Called before each simulated call:
    a thread other than the world's main one, and a process that is not the only one, may be preempted here."""
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
    """Return the world that the calling thread is inside of, as `world` does, but without a preemption."""
    return entered if entered is not None and get_ident() in entered.threads else None


def is_inside() -> bool:
    """Return True if the calling thread is inside of a world."""
    return here() is not None


class world_entered:
    """Context manager that makes `world` the one that is entered; with None its body runs in the real world."""

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
    """Return the error for code that reaches for the real world. The run is marked, so that it fails even if the error
    is swallowed."""
    from simloop.sources import call_site

    error = EscapedSimulationError(f"{call_site()}: {what} is outside of the simulation: {remedy}")
    if entered is not None:
        entered.escaped(error)
    return error
