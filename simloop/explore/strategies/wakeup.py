"""Wake-up sweep: lets an arrival by which one task wakes another meet one that brings a newcomer.

A lock is released, and its next owner woken: in the turn between, it looks free. Whoever comes then overtakes the
owner, or owns the lock with it; and so with semaphores, queues and pools. That needs two arrivals in one poll. Which
they are, the canonical run shows, if any task waits in it at all: by the one a task was woken that waited somewhere,
and by the other another task came to wait at the same place.

As in dynamic partial-order reduction (Flanagan and Godefroid, POPL 2005) a run says which of its steps to try in
another order. It departs from it in what counts as dependent: to wait in the same function, since what Python objects
two steps have in common is not known.
"""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from simloop.choices.lateness import LATE
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simloop.choices.choices import Choices, Decide
    from simloop.choices.lateness import Arrival
    from simloop.explore.strategies.base import Canonical
    from simloop.explore.wakeups import WakeUps


class WakeUpSweep:
    """Strategy that lets two arrivals meet in each run: one by which a task was woken in the canonical run, and one by
    which another came to where it had waited. First in the order in which polls show what has arrived, then in the
    reverse order."""

    name = "wakeup sweep"

    def __init__(self, seed: int, canonical: Canonical[WakeUps]) -> None:
        self._seed = seed
        self._canonical = canonical
        self._runs: Iterator[Decide] | None = None
        #: True once it is known that there is nothing to try.
        self.is_empty = False

    def plan(self) -> Plan | None:
        decide = None if self._runs is None else next(self._runs, None)
        return None if decide is None else Plan(self._seed, decide)

    def observe(self, choices: Choices, failed: bool) -> None:
        watching = self._canonical.observer
        if self._runs is not None or watching is None or choices.deviations():
            return
        may_be_late = {(who, kind, number) for who, kind, number, n, _ in choices.recorded if n > LATE.get(kind, n)}
        # One of each wake-up, then a second one of each, and so on.
        rounds = chain.from_iterable(zip_longest(*meetings(watching)))
        pairs = [pair for pair in rounds if pair is not None and may_be_late.issuperset(pair)]
        self.is_empty = not pairs
        self._runs = (_meeting(pair, reverse) for reverse in (False, True) for pair in pairs)


def meetings(watched: WakeUps) -> list[list[tuple[Arrival, Arrival]]]:
    """Return pairs of arrivals of different connections that could meet in a run that was watched, by the former: one
    by which a task was woken, and one by which another came to the same place. Places to which few come are first, and
    so are those that come nearest."""
    found: dict[Arrival, list[tuple[Arrival, Arrival]]] = {}
    order = {arrival: at for at, arrival in enumerate(watched.tasks)}
    places = [code for code in watched.woken if code not in watched.reading]
    for code in sorted(places, key=lambda code: len(watched.came.get(code, ()))):
        for woken, task in watched.woken[code]:
            comers = [
                came
                for came, other in watched.came.get(code, ())
                if other != task and _source_of(came) != _source_of(woken)
            ]
            comers.sort(key=lambda came: abs(order[came] - order[woken]))
            found.setdefault(woken, []).extend((woken, came) for came in comers)
    return [pairs for pairs in found.values() if pairs]


def _source_of(arrival: Arrival) -> str:
    """Return the source of an arrival over a connection: that connection."""
    return arrival[0].rstrip("<>")


def _meeting(pair: tuple[Arrival, Arrival], reverse: bool) -> Decide:
    """Return a function that answers choice points so that two arrivals are late by the same time; with `reverse`,
    polls show what has arrived in the reverse order."""

    def decide(who: str, kind: str, number: int, n: int) -> int:
        if (who, kind, number) in pair:
            return min(LATE[kind], n - 1)
        return n - 1 if reverse and kind == "poll.order" else 0

    return decide
