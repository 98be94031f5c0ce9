"""PCT (probabilistic concurrency testing): sources of arrivals (connections, threads, processes) have priorities, which
change at a few places of a run.

"A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (Burckhardt, Kothari, Musuvathi, Nagarakatte,
ASPLOS 2010) gives each thread a random priority, always runs the highest one, and at d - 1 steps, drawn from all steps,
lowers the running thread's below all others: a bug of depth d is found with a probability of at least 1 / (n *
k**(d-1)) for n threads and k steps. Here sources of arrivals are the threads, and their arrivals the steps, fewer than
the steps of a run. The difference from the paper: no arrival waits until others are done; a lower priority is a longer
delay, by up to three iterations of the event loop, and the lowest one a delay of 25 ms or more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.choices.draws import drawer
from simloop.choices.lateness import LATE
from simloop.explore.strategies.arrivals import TURNS, SourceWalk

if TYPE_CHECKING:
    from simloop.choices.choices import Decide

# The d of the paper: bugs of this depth are looked for. Each run has one priority change less.
_DEPTH = 3


class PCT(SourceWalk):
    """Strategy of seeded random runs in which each source (a connection, thread or process) has a priority, by which
    its arrivals are delayed, and a few arrivals lower the priority of their source."""

    name = "pct"
    number = 6

    def walk(self, seed: int) -> Decide:
        below = drawer(seed)
        sources = list((self.one_way or {}).items())
        ranks: list[int] = []
        for count in range(len(sources)):
            ranks.insert(below(count + 1), count)
        turns = {
            point: rank * (TURNS + 1) // len(sources)
            for rank, (_, points) in zip(ranks, sources, strict=True)
            for point in points
        }
        source_of = {point: at for at, (_, points) in enumerate(sources) for point in points}
        arrivals = list(turns)
        changes = {arrivals[below(len(arrivals))] for _ in range(_DEPTH - 1)} if arrivals else set()
        lowered: set[int] = set()

        def decide(who: str, kind: str, number: int, n: int) -> int:
            point = (who, kind, number)
            if point not in turns:
                return 0
            if point in changes:
                lowered.add(source_of[point])
            value = LATE[kind] if source_of[point] in lowered else turns[point]
            return value if value < n else 0

        return decide
