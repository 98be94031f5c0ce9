"""Timeout sweep: makes timers due just around the arrivals that they race."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, zip_longest

from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.sweep import Candidate, Groups, Sweep

#: The kinds of points at which a timer meets an arrival, or another timer.
RACES = ("net.race", "thread.race", "timer.tie", "poll.late", "cpu.stall")
_SLOW = "cpu.stall"
# So many runs come before those with a slow step: that something was late says more of a cause.
_FIRST = 3


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
            if kind in RACES:
                group = classes[kind == _SLOW].setdefault(who, [])
                group += [(Point(who, kind, number), value) for value in range(1, n)]
        return classes

    def runs(self, classes: list[Groups], left: int) -> Iterator[tuple[Candidate, ...]]:
        if not classes:
            return
        late, slow = (super(TimeoutSweep, self).runs([groups], left // 2) for groups in classes)
        yield from islice(late, _FIRST)
        for both in zip_longest(slow, late):
            yield from (deviations for deviations in both if deviations is not None)
