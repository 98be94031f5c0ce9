"""Enumeration of all schedules of a test, if there are few enough."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from math import prod

from simloop.choices.choices import Choices, Point
from simloop.choices.lateness import ENDS
from simloop.choices.schedule import Schedule
from simloop.choices.who import Who
from simloop.explore.strategies.base import Plan

Deviations = tuple[tuple[Point, int], ...]


class Enumeration:
    """Strategy that tries all schedules, those with fewer deviations first (delay-bounded search: Emmi, Qadeer and
    Rakamaric, POPL 2011). It gives up when more schedules are known than runs are left in the budget, which `left`
    returns.

    Each schedule is reached once: by adding its last deviation to the schedule without it.
    """

    name = "enumeration"

    def __init__(self, seed: int, left: Callable[[], int]) -> None:
        self._seed = seed
        self._left = left
        self._waiting: deque[Deviations] = deque([()])
        self._expanded: set[Deviations] = set()
        #: Choices of runs that other strategies have made already, and that need not be repeated, by their deviations.
        self._known: dict[Deviations, Choices] = {}
        self._given_up = False
        self._estimate = 0

    @property
    def seems_to_fit(self) -> bool:
        """True while all schedules seem to fit into the budget, estimated from the choice points of the canonical
        run."""
        return not self._given_up and self._estimate <= self._left() + len(self._expanded) + len(self._known)

    @property
    def covered(self) -> int:
        """Number of all schedules, if every one of them was tried; else 0."""
        return 0 if self._given_up or self._waiting else len(self._expanded)

    @property
    def _missing(self) -> int:
        """Number of schedules that are still to be run: those queued, except for those that were run already."""
        return len(self._waiting) - len(self._known)

    def plan(self) -> Plan | None:
        self._expand_known()
        if not self._waiting:
            return None
        if self._given_up or self._missing > self._left():
            self._give_up()
            return None
        return Plan(self._seed, Schedule(seed=self._seed, deviations=dict(self._waiting[0])).decider())

    def observe(self, choices: Choices, failed: bool) -> None:
        if self._given_up:
            return
        if choices.seed != self._seed:
            return
        if choices.drew_entropy:
            # Then there is more to vary than the order: the space is not small.
            self._give_up()
            return
        taken = tuple(choices.deviations().items())
        if not taken:
            self._estimate = _estimate(choices)
        if taken not in self._expanded:
            self._known[taken] = choices
        self._expand_known()

    def _expand_known(self) -> None:
        while self._waiting and self._waiting[0] in self._known:
            deviations = self._waiting.popleft()
            choices = self._known.pop(deviations)
            self._expanded.add(deviations)
            self._waiting.extend(_extensions(deviations, choices))
            if self._missing > self._left():
                self._give_up()

    def _give_up(self) -> None:
        self._given_up = True
        self._waiting.clear()
        self._known.clear()
        self._expanded.clear()


def _estimate(choices: Choices) -> int:
    """Return the number of schedules if every run had the choice points of the canonical run `choices`. Cancellations
    and the like, which end something, are counted as happening at most once for each task."""
    product = 1
    ends: Counter[str] = Counter()
    for who, kind, _, n, _ in choices.recorded:
        if kind in ENDS:
            ends[f"{kind} {Who(who).task}"] += n - 1
        else:
            product *= n
    return product * prod(1 + count for count in ends.values())


def _extensions(deviations: Deviations, choices: Choices) -> list[Deviations]:
    """Return all schedules with one deviation more than `deviations`, at a later choice point of `choices`, the run of
    `deviations`."""
    answers = choices.answers()
    start = 0
    if deviations:
        last = deviations[-1][0]
        start = 1 + next(at for at, answer in enumerate(answers) if answer.point == last)
    return [(*deviations, (answer.point, value)) for answer in answers[start:] for value in range(1, answer.n)]
