"""How the next schedule to try is picked.

A strategy is one method to say what to run next and one to hear what came of it. This is the seam for
sweeps and walks: the campaign knows nothing else of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from simloop.choices import Choices, Decide, random_walk


@dataclass(frozen=True)
class Plan:
    """One run to make: the seed of the program's own entropy, and who answers the choice points."""

    seed: int
    decide: Decide | None


class Strategy(Protocol):
    """Proposes runs, one after another."""

    #: What the report calls it.
    name: str

    def plan(self) -> Plan | None:
        """The next run, or None when this strategy has nothing more to try."""

    def observe(self, choices: Choices, failed: bool) -> None:
        """Hear what a run of the campaign recorded, whichever strategy proposed it."""


class Canonical:
    """The one run in which nothing unusual happens. Every campaign begins with it."""

    name = "canonical run"

    def __init__(self, seed: int) -> None:
        self._plan: Plan | None = Plan(seed, None)

    def plan(self) -> Plan | None:
        plan, self._plan = self._plan, None
        return plan

    def observe(self, choices: Choices, failed: bool) -> None:
        pass


class Walk:
    """A seeded random walk over all choice points (`simloop.choices.random_walk`), without end. How many
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


#: Makes the strategies of a campaign, in the order in which they are asked, from its seed.
Portfolio = Callable[[int], list[Strategy]]


def default_portfolio(seed: int) -> list[Strategy]:
    return [Canonical(seed), Walk(seed)]
