"""The random walk: a strategy that deviates at random at all choice points."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from simloop.choices.draws import mixed_seed, random_walk
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from simloop.choices.choices import Choices


class Walk:
    """Strategy of seeded random walks over all choice points (`simloop.choices.draws.random_walk`), without end. The
    expected number of points of each kind is taken from the runs before.

    The idea of leaving out some kinds in each walk is "swarm testing" (Groce et al., ISSTA 2012).
    """

    name = "random walk"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number = 0
        self._typical: Counter[str] = Counter()

    def plan(self) -> Plan | None:
        self._number += 1
        # Mixed, so that walks of neighbouring seeds share nothing; 32 bits of it, which tokens have to hold.
        seed = mixed_seed(self._seed, self._number) & 0xFFFF_FFFF
        return Plan(seed, random_walk(seed, self._typical))

    def observe(self, choices: Choices, failed: bool) -> None:
        # The most that a run had: runs that end early must not make the next ones wilder.
        self._typical |= Counter(kind for _, kind, _, n, _ in choices.recorded if n > 1)
