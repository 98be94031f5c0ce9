"""Base of the sweeps: strategies that enumerate one kind of deviation, one deviation in each run, the likeliest to
matter first.

Most bugs of asyncio programs that depend on the order of events need one thing only: a cancellation or a timeout in one
of the one or two loop iterations around a wake-up. A sweep tries these directly (docs/explanation/exploring.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest

from simloop.choices.choices import Choices, Point
from simloop.choices.draws import shuffler
from simloop.choices.schedule import Schedule
from simloop.explore.strategies.base import Plan

Candidate = tuple[Point, int]
Groups = dict[str, list[Candidate]]
"""Candidates by what they are about: each of those gets its turn."""


class Sweep:
    """Base class of strategies that try single deviations one after another: each run is the canonical one (in which
    every choice has its default answer, 0) but for a single answer. A subclass says in `rank` in which order they are
    tried. ``left()`` returns the number of runs that the strategy may still make."""

    name = "sweep"
    #: True to try the candidates of a group in their order, False to spread them (`_spread`), if there is time for all.
    in_order = False

    def __init__(self, seed: int, left: Callable[[], int]) -> None:
        self._seed = seed
        self._left = left
        self._ranked: list[Groups] | None = None
        self._runs: Iterator[tuple[Candidate, ...]] | None = None
        #: True once it is known that the sweep has nothing to try.
        self.is_empty = False

    def rank(self, choices: Choices) -> list[Groups]:
        """Return the deviations to try, given the canonical run `choices`, in classes: the likeliest to matter
        first."""
        raise NotImplementedError

    def runs(self, classes: list[Groups], left: int) -> Iterator[tuple[Candidate, ...]]:
        """Return the deviations of each run to make: one for each run, in the order of their classes. `left` is the
        number of runs that may be made."""
        return ((candidate,) for candidate in self._ordered(classes, left))

    def observe(self, choices: Choices, failed: bool) -> None:
        if self._ranked is None and choices.seed == self._seed and not choices.deviations():
            self._ranked = self.rank(choices)
            self.is_empty = not any(group for groups in self._ranked for group in groups.values())

    def plan(self) -> Plan | None:
        if self._runs is None:
            # Only now it is known what the strategies before have left.
            self._runs = self.runs(self._ranked or [], self._left())
        found = next(self._runs, None)
        if found is None:
            return None
        return Plan(self._seed, Schedule(seed=self._seed, deviations=dict(found)).decider())

    def _ordered(self, classes: list[Groups], left: int) -> Iterator[Candidate]:
        shuffled = shuffler(self._seed)
        for groups in classes:
            members = list(groups.values())
            size = sum(map(len, members))
            # Where there is no time for all, a sample that differs from seed to seed.
            if size > left:
                members = [shuffled(group) for group in members]
            elif not self.in_order:
                members = [_spread(group) for group in members]
            left -= size
            for round in zip_longest(*members):
                yield from (candidate for candidate in round if candidate is not None)


def _spread(group: list[Candidate]) -> list[Candidate]:
    """Return the candidates of a group in another order: the middle one, those in the middle of both halves, and so on,
    of two halves the later one first. Most races can be triggered by several consecutive candidates (any call between a
    read and the write that relies on it), which this order finds sooner than one from the beginning, where a run mostly
    connects and opens. It is van der Corput's sequence (Proceedings of the Koninklijke Akademie van Wetenschappen te
    Amsterdam 38, 1935), except for which half is first."""
    ordered = []
    spans = [(0, len(group))]
    for start, end in spans:
        if start < end:
            middle = (start + end) // 2
            ordered.append(group[middle])
            spans += [(middle + 1, end), (start, middle)]
    return ordered
