"""The delay sweep: delays each arrival (a packet, the end of a thread's work) by itself."""

from __future__ import annotations

from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.fault import FAULTS
from simloop.explore.strategies.preemption import PREEMPTIONS
from simloop.explore.strategies.sweep import Groups, Sweep
from simloop.explore.strategies.timeout import RACES


class DelaySweep(Sweep):
    """Sweep that delays or reorders one thing at a time: a packet, late or in pieces, a thread, the order of a poll,
    turns of processes, and the orders that wider profiles add. This is delay-bounded search with one delay (Emmi,
    Qadeer and Rakamaric, POPL 2011). Kinds with few choice points in a run come first, since they say more about the
    cause."""

    name = "delay sweep"

    def rank(self, choices: Choices) -> list[Groups]:
        kinds: dict[str, Groups] = {}
        for who, kind, number, n, _ in choices.recorded:
            if kind not in ("cancel", "signal.sent", "host.crash", *FAULTS, *PREEMPTIONS, *RACES):
                group = kinds.setdefault(kind, {}).setdefault(who, [])
                group += [(Point(who, kind, number), value) for value in range(1, n)]
        return sorted(kinds.values(), key=lambda groups: sum(map(len, groups.values())))
