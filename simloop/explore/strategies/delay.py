"""The delay sweep: each arrival late by itself."""

from __future__ import annotations

from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.sweep import Groups, Sweep
from simloop.explore.strategies.timeout import RACES


class DelaySweep(Sweep):
    """Sweep that lets each arrival be late by itself: packets by turns and in pieces, threads, the order of a poll,
    turns of processes, and the orders that wider profiles add. This is delay-bounded search with one delay (Emmi,
    Qadeer and Rakamaric, POPL 2011). Kinds of which a run has few points come first: theirs say more."""

    name = "delay sweep"

    def rank(self, choices: Choices) -> list[Groups]:
        kinds: dict[str, Groups] = {}
        for who, kind, number, n, _ in choices.recorded:
            if kind not in ("cancel", "host.crash") and kind not in RACES:
                group = kinds.setdefault(kind, {}).setdefault(who, [])
                group += [(Point(who, kind, number), value) for value in range(1, n)]
        return sorted(kinds.values(), key=lambda groups: sum(map(len, groups.values())))
