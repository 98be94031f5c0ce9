"""Mutation strategy: makes small changes to schedules whose runs reached something new.

A race that needs five things one after the other is not found by drawing all five at once. If each of them reaches
something new, a schedule with the first is kept, and changed into one with the second too, and so on. As in Fest (Li,
Desai and Padhye, "Feedback-guided Adaptive Testing of Distributed Systems Designs", NSDI 2026; Fray has it for Java),
which took this from fuzzers to schedules, a run is judged by its timeline: which events come right after which others.
A schedule is kept if its run has pairs of events that no earlier run had, and is changed the more often, the more of
them it has. The number of changes is drawn from a geometric distribution, as in Fest.

The difference from Fest is in what is changed: not a list of all random numbers of a run, but the few answers that
deviate, each at a choice point with a name of its own. So a change stays where it was made, even if others come before
it. Events are choice points, since each send, connect or end has one; and the number of times that a pair of them
occurs counts, as in AFL (Zalewski, 2013): a second round is something new after the first. The program may say itself
what is worth reaching (`Sim.sometimes`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simloop.choices.choices import Point
from simloop.choices.draws import drawer, shuffler
from simloop.choices.lateness import LATE
from simloop.choices.schedule import Schedule
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from simloop.choices.choices import Choices

Pair = tuple[tuple[str, str], tuple[str, str], int]
"""Two events, each by who and kind, and how often the one came right after the other."""

#: Maximum number of schedules that are kept.
KEPT_MAX = 100
# So many changes are made at most, and one more with a probability of 2 in 3.
_CHANGES_MAX = 30
# Of so many points at most it is remembered that they can be changed; of longer runs a sample is.
_POINTS_MAX = 1000
# Exact up to this number: more occurrences of a pair are alike if they have as many binary digits.
_OFTEN = 16
# A condition that the program names is worth so many pairs.
_NAMED = 30
# So many pairs are remembered. From then on nothing is new.
_PAIRS_MAX = 500_000


@dataclass
class Kept:
    """Schedule that the mutation strategy keeps and changes. `points` are the choice points of its run, each with its
    number of answers; `new` is the number of pairs of consecutive events that its run was the first to have, and more
    if it was the first to meet a condition of `Sim.sometimes`."""

    schedule: Schedule
    points: list[tuple[Point, int]]
    new: int
    #: Number of times that it was changed.
    used: int = 0


class Mutation:
    """Strategy that changes schedules whose runs have reached something new, whichever strategy proposed them, without
    end. `corpus` are schedules that earlier campaigns have kept: every other run repeats one of them, until each was
    run once, and it is kept again if its run still reaches something that no other run did."""

    name = "mutation"
    number = 7

    def __init__(self, seed: int, corpus: Iterable[Schedule] = ()) -> None:
        self._seed = seed
        self._made = 0
        self._seen: set[Pair] = set()
        self._met: set[str] = set()
        #: Schedules that were kept in this campaign.
        self.kept: list[Kept] = []
        #: Schedules of earlier campaigns that were not run in this one yet.
        self.waiting: deque[Schedule] = deque(corpus)

    def plan(self) -> Plan | None:
        self._made += 1
        if self.waiting and (self._made % 2 or not self.kept):
            schedule = self.waiting.popleft()
        elif self.kept:
            schedule = self._changed(drawer(self._seed, self._made, self.number))
        else:
            return None
        return Plan(schedule.seed, schedule.decider())

    def _changed(self, below: Callable[[int], int]) -> Schedule:
        """Return the schedule whose turn it is with one or more changes: a deviation is left out, added, or replaced by
        another. ``below(n)`` draws a number from 0 to n - 1."""
        kept = min(self.kept, key=lambda kept: kept.used / kept.new)
        kept.used += 1
        deviations = dict(kept.schedule.deviations)
        for _ in range(_CHANGES_MAX):
            leaves_out = deviations and below(5) < 2
            if leaves_out:
                del deviations[list(deviations)[below(len(deviations))]]
            if not leaves_out or below(2):
                point, n = kept.points[below(len(kept.points))]
                meets = n > LATE.get(point.kind, n) and below(10) < 7
                deviations[point] = LATE[point.kind] if meets else 1 + below(n - 1)
            if not below(3):
                break
        return Schedule(seed=kept.schedule.seed, deviations=deviations)

    def corpus(self) -> list[Schedule]:
        """Return the schedules for a later campaign to start from: those of earlier campaigns that were not run in this
        one, then those kept in this one, with the most new pairs of events first. The canonical one is left out."""
        kept = sorted(self.kept, key=lambda kept: -kept.new)
        return [*self.waiting, *(kept.schedule for kept in kept if kept.schedule.deviations)]

    def observe(self, choices: Choices, failed: bool) -> None:
        if failed or len(self._seen) > _PAIRS_MAX:
            return
        points = [(Point(who, kind, number), n) for who, kind, number, n, _ in choices.recorded if n > 1]
        new = timeline(choices) - self._seen
        met = {name for name, met in choices.sometimes.items() if met} - self._met
        if not points or not (new or met):
            return
        self._seen |= new
        self._met |= met
        worth = len(new) + _NAMED * len(met)
        if len(points) > _POINTS_MAX:
            points = shuffler(self._seed)(points)[:_POINTS_MAX]
        self.kept.append(Kept(Schedule(seed=choices.seed, deviations=choices.deviations()), points, worth))
        if len(self.kept) > KEPT_MAX:
            self.kept.remove(min(self.kept, key=lambda kept: kept.new))


def timeline(choices: Choices) -> set[Pair]:
    """Return the pairs of consecutive events in a run, each with its number of occurrences, rounded if it is large."""
    often: Counter[tuple[tuple[str, str], tuple[str, str]]] = Counter()
    before = ("", "")
    for who, kind, _, _, _ in choices.recorded:
        event = (who, kind)
        often[before, event] += 1
        before = event
    return {
        (one, other, times if times < _OFTEN else _OFTEN * times.bit_length()) for (one, other), times in often.items()
    }
