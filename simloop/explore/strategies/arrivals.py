"""Base of the random walks that delay events from outside: data of connections, ends of threads and processes, signals,
and tasks under profile `hostile`.

An arrival (a packet, the end of a job) may be late by one, two or three iterations of the event loop, or until other
late arrivals have come, too (`simloop.choices.draws.LATE`). These strategies draw at random which arrivals are late;
all other choice points get the default answer, unless a strategy says otherwise.
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
#: Maximum number of event loop iterations by which an arrival may be late; the answers 1 to 3 of its choice point mean
#: so many.
TURNS = 3

# Each job of an executor, process and signal has an arrival or two: all of one name are this number of sources.
_SHORT = ("thread.start", "thread.finish", "process.exit", "signal")
_JOBS = 3


class SourceWalk:
    """Base class of random strategies that delay some of the arrivals (packets, ends of jobs and the like): the seed of
    a run draws which. Arrivals are grouped by their source, a connection, thread or process, as in the first run, in
    which nothing is delayed (the canonical run)."""

    name = "source walk"
    #: Number mixed into the seeds, different for each strategy, so that no two strategies draw the same walks.
    number = 3

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._made = 0
        self._draws_entropy = False
        #: Arrivals of each source, in order, where each direction of a connection is a source; None before the
        #: canonical run.
        self.one_way: Sources | None = None
        #: Arrivals of each source, in order, where both directions of a connection are one source.
        self.both_ways: Sources = {}
        #: True once it is known that there are less than two sources, so that nothing can come in another order.
        self.is_empty = False

    def plan(self) -> Plan:
        self._made += 1
        seed = mixed_seed(self._seed, self._made, self.number) & 0xFFFF_FFFF
        return Plan(seed if self._draws_entropy else self._seed, self.walk(seed))

    def walk(self, seed: int) -> Decide:
        """Return the function that answers the choice points of the run with this seed."""
        raise NotImplementedError

    def observe(self, choices: Choices, failed: bool) -> None:
        self._draws_entropy |= choices.drew_entropy
        if self.one_way is None and choices.seed == self._seed and not choices.deviations():
            self.one_way, self.both_ways = sources_of(choices)
            self.is_empty = len(self.one_way) < 2


def sources_of(choices: Choices) -> tuple[Sources, Sources]:
    """Return the arrivals of a run, in order, grouped by source (a connection, thread or process) in two ways: in the
    first result each direction of a connection is a source of its own, in the second both are one."""
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
    """Return True for an arrival that carries something, such as data; False if it only opens or closes a connection,
    or one direction of it. `kind` is the kind of its choice point, and `n` the number of answers there."""
    return n > LATE[kind] + 1 or kind == "order.lag"
