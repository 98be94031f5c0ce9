"""The preemption sweeps: let others go first before each call of each thread and process, or before each line."""

from __future__ import annotations

from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.sweep import Groups, Sweep

PREEMPTIONS = ("thread.switch", "thread.line", "process.switch")
# The one of the answers that lets others end what they do, and no timers of a program's own (`delays.SWITCHES`).
_LONG = 3


class PreemptionSweep(Sweep):
    """Sweep that takes the processor away from each thread and process before each of its calls, once: for as long as
    others need first, for other times then. Few preemptions suffice for most races of threads (Burckhardt, Kothari,
    Musuvathi and Nagarakatte, ASPLOS 2010); here it is one."""

    name = "preemption sweep"
    kinds: tuple[str, ...] = ("thread.switch", "process.switch")

    def rank(self, choices: Choices) -> list[Groups]:
        classes: list[Groups] = [{}, {}]
        for who, kind, number, n, _ in choices.recorded:
            if kind in self.kinds:
                point = Point(who, kind, number)
                classes[0].setdefault(who, []).append((point, _LONG))
                classes[1].setdefault(who, []).extend((point, value) for value in range(1, n) if value != _LONG)
        return classes


class LineSweep(PreemptionSweep):
    """Sweep that does the same before each line of the user's own code, for the tests that ask for that: each line of a
    function in turn, in the first round of a loop before the later ones."""

    name = "line sweep"
    kinds = ("thread.line",)
