"""Coincidence walk: lets arrivals of different connections, threads and processes meet in one poll.

Two requests that meet while a lock is between its owners, two failures in one turn: such races need arrivals that are
far from one another to come together, to a turn. Independent delays get there by luck. Here each source of arrivals is
late at one of its arrivals, and all by the same time, from which all continue: of two sources any two arrivals
meet with about the same probability, and whatever comes the same number of steps after them does, too.

In half of the runs all sources are late with about as many of their arrivals left, since what they do last is often
the same, after preparations of different lengths. Pairs of arrivals that were late together already are avoided, as in
pairwise testing (Cohen, Dalal, Fredman and Patton, IEEE TSE 1997).

As in PCT (Burckhardt, Kothari, Musuvathi and Nagarakatte, ASPLOS 2010), a run has few places where something changes,
each drawn uniformly from all places. It departs from PCT in what changes: there is no priority, but a wait for others,
and each source has its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.choices.draws import coincidences, drawer
from simloop.choices.lateness import LATE
from simloop.explore.strategies.arrivals import Sources, SourceWalk, has_contents, sources_of

if TYPE_CHECKING:
    from simloop.choices.choices import Choices, Decide
    from simloop.choices.lateness import Arrival

# Number of the first runs of a walk that are plain ones.
_PLAIN = 8
# Of how many sources the longest run is known.
_SOURCES_MAX = 1000


class CoincidenceWalk(SourceWalk):
    """Strategy of seeded random runs in which arrivals meet (`simloop.choices.draws.coincidences`), without end.

    Drawn for each run: connections are sources, or each of their two directions; arrivals are those with contents, in
    four of five runs, or all; and they are those of the canonical run, or of the run so far in which the source had
    most, since the canonical run may end before things come that come as long as others are late.

    The first runs are plain ones, which find most: each source is late once, at an arrival with contents. They take
    turns in what is drawn otherwise, both ways of a connection together or each by itself, alike or any.
    """

    name = "coincidence walk"
    number = 3

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._longest: tuple[Sources, Sources] = {}, {}
        self._full: set[Arrival] = set()
        self._seen: set[tuple[Arrival, Arrival]] = set()

    def walk(self, seed: int) -> Decide:
        below = drawer(seed)
        plain = self._made <= _PLAIN
        sources = (self.one_way or {}, self.both_ways) if plain or below(2) else self._longest
        drawn = list(sources[self._made // 2 % 2 if plain else below(2)].values())
        if self._made % 4 if plain else below(3):
            drawn = [full for points in drawn if (full := [point for point in points if point in self._full])]
        return coincidences(seed, drawn, self._seen, self._made % 2 == 1 if plain else None)

    def observe(self, choices: Choices, failed: bool) -> None:
        super().observe(choices, failed)
        if self.is_empty:
            return
        for longest, sources in zip(self._longest, sources_of(choices), strict=True):
            for source, points in sources.items():
                if len(points) > len(longest.get(source, ())) and len(longest) < _SOURCES_MAX:
                    longest[source] = points
        self._full |= {
            (who, kind, number)
            for who, kind, number, n, _ in choices.recorded
            if kind in LATE and has_contents(kind, n)
        }
