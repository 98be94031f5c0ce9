"""Schedules: the seed, profile and deviations of a run, by which it is replayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simloop.choices.choices import Choices

if TYPE_CHECKING:
    from simloop.choices.choices import Decide, Point


@dataclass(frozen=True)
class Schedule:
    """Recipe of one run: a profile, the seed of the program's own entropy, the deviations, and whether objects that
    would hash by address have numbers."""

    profile: str = "cpython"
    seed: int = 0
    deviations: dict[Point, int] = field(default_factory=dict)
    numbered: bool = False

    @property
    def preempts_lines(self) -> bool:
        """True if a deviation preempts a thread before a line: a run must have the points of lines for that."""
        return any(point.kind == "thread.line" for point in self.deviations)

    def choices(self) -> Choices:
        """Return new `Choices` for one run of this schedule."""
        return Choices(self.seed, self.decider(), lines=self.preempts_lines, numbered=self.numbered)

    def decider(self) -> Decide:
        """Return a function that answers choice points as this schedule says, and 0 everywhere else. A deviation whose
        value the point no longer offers becomes the greatest value that it offers."""
        wanted = {tuple(point): value for point, value in self.deviations.items()}

        def decide(who: str, kind: str, number: int, n: int) -> int:
            value = wanted.get((who, kind, number), 0)
            return value if value < n else n - 1

        return decide

    def applied(self, choices: Choices) -> int:
        """Return the number of this schedule's deviations that took place in the run that `choices` recorded."""
        taken = choices.deviations()
        return sum(point in taken for point in self.deviations)
