"""Random walks: strategies that deviate at random at all choice points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from simloop.choices.draws import dense_walk, mixed_seed, random_walk
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from simloop.choices.choices import Choices, Decide


class Walk:
    """Strategy of seeded random walks over all choice points, without end, that deviate once to ten times in a run
    (`simloop.choices.draws.random_walk`). The expected number of points of each kind is taken from the runs before.

    The program's own entropy is the same in all of them, unless some run has drawn from it.
    """

    name = "random walk"
    #: Walks of strategies with other numbers share nothing with these.
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
        """Return the function that answers the choice points of one walk."""
        return random_walk(seed, typical)

    def observe(self, choices: Choices, failed: bool) -> None:
        # The most that a run had: runs that end early must not make the next ones wilder.
        typical = self._typical
        for kind, count in choices.kinds.items():
            if count > typical.get(kind, 0):
                typical[kind] = count
        self._draws_entropy |= choices.drew_entropy


class DenseWalk(Walk):
    """Strategy of seeded random walks that deviate at a good part of all choice points
    (`simloop.choices.draws.dense_walk`), for races in which several ordinary delays must come together."""

    name = "dense walk"
    number = 2

    def walk(self, seed: int, typical: Mapping[str, int]) -> Decide:
        return dense_walk(seed, typical)
