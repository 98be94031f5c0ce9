"""Timeout sweep: makes timers due just around the arrivals that they race."""

from __future__ import annotations

from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.sweep import Groups, Sweep

# The kinds of points at which an arrival meets a timer, by the class in which the timeout sweep tries them.
RACES = {"net.race": 0, "thread.race": 0, "timer.tie": 0, "poll.late": 0, "cpu.stall": 1}


class TimeoutSweep(Sweep):
    """Sweep that makes each armed timer due just before, with and just after each arrival that it races.

    Just before the arrival and together with it: the arrival is late, as far as its link or thread allows. After:
    virtual time passes while callbacks are ready, as far as `max_stall` allows. Timers meet each other when a poll
    returns late.
    """

    name = "timeout sweep"

    def rank(self, choices: Choices) -> list[Groups]:
        classes: list[Groups] = [{}, {}]
        for who, kind, number, n, _ in choices.recorded:
            which = RACES.get(kind)
            if which is not None:
                group = classes[which].setdefault(who, [])
                group += [(Point(who, kind, number), value) for value in range(1, n)]
        return classes
