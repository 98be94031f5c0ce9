"""Shrinking: turns a failing schedule into a simpler one that fails in the same way.

A schedule is simpler than another when it has fewer deviations; with as many, when its answers are smaller; and with
equal answers, when they come earlier. Every pass only accepts a simpler schedule that fails in the same way, and passes
are repeated until none finds one. So shrinking ends, its result does not shrink again, and no single deviation can be
dropped from the result (unless the budget ran out before).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from simloop.choices.choices import Choices, Point
from simloop.choices.schedule import Schedule

#: Function that runs a schedule. Returns True if it failed in the same way, and the choices that the run recorded.
StillFails = Callable[[Schedule], tuple[bool, Choices]]

#: A failure with more deviations than this may have a simpler cause than the deviations it was found with.
_FEW = 2
_SINGLES_MAX = 80


class Shrinker:
    """Shrinks one failing schedule, within a budget of runs. `best` is the simplest failing schedule so far.

    `usual_seed` is the seed that the program's own entropy has in most runs of the campaign: it is preferred if the
    failure does not depend on the seed.
    """

    def __init__(
        self,
        schedule: Schedule,
        still_fails: StillFails,
        budget: int,
        usual_seed: int | None = None,
    ) -> None:
        self.best = schedule
        self.runs = 0
        self._still_fails = still_fails
        self._budget = budget
        self._usual_seed = schedule.seed if usual_seed is None else usual_seed
        self._tried: set[tuple[int, frozenset[tuple[Point, int]]]] = set()
        self._canonical: Choices | None = None

    def shrink(self) -> Schedule:
        if self.best.seed != self._usual_seed:
            self._try(self.best.deviations, self._usual_seed)
        self._try({})
        while True:
            before = self.best
            self._drop_chunks()
            if len(self.best.deviations) > _FEW:
                self._replace_all()
            self._lower_answers()
            self._move_earlier()
            if self.best == before:
                return self.best

    def _try(self, deviations: dict[Point, int], seed: int | None = None) -> bool:
        seed = self.best.seed if seed is None else seed
        key = (seed, frozenset(deviations.items()))
        if self.runs >= self._budget or key in self._tried:
            return False
        self._tried.add(key)
        self.runs += 1
        candidate = replace(self.best, seed=seed, deviations=deviations)
        fails, choices = self._still_fails(candidate)
        taken = choices.deviations()
        if not taken:
            self._canonical = choices
        if not fails or len(taken) > len(deviations):
            return False
        # What no longer occurs goes too: the run is the same without it.
        self.best = replace(self.best, seed=seed, deviations=taken)
        return True

    def _drop_chunks(self) -> None:
        """Drop deviations, in chunks that are halved down to single ones, as ddmin does (Zeller and Hildebrandt,
        2002)."""
        size = max(1, len(self.best.deviations) // 2)
        while True:
            points = list(self.best.deviations)
            start = 0
            dropped = False
            while start < len(points):
                kept = {
                    point: value
                    for at, (point, value) in enumerate(self.best.deviations.items())
                    if not start <= at < start + size
                }
                if self.best.deviations and self._try(kept):
                    dropped = True
                    points = list(self.best.deviations)
                else:
                    start += size
            if size > 1:
                size //= 2
            elif not dropped:
                return

    def _replace_all(self) -> None:
        """Look for a single deviation that fails in the same way, to replace all others, such as those of a random
        walk. Kinds with few choice points in a run come first, since they say more about the cause."""
        if self._canonical is None:
            return
        answers = [answer for answer in self._canonical.answers() if answer.n > 1]
        common = Counter(answer.point.kind for answer in answers)
        answers.sort(key=lambda answer: common[answer.point.kind])
        singles = [(answer.point, value) for answer in answers for value in range(1, answer.n)]
        for point, value in singles[:_SINGLES_MAX]:
            if self._try({point: value}):
                return

    def _lower_answers(self) -> None:
        """Lower the answers of deviations: a smaller one means earlier or shorter ("one turn later" rather than "25 ms
        later")."""
        for point in list(self.best.deviations):
            value = self.best.deviations.get(point, 0)
            for lower in range(1, value):
                if self._try({**self.best.deviations, point: lower}):
                    break

    def _move_earlier(self) -> None:
        """Move deviations to earlier choice points of the same name: the first, the one half-way, the one before."""
        for point in list(self.best.deviations):
            value = self.best.deviations.get(point)
            if value is None:
                continue
            for number in sorted({1, point.number // 2, point.number - 1}):
                earlier = point._replace(number=number)
                if not 0 < number < point.number or earlier in self.best.deviations:
                    continue
                moved = {earlier if other == point else other: answer for other, answer in self.best.deviations.items()}
                if self._try(moved):
                    break
