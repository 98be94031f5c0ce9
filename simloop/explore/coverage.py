"""Coverage of a campaign: how many different runs it has made, and how likely it is that there are others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from simloop.choices.choices import Point

if TYPE_CHECKING:
    from simloop.choices.choices import Choices


class Coverage:
    """Record of the runs of a campaign by their fingerprints (hashes of what happened, regardless of times): how many
    were new, and how likely it is that the next one is new. `before` are the fingerprints of earlier campaigns' runs,
    which do not count as new.

    >>> import asyncio, simloop
    >>> async def main():
    ...     await asyncio.gather(*(asyncio.to_thread(int) for _ in range(2)))
    >>> coverage = simloop.explore(main, runs=50).coverage
    >>> coverage.runs, coverage.distinct <= 50, 0 <= coverage.unseen <= 1
    (50, True, True)
    """

    def __init__(self, before: Collection[int] = ()) -> None:
        #: Number of runs recorded.
        self.runs = 0
        self._before = before
        self._times: Counter[int] = Counter()
        #: Numbers of the new runs, counted from 1.
        self._new: list[int] = []
        #: Number of runs that have met each condition of `Sim.sometimes`, by name.
        self.sometimes: Counter[str] = Counter()
        self._untouched: set[tuple[str, str, int]] | None = None
        self._unraced: set[str] = set()

    def add(self, fingerprint: int, choices: Choices) -> None:
        """Record a run, given by its fingerprint and choices."""
        self.runs += 1
        self._times[fingerprint] += 1
        if self._times[fingerprint] == 1 and fingerprint not in self._before:
            self._new.append(self.runs)
        for name, met in choices.sometimes.items():
            self.sometimes[name] += met
        if self._untouched is None:
            self._untouched = {(who, kind, number) for who, kind, number, n, _ in choices.recorded if n > 1}
            self._unraced = {who for who, _, _ in self._untouched}
        if self._untouched:
            for who, kind, number, _, value in choices.recorded:
                if value:
                    self._untouched.discard((who, kind, number))
                    self._unraced.discard(who)

    @property
    def distinct(self) -> int:
        """Number of distinct runs, by fingerprint."""
        return len(self._times)

    @property
    def fingerprints(self) -> Iterable[int]:
        """Fingerprints of all runs, without repetitions."""
        return self._times.keys()

    @property
    def new(self) -> int:
        """Number of distinct runs that no earlier campaign has made."""
        return len(self._new)

    @property
    def last(self) -> int:
        """Number of runs in the last tenth of the campaign, rounded up."""
        return -(-self.runs // 10)

    @property
    def new_in_last(self) -> int:
        """Number of new runs in the last tenth of the campaign."""
        begin = self.runs - self.last
        return sum(number > begin for number in reversed(self._new))

    @property
    def unseen(self) -> float:
        """Estimated probability, from 0 to 1, that one more run would be a new one: the fraction of runs that were seen
        once (Good, Biometrika 1953, after Turing; STADS, Böhme, TOSEM 2018, for testing). The estimate assumes that
        runs are drawn independently, which holds for random walks but not for sweeps."""
        once = sum(times == 1 and number not in self._before for number, times in self._times.items())
        return once / self.runs if self.runs else 1.0

    @property
    def never_deviated(self) -> list[Point]:
        """Choice points of the first run whose answer was the default in every run."""
        return sorted(Point(*point) for point in self._untouched or ())

    @property
    def never_raced(self) -> list[str]:
        """Names of the connections, threads, timers and tasks of the first run whose choice points all got the default
        answer in every run."""
        return sorted(self._unraced)

    def __repr__(self) -> str:
        return (
            f"Coverage({self.runs} runs, {self.distinct} distinct, {self.new_in_last} new of the last {self.last}, "
            f"{self.unseen:.0%} unseen, {len(self._untouched or ())} points never deviated at)"
        )
