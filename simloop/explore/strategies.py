"""How the next schedule to try is picked.

A strategy is one method to say what to run next and one to hear what came of it; the campaign knows nothing
else of it. Here are the general ones; the sweeps are in `sweeps.py`, and enumeration in `enumeration.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

from simloop.choices import Choices, Decide, Point, Schedule, random_walk

# The numbers in the name of a point: the how-manieth task, wait, connection or packet of that name.
_NUMBERS = re.compile(r"(?<=[#<>])\d+")


@dataclass(frozen=True)
class Plan:
    """Proposal of a run to make."""

    #: Seed of the program's own entropy.
    seed: int
    #: Answers the choice points: ``decide(who, kind, number, n)`` returns a value in ``range(n)``. None for the
    #: canonical run, in which all answers are 0.
    decide: Decide | None


class Strategy(Protocol):
    """Protocol of a strategy, which proposes runs one after another."""

    #: Name that the report calls it by.
    name: str

    def plan(self) -> Plan | None:
        """Return the next run to make, or None when this strategy has nothing more to try."""

    def observe(self, choices: Choices, failed: bool) -> None:
        """Hear what a run of the campaign recorded, whichever strategy proposed it, and if it failed."""


class Canonical:
    """The one run in which nothing unusual happens. Every campaign begins with it."""

    name = "canonical run"

    def __init__(self, seed: int) -> None:
        self._plan: Plan | None = Plan(seed, None)

    def plan(self) -> Plan | None:
        plan, self._plan = self._plan, None
        return plan

    def observe(self, choices: Choices, failed: bool) -> None:
        pass


class Saved:
    """Failures of earlier campaigns. An edit may have moved one: where a schedule no longer applies in full, or
    passes, the points that look like its own are tried too."""

    name = "saved failure"

    #: How many neighbours of one saved failure are tried.
    NEIGHBOURS = 24

    def __init__(self, schedules: Sequence[Schedule]) -> None:
        self._waiting = list(schedules)
        self._running: Schedule | None = None
        self._neighbours: list[Schedule] = []

    def plan(self) -> Plan | None:
        self._running = None
        if self._neighbours:
            schedule = self._neighbours.pop(0)
        elif self._waiting:
            schedule = self._running = self._waiting.pop(0)
        else:
            return None
        return Plan(schedule.seed, schedule.decider())

    def observe(self, choices: Choices, failed: bool) -> None:
        if self._running is not None and not failed:
            self._neighbours = neighbours(self._running, choices)[: self.NEIGHBOURS]


def neighbours(schedule: Schedule, choices: Choices) -> list[Schedule]:
    """`schedule` with one deviation moved to another point of the same kind whose name differs in numbers
    alone, or in the number of the point, or with another answer (which timer an arrival meets is a number too); the
    nearest first. `choices` is a run of it."""
    offered = [answer for answer in choices.answers() if answer.n > 1]
    moved: list[tuple[int, Schedule]] = []
    for point, value in schedule.deviations.items():
        rest = {other: answer for other, answer in schedule.deviations.items() if other != point}
        for candidate in offered:
            if candidate.point in rest:
                continue
            distance = 0 if candidate.point == point else _distance(point, candidate.point)
            if not distance and candidate.point != point:
                continue
            for answer in range(1, candidate.n):
                if candidate.point != point or answer != value:
                    deviations = {**rest, candidate.point: answer}
                    moved.append(
                        (distance + abs(answer - value), Schedule(schedule.profile, schedule.seed, deviations))
                    )
    moved.sort(key=lambda entry: entry[0])
    return [candidate for _, candidate in moved]


def _distance(left: Point, right: Point) -> int:
    """How far apart the numbers of two points are whose names agree otherwise; 0 for other points."""
    if left.kind != right.kind or _bare(left.who) != _bare(right.who):
        return 0
    distance = abs(left.number - right.number)
    a, b = (_NUMBERS.findall(point.who) for point in (left, right))
    for one, other in zip_longest(a, b, fillvalue="1"):
        distance += 2 * abs(int(one) - int(other))
    return distance


def _bare(who: str) -> str:
    return _NUMBERS.sub("", who).replace("#", "")


class Walk:
    """A seeded random walk over all choice points (`simloop.choices.random_walk`), without end. How many
    points of each kind to expect it learns from the runs before."""

    name = "random walk"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._typical: Counter[str] = Counter()

    def plan(self) -> Plan | None:
        self._seed += 1
        return Plan(self._seed, random_walk(self._seed, self._typical))

    def observe(self, choices: Choices, failed: bool) -> None:
        # The most that a run had: runs that end early must not make the next ones wilder.
        self._typical |= Counter(kind for _, kind, _, n, _ in choices.recorded if n > 1)
