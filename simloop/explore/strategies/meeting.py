"""The meeting walk: holds an arrival until all others have gone as far as they can without it, and lets those meet it
that came last.

A request that comes while a lock is between its owners, a second failure in the turn of the first: what an arrival can
meet is what would else have happened while it was on its way. So a run in which it alone is late shows that; in the
next ones, some of the others are late too, by the same time. Each connection is late at the last of its arrivals, more
often than not, since where it stops it waits for what is held, or is at its end. Most of the arrivals that are held
first are such that one task woke another after them: only there is anything between owners. Where there are none, this
walk has no turns.

This is delay-bounded search (Emmi, Qadeer and Rakamaric, POPL 2011) with delays until nothing else goes on, of which
each further one is drawn from those that the run with one delay less has shown: as in dynamic partial-order reduction
(Flanagan and Godefroid, POPL 2005) a run says what to try after it. It departs from both in that it samples.
"""

from __future__ import annotations

import random
from itertools import chain
from typing import TYPE_CHECKING

from simloop.choices.draws import LATE, mixed_seed, together
from simloop.explore.strategies.arrivals import has_contents
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.explore.wakeups import Arrival, WakeUps

#: Maximum number of steps from one arrival that is late to several.
_DEPTH = 4
# Of each connection, how many of its last arrivals are known of a run; and of how many runs.
_LAST = 8
_KNOWN_MAX = 2000

Held = tuple["Arrival", ...]


class MeetingWalk:
    """Strategy of seeded random runs in which arrivals are held until they meet others, without end. The canonical run
    is watched by what `watch` returns."""

    name = "meeting walk"
    number = 9

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(mixed_seed(seed, self.number))
        self._watching: WakeUps | None = None
        # What is held in runs of which nothing is known yet.
        self._planned: dict[frozenset[Arrival], Held] = {}
        self._arrivals: list[Arrival] | None = None
        self._waking: list[Arrival] = []
        self._waiting: dict[bool, list[Arrival]] = {True: [], False: []}
        # Arrivals that only begin or end something.
        self._empty: set[Arrival] = set()
        #: What came last of each other connection while these arrivals were held.
        self._last: dict[Held, list[list[Arrival]]] = {}

    @property
    def is_empty(self) -> bool:
        """True once it is known that after no arrival one task wakes another while anything else goes on."""
        return self._arrivals is not None and not self._waking

    def watch(self) -> WakeUps:
        """Return an observer of the canonical run."""
        # A campaign of which nothing may vary needs none of this.
        from simloop.explore.wakeups import WakeUps

        self._watching = WakeUps()
        return self._watching

    def plan(self) -> Plan | None:
        if not self._waking:
            return None
        held = self._draw()
        if held not in self._last and len(self._last) + len(self._planned) < _KNOWN_MAX:
            self._planned[frozenset(held)] = held
        return Plan(self._seed, together(self._rng.getrandbits(32), held))

    def _draw(self) -> Held:
        """Return the arrivals to hold in the next run: the first one, and others that are known to come meanwhile."""
        rng = self._rng
        held: Held = (self._first(),)
        part = rng.choice((0.35, 0.7))
        whole = rng.random() < 0.5
        for depth in range(_DEPTH - 1):
            last = self._last.get(held)
            if not last or (depth and rng.random() < 0.2):
                break
            chosen = [arrivals for arrivals in last if rng.random() < part] or [rng.choice(last)]
            if whole:
                chosen = [self._with_contents(arrivals) for arrivals in chosen]
            held += tuple(self._near_the_end(arrivals) for arrivals in chosen)
        return held

    def _first(self) -> Arrival:
        """Return the next arrival to hold first: each in turn, in rounds of other orders."""
        wakes = self._rng.random() < 0.8
        waiting = self._waiting[wakes]
        if not waiting:
            everything = self._waking if wakes else self._arrivals or []
            waiting += self._rng.sample(everything, len(everything))
        return waiting.pop()

    def _with_contents(self, arrivals: list[Arrival]) -> list[Arrival]:
        return [arrival for arrival in arrivals if arrival not in self._empty] or arrivals

    def _near_the_end(self, arrivals: list[Arrival]) -> Arrival:
        at = 1
        while at < len(arrivals) and self._rng.random() < 0.5:
            at += 1
        return arrivals[-at]

    def observe(self, choices: Choices, failed: bool) -> None:
        if choices.seed != self._seed:
            return
        late = frozenset(
            (who, kind, number)
            for who, kind, number, n, value in choices.recorded
            if value and _may_be_late(kind, n) and value == LATE[kind]
        )
        if self._arrivals is None:
            if not choices.deviations():
                self._begin(choices)
        elif (held := self._planned.pop(late, None)) is not None:
            self._last[held] = last = self._while_held(held, choices)
            if len(held) == 1 and self._empty.issuperset(chain.from_iterable(last)):
                # Nothing else goes on meanwhile.
                self._waking = [arrival for arrival in self._waking if arrival != held[0]]

    def _begin(self, choices: Choices) -> None:
        """Take from the canonical run what may be held."""
        self._arrivals = [(who, kind, number) for who, kind, number, n, _ in choices.recorded if _may_be_late(kind, n)]
        if self._watching is not None:
            known = set(self._arrivals)
            self._waking = [arrival for arrival in self._watching.waking if arrival in known]
            self._watching = None

    def _while_held(self, held: Held, choices: Choices) -> list[list[Arrival]]:
        """Return what came in a run while the first arrival was held, by connection: until the one that it is for has
        sent something back."""
        first = held[0]
        back = first[0][:-1] + {">": "<", "<": ">"}.get(first[0][-1], "")
        sources = {_source(arrival) for arrival in held}
        found: dict[str, list[Arrival]] = {}
        after = False
        for who, kind, number, n, _ in choices.recorded:
            arrival = who, kind, number
            if arrival == first:
                after = True
            elif after and _may_be_late(kind, n):
                if who == back:
                    break
                if (source := _source(arrival)) not in sources:
                    found.setdefault(source, []).append(arrival)
                    if not has_contents(kind, n):
                        self._empty.add(arrival)
        return [arrivals[-_LAST:] for arrivals in found.values()]


def _may_be_late(kind: str, n: int) -> bool:
    return n > LATE.get(kind, n) and kind != "order.lag"


def _source(arrival: Arrival) -> str:
    """Return the connection, job or process that an arrival is of."""
    return arrival[0].rstrip("<>")
