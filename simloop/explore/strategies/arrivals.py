"""Base of the walks over event sources: connections, threads, processes, signals, and tasks under profile `hostile`.

An arrival (a packet, the end of a job) may be late by one, two or three turns, or until others that are late arrive,
too (`simloop.choices.draws.LATE`). These strategies draw which arrivals are late; at all other points nothing unusual
happens, except where they say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.choices.draws import mixed_seed
from simloop.choices.lateness import LATE
from simloop.choices.who import Who
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from simloop.choices.choices import Choices, Decide

Points = list[tuple[str, str, int]]
Sources = dict[str, Points]
#: By how many turns an arrival may be late; at all kinds of arrivals these are the answers, too.
TURNS = 3

# Each job of an executor, process and signal has an arrival or two: all of one name are this number of sources.
_SHORT = ("thread.start", "thread.finish", "process.exit", "signal")
_JOBS = 3


class SourceWalk:
    """Base class of strategies of seeded random runs that draw which arrivals of which sources are late. The sources
    are those of the canonical run."""

    name = "source walk"
    #: Walks of strategies with other numbers share nothing with these.
    number = 3

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._made = 0
        self._draws_entropy = False
        #: The arrivals of each source, in order: of a connection one way.
        self.one_way: Sources | None = None
        #: The same with the two directions of a connection together.
        self.both_ways: Sources = {}
        #: True once it is known that there are no two sources, so that nothing can come in another order.
        self.is_empty = False

    def plan(self) -> Plan:
        self._made += 1
        seed = mixed_seed(self._seed, self._made, self.number) & 0xFFFF_FFFF
        return Plan(seed if self._draws_entropy else self._seed, self.walk(seed))

    def walk(self, seed: int) -> Decide:
        """Return the function that answers the choice points of one run."""
        raise NotImplementedError

    def observe(self, choices: Choices, failed: bool) -> None:
        self._draws_entropy |= choices.drew_entropy
        if self.one_way is None and choices.seed == self._seed and not choices.deviations():
            self.one_way, self.both_ways = sources_of(choices)
            self.is_empty = len(self.one_way) < 2


def sources_of(choices: Choices) -> tuple[Sources, Sources]:
    """Return the arrivals of each source of a run, in order, twice: each direction of a connection is a source of its
    own in the first result, and both are one in the second."""
    one_way: Sources = {}
    both_ways: Sources = {}
    jobs: dict[str, dict[str, int]] = {}
    for who, kind, number, n, _ in choices.recorded:
        if n > LATE.get(kind, n):
            source = who
            if kind in _SHORT:
                name = Who(who).name
                same = jobs.setdefault(name, {})
                source = f"{name}#{same.setdefault(who, len(same)) % _JOBS}"
            one_way.setdefault(source, []).append((who, kind, number))
            both_ways.setdefault(source.rstrip("<>"), []).append((who, kind, number))
    return one_way, both_ways


def has_contents(kind: str, n: int) -> bool:
    """Return False for an arrival that only begins or ends something: a connection, a direction of one. `n` is the
    number of answers at its point."""
    return n > LATE[kind] + 1 or kind == "order.lag"
