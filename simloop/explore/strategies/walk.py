"""Random walks: strategies that deviate at random at all choice points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from simloop.choices.draws import dense_walk, mixed_seed, random_walk
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from simloop.choices.choices import Choices, Decide


class Walk:
    """Strategy of seeded random walks over all choice points, without end, that deviate from the defaults one to ten
    times in a run (`simloop.choices.draws.random_walk`). Earlier runs tell how many choice points of each kind to
    expect.

    The seed of the program's own random numbers is the same in all of them, unless some run has drawn from it.
    """

    name = "random walk"
    #: Number mixed into the seeds, different for each strategy, so that no two strategies draw the same walks.
    number = 1

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._made = 0
        self._typical: dict[str, int] = {}
        self._draws_entropy = False

    def plan(self) -> Plan:
        self._made += 1
        # Mixed, so that walks of neighbouring seeds share nothing; 32 bits of it, which tokens have to hold.
        seed = mixed_seed(self._seed, self._made, self.number) & 0xFFFF_FFFF
        return Plan(seed if self._draws_entropy else self._seed, self.walk(seed, self._typical))

    def walk(self, seed: int, typical: Mapping[str, int]) -> Decide:
        """Return the function that answers the choice points of the walk with this seed. `typical` maps each kind of
        choice point to the number of them in a run."""
        return random_walk(seed, typical)

    def observe(self, choices: Choices, failed: bool) -> None:
        # The most that a run had: runs that end early must not make the next ones wilder.
        typical = self._typical
        for kind, count in choices.kinds.items():
            if count > typical.get(kind, 0):
                typical[kind] = count
        self._draws_entropy |= choices.drew_entropy


class DenseWalk(Walk):
    """Strategy of seeded random walks that deviate from the defaults at a large part of all choice points
    (`simloop.choices.draws.dense_walk`), for races in which several ordinary delays must come together."""

    name = "dense walk"
    number = 2

    def walk(self, seed: int, typical: Mapping[str, int]) -> Decide:
        return dense_walk(seed, typical)
