"""Schedule: the seed, profile and deviations of a run, from which it can be replayed."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from simloop.choices.choices import Choices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simloop.choices.choices import Decide, Point


class Schedule(NamedTuple):
    """Recipe of one run: its profile (which orders count as legal), the seed of the program's own entropy, and the
    deviations, the answers at choice points that are not 0. `numbered` is True if objects whose hash is their memory
    address are numbered, and hash by that number."""

    profile: str = "cpython"
    seed: int = 0
    deviations: Mapping[Point, int] = MappingProxyType({})
    numbered: bool = False

    @property
    def preempts_lines(self) -> bool:
        """True if a deviation preempts a thread before a source line, so that lines have to be choice points in the
        run."""
        return any(point.kind == "thread.line" for point in self.deviations)

    def choices(self) -> Choices:
        """Return new `Choices` for one run of this schedule."""
        return Choices(self.seed, self.decider(), lines=self.preempts_lines, numbered=self.numbered)

    def decider(self) -> Decide:
        """Return a function that answers choice points as this schedule says, and 0 everywhere else. If a point no
        longer has as many answers as the value of its deviation needs, its greatest answer is given."""
        wanted = {tuple(point): value for point, value in self.deviations.items()}

        def decide(who: str, kind: str, number: int, n: int) -> int:
            value = wanted.get((who, kind, number), 0)
            return value if value < n else n - 1

        return decide

    def applied(self, choices: Choices) -> int:
        """Return the number of this schedule's deviations that were made in the run recorded by `choices`."""
        taken = choices.deviations()
        return sum(point in taken for point in self.deviations)
