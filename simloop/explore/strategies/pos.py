"""POS (partial order sampling): random runs in which each arrival has a priority of its own, by which it is delayed.

"Partial Order Aware Concurrency Sampling" (Yuan, Yang and Gu, CAV 2018) draws a priority for each event, always takes
the highest one, and redraws those of the events that race with it, so that partial orders, rather than interleavings,
are sampled evenly. Here arrivals are the events: each is delayed by zero to three iterations of the event loop or by 25
ms or more, with equal probabilities and independently. The difference from the paper: nothing is redrawn, since only
the program knows which arrivals race.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.choices.draws import drawer
from simloop.choices.lateness import LATE
from simloop.explore.strategies.arrivals import TURNS, SourceWalk

if TYPE_CHECKING:
    from simloop.choices.choices import Decide


class POS(SourceWalk):
    """Strategy of seeded random runs in which each arrival has a random delay, drawn independently of the others."""

    name = "pos"
    number = 7

    def walk(self, seed: int) -> Decide:
        below = drawer(seed)

        def decide(who: str, kind: str, number: int, n: int) -> int:
            if n <= LATE.get(kind, n):
                return 0
            turns = below(TURNS + 2)
            return turns if turns <= TURNS else LATE[kind]

        return decide
