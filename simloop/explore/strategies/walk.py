"""Random walks over all choice points."""

from __future__ import annotations

from collections import Counter

from simloop.choices.choices import Choices
from simloop.choices.draws import random_walk
from simloop.explore.strategies.base import Plan


class Walk:
    """A seeded random walk over all choice points (`simloop.choices.draws.random_walk`), without end. How many
    points of each kind to expect it learns from the runs before."""

    name = "random walk"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._typical: Counter[str] = Counter()

    def plan(self) -> Plan | None:
        self._seed += 1
        return Plan(self._seed, random_walk(self._seed, self._typical))

    def observe(self, choices: Choices, failed: bool) -> None:
        # The most that a run had: runs that end early must not make the next ones wilder.
        self._typical |= Counter(kind for _, kind, _, n, _ in choices.recorded if n > 1)
