"""Coverage of a campaign: how many different runs it has seen, and how many it probably has not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from simloop.choices.choices import Point

if TYPE_CHECKING:
    from simloop.choices.choices import Choices


class Coverage:
    """Record of the runs of a campaign, by their happens-before fingerprints: how many were new, and how likely it is
    that the next one is new. `before` are the fingerprints of campaigns before, which are not new.

    >>> import asyncio, simloop
    >>> async def main():
    ...     await asyncio.gather(*(asyncio.to_thread(int) for _ in range(2)))
    >>> coverage = simloop.explore(main, runs=50).coverage
    >>> coverage.runs, coverage.distinct <= 50, 0 <= coverage.unseen <= 1
    (50, True, True)
    """

    def __init__(self, before: Collection[int] = ()) -> None:
        #: Number of runs.
        self.runs = 0
        self._before = before
        self._times: Counter[int] = Counter()
        #: The number of each run that was new.
        self._new: list[int] = []
        self._untouched: set[tuple[str, str, int]] | None = None
        self._unraced: set[str] = set()

    def add(self, fingerprint: int, choices: Choices) -> None:
        """Add a run, by its fingerprint and choices."""
        self.runs += 1
        self._times[fingerprint] += 1
        if self._times[fingerprint] == 1 and fingerprint not in self._before:
            self._new.append(self.runs)
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
        """Number of distinct runs."""
        return len(self._times)

    @property
    def fingerprints(self) -> Iterable[int]:
        """Fingerprints of all runs."""
        return self._times.keys()

    @property
    def new(self) -> int:
        """Number of distinct runs that no campaign before had."""
        return len(self._new)

    @property
    def last(self) -> int:
        """Number of runs in the last tenth of the campaign."""
        return -(-self.runs // 10)

    @property
    def new_in_last(self) -> int:
        """Number of runs in the last tenth of the campaign that were new."""
        begin = self.runs - self.last
        return sum(number > begin for number in reversed(self._new))

    @property
    def unseen(self) -> float:
        """Estimate of the probability that one more run would be a new one, from 0 to 1: the part of the runs that were
        seen once (Good, Biometrika 1953, after Turing; STADS, Böhme, TOSEM 2018, for testing). It supposes that runs
        are drawn independently, which walks are, and sweeps are not."""
        once = sum(times == 1 and number not in self._before for number, times in self._times.items())
        return once / self.runs if self.runs else 1.0

    @property
    def never_deviated(self) -> list[Point]:
        """Choice points of the first run at which no run has deviated."""
        return sorted(Point(*point) for point in self._untouched or ())

    @property
    def never_raced(self) -> list[str]:
        """Names of the sources that no run has disturbed: connections, threads, timers and tasks of the first run at
        none of whose choice points any run has deviated."""
        return sorted(self._unraced)

    def __repr__(self) -> str:
        return (
            f"Coverage({self.runs} runs, {self.distinct} distinct, {self.new_in_last} new of the last {self.last}, "
            f"{self.unseen:.0%} unseen, {len(self._untouched or ())} points never deviated at)"
        )
