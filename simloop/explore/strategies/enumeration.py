"""Enumeration of every schedule of a test, where there are few."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from simloop.choices.choices import Choices, Point
from simloop.choices.schedule import Schedule
from simloop.explore.strategies.base import Plan

Deviations = tuple[tuple[Point, int], ...]


class Enumeration:
    """Strategy that tries all schedules, those with fewer deviations first (delay-bounded search: Emmi, Qadeer and
    Rakamaric, POPL 2011), as long as all that is known to be left fits into the budget.

    Every schedule is reached once: by adding a deviation to one that it extends, at a point after that
    one's last. `left` says how many runs the campaign still has.
    """

    name = "enumeration"

    def __init__(self, seed: int, left: Callable[[], int]) -> None:
        self._seed = seed
        self._left = left
        self._waiting: deque[Deviations] = deque([()])
        self._expanded: set[Deviations] = set()
        #: What other strategies have run already: there is no need to run it again.
        self._known: dict[Deviations, Choices] = {}
        self._given_up = False

    @property
    def covered(self) -> int:
        """Number of schedules that were tried, when there are no others; else 0."""
        return 0 if self._given_up or self._waiting else len(self._expanded)

    def plan(self) -> Plan | None:
        self._expand_known()
        if not self._waiting:
            return None
        if self._given_up or len(self._waiting) > self._left():
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
        if taken not in self._expanded:
            self._known[taken] = choices
        self._expand_known()

    def _expand_known(self) -> None:
        while self._waiting and self._waiting[0] in self._known:
            deviations = self._waiting.popleft()
            choices = self._known.pop(deviations)
            self._expanded.add(deviations)
            self._waiting.extend(_extensions(deviations, choices))
            if len(self._waiting) > self._left():
                self._give_up()

    def _give_up(self) -> None:
        self._given_up = True
        self._waiting.clear()
        self._known.clear()
        self._expanded.clear()


def _extensions(deviations: Deviations, choices: Choices) -> list[Deviations]:
    """Return all schedules with one deviation more, later than those that there are."""
    answers = choices.answers()
    start = 0
    if deviations:
        last = deviations[-1][0]
        start = 1 + next(at for at, answer in enumerate(answers) if answer.point == last)
    return [(*deviations, (answer.point, value)) for answer in answers[start:] for value in range(1, answer.n)]
