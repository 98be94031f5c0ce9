"""Making a failing schedule small.

A schedule is simpler than another when it has fewer deviations, and with as many when its answers are
smaller. Every pass keeps this order falling and only ever accepts a schedule that fails in the same way,
so each ends, and the result is one from which no single deviation can be dropped (unless the budget ran
out before).
"""

from __future__ import annotations

from collections.abc import Callable

from simloop.choices import Point, Schedule

#: Runs a schedule: what it actually deviated in when it failed in the same way, None when it did not.
StillFails = Callable[[Schedule], dict[Point, int] | None]

DEFAULT_BUDGET = 500


class Shrinker:
    """Holds the best schedule so far, and the runs that are left."""

    def __init__(self, schedule: Schedule, still_fails: StillFails, budget: int = DEFAULT_BUDGET) -> None:
        self.best = schedule
        self.runs = 0
        self._still_fails = still_fails
        self._budget = budget
        self._tried: set[frozenset[tuple[Point, int]]] = set()

    def shrink(self) -> Schedule:
        self._try({})
        self._drop_chunks()
        self._lower_answers()
        return self.best

    def _try(self, deviations: dict[Point, int]) -> bool:
        key = frozenset(deviations.items())
        if self.runs >= self._budget or key in self._tried:
            return False
        self._tried.add(key)
        self.runs += 1
        taken = self._still_fails(Schedule(self.best.profile, self.best.seed, deviations))
        if taken is None:
            return False
        # What no longer occurs goes too, when the run is the same without it: it is, since it never occurred.
        self.best = Schedule(self.best.profile, self.best.seed, taken)
        return True

    def _drop_chunks(self) -> None:
        """ddmin (Zeller and Hildebrandt, 2002), by halves, down to single deviations."""
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

    def _lower_answers(self) -> None:
        """Smaller answers are earlier or shorter: "one turn later" rather than "after the next timer"."""
        for point in list(self.best.deviations):
            value = self.best.deviations.get(point, 0)
            for lower in range(1, value):
                if self._try({**self.best.deviations, point: lower}):
                    break
