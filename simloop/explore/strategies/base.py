"""Structural type of strategies, and the simplest one: the canonical run.

A strategy has one method that proposes the next run and one that receives what a run recorded; the campaign uses
nothing else of it. Each strategy is a file of its own, whose docstring names the published idea and the differences
from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from simloop.choices.choices import Choices, Decide
    from simloop.world.observer import Observer

T = TypeVar("T", bound="Observer")


class Plan(NamedTuple):
    """Plan of one run, as a strategy proposes it: its seed, and the answers to its choice points."""

    #: Seed of the run, from which the program's random numbers come, too.
    seed: int
    #: Function that answers the choice points: ``decide(who, kind, number, n)`` returns a value in ``range(n)``. None
    #: for the canonical run, in which all answers are 0.
    decide: Decide | None
    #: Observer that is told of everything that happens in the run, which makes it slower. Not used for a run in a fork.
    observer: Observer | None = None


class Strategy(Protocol):
    """Structural type of a strategy, which proposes runs one after another."""

    #: Name of the strategy in reports.
    name: str

    def plan(self) -> Plan | None:
        """Return the next run to make, or None when this strategy has nothing more to try."""

    def observe(self, choices: Choices, failed: bool) -> None:
        """Receive the choices that a run recorded, also a run that another strategy proposed; `failed` is True if it
        failed."""


class Canonical(Generic[T]):
    """Strategy that proposes a single run, the canonical one, with which every campaign begins. ``watch()`` returns a
    new observer for it."""

    name = "canonical run"

    def __init__(self, seed: int, watch: Callable[[], T]) -> None:
        self._seed = seed
        self._watch = watch
        #: True once the run was planned.
        self.is_planned = False
        #: Observer of the run; None as long as it was not watched.
        self.observer: T | None = None

    def plan(self) -> Plan | None:
        unwatched = self.plan_unwatched()
        return None if unwatched is None else unwatched._replace(observer=self.watched())

    def plan_unwatched(self) -> Plan | None:
        """Return the run without an observer, or None if it was planned before."""
        if self.is_planned:
            return None
        self.is_planned = True
        return Plan(self._seed, None)

    def watched(self) -> T:
        """Return a new observer for the run, or for a repetition of it."""
        self.observer = self._watch()
        return self.observer

    def observe(self, choices: Choices, failed: bool) -> None:
        pass
