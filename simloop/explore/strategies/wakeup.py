"""Wake-up sweep: makes an arrival because of which one task wakes another coincide with one that brings a third task.

When a lock is released and its next owner woken, the lock looks free until the owner runs. A task that comes then
overtakes the owner, or owns the lock together with it; the same goes for semaphores, queues and pools. That needs two
arrivals in one poll of the event loop. The canonical run shows which, if any task waits in it at all: because of one, a
task that waited somewhere was woken; because of the other, another task came to wait at the same place.

As in dynamic partial-order reduction (Flanagan and Godefroid, POPL 2005) a run says which of its steps to try in
another order. The difference is in what counts as dependent: waiting in the same function, since it is not known which
Python objects two steps share.
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
    """Strategy that makes two arrivals of the canonical run coincide in each run: one because of which a task was
    woken, and one because of which another task came to wait at the same place. At first polls return the two events in
    order, then in reverse order."""

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
    """Return pairs of arrivals of different connections that could coincide, grouped by the first one: in the observed
    run `watched` a task was woken because of the first, and another task came to wait at the same place because of the
    second. Places where few tasks waited are first, and then the pairs closest in time."""
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
    """Return the source of an arrival over a connection: the name of the connection."""
    return arrival[0].rstrip("<>")


def _meeting(pair: tuple[Arrival, Arrival], reverse: bool) -> Decide:
    """Return a function that answers choice points so that the two arrivals of `pair` are delayed until the same time;
    with `reverse`, polls return ready events in reverse order."""

    def decide(who: str, kind: str, number: int, n: int) -> int:
        if (who, kind, number) in pair:
            return min(LATE[kind], n - 1)
        return n - 1 if reverse and kind == "poll.order" else 0

    return decide
