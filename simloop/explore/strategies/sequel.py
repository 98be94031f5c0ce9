"""Sequel sweep: adds delays to things that happen only because a run has deviated.

A request that was late may be sent again over a new connection, and what comes over that one may be late, too. No sweep
over the canonical run has that connection, and random walks delay it only by luck. As in Fest (Li, Desai and Padhye,
NSDI 2026) runs that reach something new are changed further; the difference is in what counts as new (a connection, or
a job of a thread, that the canonical run does not have), and in where the run is made to deviate further: there, and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING

from simloop.choices.choices import Point
from simloop.choices.lateness import ENDS, LATE
from simloop.choices.schedule import Schedule
from simloop.choices.who import Who
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from simloop.choices.choices import Choices

Deviations = dict[Point, int]

# Runs with more deviations than so many have no sequels.
_MOST = 2
# Kinds of points at which an arrival may meet a timer, and the answer by which it does: in the same turn.
_RACES = {"net.race": 1, "thread.race": 1}


class SequelSweep:
    """Strategy that repeats runs with one or two deviations, after which connections or jobs came up that the canonical
    run does not have, and delays one of the arrivals of these, too: until it coincides with a timer, or as long as
    possible."""

    name = "sequel sweep"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._usual: set[str] | None = None
        #: Deviations of runs to make, one iterator for each run that has led to them; the iterators take turns.
        self._sequels: list[Iterator[Deviations]] = []
        self._seen: set[frozenset[tuple[Point, int]]] = set()

    @property
    def is_waiting(self) -> bool:
        """True while there is nothing to try: no run is known with a connection or job that the canonical run does not
        have."""
        return not self._sequels

    def plan(self) -> Plan | None:
        while self._sequels:
            sequels = self._sequels.pop(0)
            if (deviations := next(sequels, None)) is not None:
                self._sequels.append(sequels)
                return Plan(self._seed, Schedule(seed=self._seed, deviations=deviations).decider())
        return None

    def observe(self, choices: Choices, failed: bool) -> None:
        if choices.seed != self._seed:
            return
        deviations = choices.deviations()
        if self._usual is None:
            if not deviations:
                self._usual = {Who(who).source for who, kind, _, _, _ in choices.recorded if kind in LATE}
        elif 0 < len(deviations) <= _MOST and (made := frozenset(deviations.items())) not in self._seen:
            self._seen.add(made)
            # A cancellation brings new connections, too, and where they lead is hardly ever a matter of time.
            if any(kind in ENDS for _, kind, _ in deviations):
                return
            if sequels := self._sequels_of(choices, deviations):
                # What goes further has its first turn at once.
                self._sequels.insert(0 if len(deviations) > 1 else len(self._sequels), iter(sequels))

    def _sequels_of(self, choices: Choices, deviations: Deviations) -> list[Deviations]:
        assert self._usual is not None
        recorded = choices.recorded
        last = max(at for at, (_, _, _, _, answer) in enumerate(recorded) if answer)
        known = self._usual.union(Who(who).source for who, _, _, _, _ in recorded[: last + 1])
        late, met = [], []
        for who, kind, number, n, _ in recorded[last + 1 :]:
            if Who(who).source in known:
                continue
            if n > _RACES.get(kind, n):
                met.append({**deviations, Point(who, kind, number): _RACES[kind]})
            elif n > LATE.get(kind, n):
                late.append({**deviations, Point(who, kind, number): LATE[kind]})
        return [found for both in zip_longest(met, late) for found in both if found is not None]
