"""SURW (selectively uniform random walk): random runs in which an arrival is the later, the fewer arrivals its source
has left.

"Selectively Uniform Concurrency Testing" (Zhao, Wolff, Mathur and Roychoudhury, ASPLOS 2025) takes the next step from
each thread with a probability in proportion to the number of steps that it has left, so that all interleavings are
equally likely; among a few selected events, if there are too many. Here sources of arrivals (connections, threads,
processes) are the threads, arrivals are the selected events, and the canonical run says how many there are. The number
of other arrivals that come before one is then drawn: with r arrivals left in its source of R in all, each other one
goes first with probability 1 - r/R. The difference from the paper: an arrival does not wait for so many others, but for
as many iterations of the event loop, up to three, and for larger numbers by 25 ms or more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.choices.draws import drawer
from simloop.choices.lateness import LATE
from simloop.explore.strategies.arrivals import TURNS, SourceWalk

if TYPE_CHECKING:
    from simloop.choices.choices import Decide

# Draws are whole numbers below this.
_FINE = 1 << 30


class SURW(SourceWalk):
    """Strategy of seeded random runs in which an arrival is the later, the fewer arrivals its source (a connection,
    thread or process) has left."""

    name = "surw"
    number = 8

    def walk(self, seed: int) -> Decide:
        below = drawer(seed)
        sources = self.one_way or {}
        left = {source: len(points) for source, points in sources.items()}
        source_of = {point: source for source, points in sources.items() for point in points}
        total = sum(left.values())

        def decide(who: str, kind: str, number: int, n: int) -> int:
            nonlocal total
            source = source_of.get((who, kind, number))
            if source is None or n <= LATE[kind]:
                return 0
            going = _FINE * left[source] // total
            left[source] -= 1
            total -= 1
            for turns in range(TURNS + 1):
                if below(_FINE) < going:
                    return turns
            return LATE[kind]

        return decide
