"""Sweeps over preemptions: each run preempts one thread or process once or twice, before one of its system calls or one
source line, until each was tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest

from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.sweep import Candidate, Groups, Sweep

PREEMPTIONS = ("thread.switch", "thread.line", "process.switch")
# The longest of the answers, which lets others end what they do, and timers come (`delays.SWITCHES`).
_LONG = 5


class PreemptionSweep(Sweep):
    """Sweep in which each run preempts one thread or process before one of its system calls, for as long as others
    need; then also for other durations, and twice in one run. Few preemptions suffice for most races of threads
    (Musuvathi and Qadeer, PLDI 2007; Burckhardt, Kothari, Musuvathi and Nagarakatte, ASPLOS 2010)."""

    name = "preemption sweep"
    kinds: tuple[str, ...] = ("thread.switch", "process.switch")

    def __init__(self, seed: int, left: Callable[[], int]) -> None:
        super().__init__(seed, left)
        # By the first of two, as its own run has shown what comes after it.
        self._pairs: list[list[tuple[Candidate, Candidate]]] = []

    def rank(self, choices: Choices) -> list[Groups]:
        classes: list[Groups] = [{}, {}]
        for who, kind, number, n, _ in choices.recorded:
            if kind in self.kinds:
                point = Point(who, kind, number)
                classes[0].setdefault(who, []).append((point, _LONG))
                classes[1].setdefault(who, []).extend((point, value) for value in range(1, n) if value != _LONG)
        return classes

    def observe(self, choices: Choices, failed: bool) -> None:
        super().observe(choices, failed)
        if self.is_empty:
            return
        deviations = choices.deviations()
        if len(deviations) == 1 and choices.seed == self._seed:
            ((first, value),) = deviations.items()
            if value == _LONG and first.kind in self.kinds:
                points = [
                    Point(who, kind, number) for who, kind, number, _, _ in choices.recorded if kind in self.kinds
                ]
                later = points[points.index(first) + 1 :]
                # Those whom the first one has let go on come first.
                later.sort(key=lambda second: second.who == first.who)
                self._pairs.append([((first, _LONG), (second, _LONG)) for second in later])

    def runs(self, classes: list[Groups], left: int) -> Iterator[tuple[Candidate, ...]]:
        usual = sum(map(len, classes[0].values())) if classes else 0
        yield from super().runs(classes[:1], left)
        pairs = (pair for row in zip_longest(*self._pairs) for pair in row if pair is not None)
        for single, pair in zip_longest(super().runs(classes[1:], left - usual), pairs):
            yield from (deviations for deviations in (pair, single) if deviations is not None)


class LineSweep(PreemptionSweep):
    """Sweep in which each run preempts a thread before one line of the user's own code, for tests with
    ``preempt="lines"``: the lines of a function one after the other, those in the first iteration of a loop before
    later iterations."""

    name = "line sweep"
    kinds = ("thread.line",)
