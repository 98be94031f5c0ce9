"""Coincidence walk: makes arrivals from different connections, threads and processes come in the same poll of the event
loop.

Two requests that come while a lock changes its owner, two failures in one loop iteration: such races need arrivals that
are normally far apart to come together exactly. Independent random delays hardly ever do that. Here each source of
arrivals (a connection, thread or process) delays one of its arrivals, all until the same time, from which all continue:
for two sources, any two arrivals coincide with about the same probability, and so do those that follow after the same
number of steps.

In half of the runs all sources are delayed with about as many of their arrivals left, since their last steps are often
the same, after preparations of different lengths. Pairs of arrivals that were late together before are avoided, as in
pairwise testing (Cohen, Dalal, Fredman and Patton, IEEE TSE 1997).

As in PCT (Burckhardt, Kothari, Musuvathi and Nagarakatte, ASPLOS 2010), a run has few places where something changes,
each drawn uniformly from all places. The difference is in the change: not of a priority, but a wait for others, and
each source has its own.
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
    """Strategy of seeded random runs in which arrivals coincide (`simloop.choices.draws.coincidences`), without end.

    Drawn for each run: if a connection is one source of arrivals or each of its directions is; if only arrivals with
    contents are delayed (in two of three runs) or any; and if the arrivals are those of the canonical run, or, for each
    source, of the run so far in which it had most, since the canonical run may end before everything has come.

    The first runs use the canonical run's arrivals, mostly those with contents, and go through the other combinations
    in turn: they find most.
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
