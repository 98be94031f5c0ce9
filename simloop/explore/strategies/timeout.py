"""Timeout sweep: makes timers expire just before, with, or just after the arrivals that they race with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, zip_longest

from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.sweep import Candidate, Groups, Sweep

#: Kinds of choice points at which a timer may expire together with an arrival, or with another timer.
RACES = ("net.race", "thread.race", "timer.tie", "poll.late", "cpu.stall")
_SLOW = "cpu.stall"
# So many runs come before those with a slow step: that something was late says more of a cause.
_FIRST = 3


class TimeoutSweep(Sweep):
    """Sweep that makes each armed timer expire just before, together with, and just after each arrival that it races
    with.

    For the first two, the arrival is delayed, as far as its link or thread allows; for the last, virtual time passes
    while callbacks are ready, as far as `max_stall` allows. Two timers expire together when a poll returns late.
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
