"""Sweeps: strategies that enumerate one kind of deviation, one at a time, the likeliest to matter first.

Most asyncio bugs that a lucky order shows need one thing only: a cancellation or a timeout in one of the one
or two turns around a wake-up. A sweep goes there directly (design, section 6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest

from simloop.choices import Choices, Point, Schedule, shuffler
from simloop.explore.strategies import Plan

Candidate = tuple[Point, int]
Groups = dict[str, list[Candidate]]
"""Candidates by what they are about: each of those gets its turn."""

# The kinds of points at which an arrival meets a timer, by the class in which the timeout sweep tries them.
_RACES = {"net.race": 0, "thread.race": 0, "timer.tie": 0, "cpu.stall": 1}


class Sweep:
    """Tries one deviation from the canonical run after another: those that `rank` puts first. `left` says how many
    runs it may have."""

    name = "sweep"

    def __init__(self, seed: int, left: Callable[[], int]) -> None:
        self._seed = seed
        self._left = left
        self._ranked: list[Groups] | None = None
        self._candidates: Iterator[Candidate] | None = None

    def rank(self, choices: Choices) -> list[Groups]:
        """The deviations to try, in classes of falling value."""
        raise NotImplementedError

    def observe(self, choices: Choices, failed: bool) -> None:
        if self._ranked is None and choices.seed == self._seed and not choices.deviations():
            self._ranked = self.rank(choices)

    def plan(self) -> Plan | None:
        if self._candidates is None:
            # Only now it is known what the strategies before have left.
            self._candidates = self._ordered(self._ranked or [], self._left())
        found = next(self._candidates, None)
        if found is None:
            return None
        point, value = found
        return Plan(self._seed, Schedule(seed=self._seed, deviations={point: value}).decider())

    def _ordered(self, classes: list[Groups], left: int) -> Iterator[Candidate]:
        shuffled = shuffler(self._seed)
        for groups in classes:
            members = list(groups.values())
            size = sum(map(len, members))
            if size > left:
                # In order where there is time for all; else a fair sample of each group, since a long run's
                # beginning is mostly connecting.
                members = [shuffled(group) for group in members]
            left -= size
            for round in zip_longest(*members):
                yield from (candidate for candidate in round if candidate is not None)


class CancelSweep(Sweep):
    """Cancels each task that may be cancelled at the polls of its life, those around its wake-ups first.

    What wakes a task runs in the turn before the last of its wait. So the last poll but one of each wait is
    where a cancellation meets the wake-up (it comes after the I/O that resolves the future, and before the
    task has run), and the last poll is where it comes right after the step.
    """

    name = "cancel sweep"

    def rank(self, choices: Choices) -> list[Groups]:
        waits: dict[str, list[Point]] = {}
        for who, kind, number, n, _ in choices.recorded:
            if kind == "cancel" and n > 1:
                waits.setdefault(who, []).append(Point(who, kind, number))
        classes: list[Groups] = [{}, {}, {}, {}, {}]
        for who, points in waits.items():
            task = who.partition("~")[0]
            woken, after, began, before, rest = (groups.setdefault(task, []) for groups in classes)
            after.append((points[-1], 1))
            woken += [(point, 1) for point in points[-2:-1]]
            began += [(point, 1) for point in points[:1] if len(points) > 2]
            before += [(point, 1) for point in points[-3:-2] if len(points) > 3]
            rest += [(point, 1) for point in points[1:-3]]
        return classes


class TimeoutSweep(Sweep):
    """Makes each armed timer due just before, with and just after each arrival that it races.

    Before and with: the arrival is late, as far as its link or thread allows. After: time goes on while
    callbacks are ready, as far as `max_stall` allows.
    """

    name = "timeout sweep"

    def rank(self, choices: Choices) -> list[Groups]:
        classes: list[Groups] = [{}, {}]
        for who, kind, number, n, _ in choices.recorded:
            which = _RACES.get(kind)
            if which is not None:
                group = classes[which].setdefault(who, [])
                group += [(Point(who, kind, number), value) for value in range(1, n)]
        return classes


class DelaySweep(Sweep):
    """Lets each arrival be late by itself: packets by turns and in pieces, threads, the order of a poll, turns of
    processes, and the orders that wider profiles add. This is delay-bounded search with one delay (Emmi, Qadeer and
    Rakamaric, POPL 2011). Kinds of which a run has few points come first: theirs say more.
    """

    name = "delay sweep"

    def rank(self, choices: Choices) -> list[Groups]:
        kinds: dict[str, Groups] = {}
        for who, kind, number, n, _ in choices.recorded:
            if kind not in ("cancel", "host.crash") and kind not in _RACES:
                group = kinds.setdefault(kind, {}).setdefault(who, [])
                group += [(Point(who, kind, number), value) for value in range(1, n)]
        return sorted(kinds.values(), key=lambda groups: sum(map(len, groups.values())))
