"""The preemption sweep: lets others go first before each call of each thread in turn."""

from __future__ import annotations

from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.sweep import Groups, Sweep

PREEMPTIONS = ("thread.switch",)
# The one of the answers that lets others end what they do, and no timers of a program's own (`delays.SWITCHES`).
_LONG = 3


class PreemptionSweep(Sweep):
    """Sweep that takes the processor away from each thread before each of its calls, once: for as long as others need
    first, for other times then. Few preemptions suffice for most races of threads (Burckhardt, Kothari, Musuvathi and
    Nagarakatte, ASPLOS 2010); here it is one."""

    name = "preemption sweep"

    def rank(self, choices: Choices) -> list[Groups]:
        classes: list[Groups] = [{}, {}]
        for who, kind, number, n, _ in choices.recorded:
            if kind in PREEMPTIONS:
                point = Point(who, kind, number)
                classes[0].setdefault(who, []).append((point, _LONG))
                classes[1].setdefault(who, []).extend((point, value) for value in range(1, n) if value != _LONG)
        return classes
