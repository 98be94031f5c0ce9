"""The coincidence walk: lets arrivals of different connections, threads and processes meet in one poll.

Two requests that meet while a lock is between its owners, two failures in one turn: such races need arrivals that are
far from one another to come together, to a turn. Independent delays get there by luck. Here each source of arrivals is
late at one of its arrivals, and all by the same time, from which they go on together: of two sources any two arrivals
meet with about the same probability, and whatever comes the same number of steps after them does, too.

As in PCT (Burckhardt, Kothari, Musuvathi and Nagarakatte, ASPLOS 2010), a run has few places where something changes,
each drawn uniformly from all places. It departs from PCT in what changes: there is no priority, but a wait for others,
and each source has its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.choices.draws import coincidences, drawer
from simloop.explore.strategies.arrivals import SourceWalk

if TYPE_CHECKING:
    from simloop.choices.choices import Decide


class CoincidenceWalk(SourceWalk):
    """Strategy of seeded random runs in which arrivals meet (`simloop.choices.draws.coincidences`), without end.
    Connections are sources in half of the runs, and each of their two directions in the others."""

    name = "coincidence walk"
    number = 3

    def walk(self, seed: int) -> Decide:
        sources = self.one_way if drawer(seed)(2) else self.both_ways
        return coincidences(seed, (sources or {}).values())
