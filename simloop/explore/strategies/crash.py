"""Crash sweep: cuts the power of a host at each possible place, and tries which data the power cut may lose.

A single deviation finds no crash bug: a power cut that loses nothing does no harm, and without a power cut nothing can
be lost. So each run of this sweep combines a power cut with a whole pattern of losses, as FoundationDB's simulation
does (AsyncFileNonDurable). Shrinking then drops the losses that the failure does not need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from simloop.choices.draws import drawer, shuffler
from simloop.choices.who import Who
from simloop.explore.strategies.base import Plan

if TYPE_CHECKING:
    from simloop.choices.choices import Choices, Decide, Point

CRASH = "host.crash"
DATA, NAMES = "disk.crash", "disk.journal"
# How often each place gets a random pattern, after all the others.
_RANDOM_ROUNDS = 8

Lose = Callable[[str, str, int], int]
"""``lose(who, kind, n)`` answers a point at which something may be lost."""


def _worst(who: str, kind: str, n: int) -> int:
    # Of a page the answers after 1 mean that a part is there; of all others a higher one means that more is lost.
    is_page = kind == DATA and Who(who).part.isdigit()
    return 1 if is_page else n - 1


def _data(who: str, kind: str, n: int) -> int:
    return _worst(who, kind, n) if kind == DATA else 0


def _names(who: str, kind: str, n: int) -> int:
    return _worst(who, kind, n) if kind == NAMES else 0


def _pages(who: str, kind: str, n: int) -> int:
    """Answer a power cut's choice point so that a file loses the data of its pages, but keeps its length."""
    return 0 if Who(who).part in ("size", "end") else _data(who, kind, n)


_PATTERNS: tuple[Lose, ...] = (_data, _names, _pages, _worst)


class CrashSweep:
    """Strategy in which each run cuts the power at one place, with one pattern of unsynced writes that are lost:
    contents and lengths of files; directory entries; contents alone; everything; then random parts.

    Places are the choice points of the canonical run at which the environment may cut the power of a host, and the
    power cuts that the test itself makes.
    """

    name = "crash sweep"

    def __init__(self, seed: int, left: Callable[[], int]) -> None:
        self._seed = seed
        self._left = left
        self._places: list[Point | None] | None = None
        self._plans: Iterator[Plan] | None = None

    @property
    def is_empty(self) -> bool:
        """True once it is known that no power cut can happen, so that there is nothing to try."""
        return self._places is not None and not self._places

    def observe(self, choices: Choices, failed: bool) -> None:
        if self._places is None and choices.seed == self._seed and not choices.deviations():
            answers = [answer for answer in choices.answers() if answer.n > 1]
            self._places = [answer.point for answer in answers if answer.point.kind == CRASH]
            if any(answer.point.kind in (DATA, NAMES) for answer in answers):
                self._places.append(None)

    def plan(self) -> Plan | None:
        if self._plans is None:
            self._plans = self._all(self._places or [])
        return next(self._plans, None)

    def _all(self, places: list[Point | None]) -> Iterator[Plan]:
        if len(places) > self._left():
            places = shuffler(self._seed)(places)
        for round in range(len(_PATTERNS)):
            for number, place in enumerate(places):
                # In each round each place has another one, and each pattern its share of places.
                yield self._plan(place, _PATTERNS[(number + round) % len(_PATTERNS)])
        for round in range(_RANDOM_ROUNDS):
            for number, place in enumerate(places):
                yield self._plan(place, _at_random(self._seed, round, number))

    def _plan(self, place: Point | None, lose: Lose) -> Plan:
        return Plan(self._seed, _decider(place, lose))


def _decider(place: Point | None, lose: Lose) -> Decide:
    def decide(who: str, kind: str, number: int, n: int) -> int:
        if kind == CRASH:
            return int(place == (who, kind, number))
        return lose(who, kind, n) if kind in (DATA, NAMES) and n > 1 else 0

    return decide


def _at_random(*seeds: int) -> Lose:
    """Return a function that answers a power cut's choice points at random: about half of them lose something."""
    below = drawer(*seeds)
    return lambda who, kind, n: 1 + below(n - 1) if below(2) else 0
