"""The coincidence walk: lets arrivals of different connections, threads and processes meet in one poll.

Two requests that meet while a lock is between its owners, two failures in one turn: such races need arrivals that are
far from one another to come together, to a turn. Independent delays get there by luck. Here each source of arrivals is
late at one of its arrivals, and all by the same time, from which they go on together: of two sources any two arrivals
meet with about the same probability, and whatever comes the same number of steps after them does, too.

As in PCT (Burckhardt, Kothari, Musuvathi and Nagarakatte, ASPLOS 2010), a run has few places where something changes,
each drawn uniformly from all places. It departs from PCT in what changes: there is no priority, but a wait for others,
and each source has its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.choices.draws import LATE, coincidences, drawer, mixed_seed
from simloop.choices.who import Who
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from simloop.choices.choices import Choices

# Each job of an executor, process and signal has an arrival or two: all of one name are this number of sources.
_SHORT = ("thread.start", "thread.finish", "process.exit", "signal")
_JOBS = 3

_Points = list[tuple[str, str, int]]


class CoincidenceWalk:
    """Strategy of seeded random runs in which arrivals meet (`simloop.choices.draws.coincidences`), without end. The
    sources are those of the canonical run: connections in half of the runs, and their two directions in the others;
    jobs of threads, processes and signals by their names; and under profile `hostile` tasks."""

    name = "coincidence walk"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._made = 0
        self._draws_entropy = False
        self._both_ways: dict[str, _Points] | None = None
        self._one_way: dict[str, _Points] = {}

    @property
    def is_empty(self) -> bool:
        """True once it is known that there are no two sources that could meet."""
        return self._both_ways is not None and len(self._one_way) < 2

    def plan(self) -> Plan:
        self._made += 1
        seed = mixed_seed(self._seed, self._made, 3) & 0xFFFF_FFFF
        sources = self._one_way if drawer(seed)(2) else self._both_ways or {}
        return Plan(seed if self._draws_entropy else self._seed, coincidences(seed, sources.values()))

    def observe(self, choices: Choices, failed: bool) -> None:
        self._draws_entropy |= choices.drew_entropy
        if self._both_ways is None and choices.seed == self._seed and not choices.deviations():
            self._both_ways = {}
            jobs: dict[str, dict[str, int]] = {}
            for who, kind, number, n, _ in choices.recorded:
                if n > LATE.get(kind, n):
                    source = who
                    if kind in _SHORT:
                        name = Who(who).name
                        same = jobs.setdefault(name, {})
                        source = f"{name}#{same.setdefault(who, len(same)) % _JOBS}"
                    self._one_way.setdefault(source, []).append((who, kind, number))
                    self._both_ways.setdefault(source.rstrip("<>"), []).append((who, kind, number))
