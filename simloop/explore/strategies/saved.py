"""Strategy that repeats the failures saved by earlier campaigns, and tries similar schedules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from simloop.choices.schedule import Schedule
from simloop.choices.who import Who
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from simloop.choices.choices import Choices, Point


class Saved:
    """Strategy that tries the schedules of saved failures. Since a change of the program may have moved a failure,
    similar schedules (`neighbours`) are tried too if a saved one passes now."""

    name = "saved failure"

    #: Maximum number of similar schedules that are tried for one saved failure.
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
    """Return variants of `schedule` in which one deviation differs: by its answer, or by being at another choice point
    of the same kind, whose name is the same but for numbers in it. The most similar come first. `choices` is what a run
    of `schedule` recorded."""
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
    """Return by how much the numbers in the names of two choice points differ; 0 for points that differ in more than
    numbers, which nothing is to be compared by."""
    one, other = Who(left.who), Who(right.who)
    if left.kind != right.kind or one.name != other.name:
        return 0
    distance = abs(left.number - right.number)
    for mine, theirs in zip_longest(one.numbers, other.numbers, fillvalue=1):
        distance += 2 * abs(mine - theirs)
    return distance
