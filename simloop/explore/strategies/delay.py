"""Delay sweep: delays or reorders one arrival (a packet, the end of a thread's work) in each run."""

from __future__ import annotations

from simloop.choices.choices import Choices, Point
from simloop.choices.lateness import LATE
from simloop.explore.strategies.arrivals import has_contents
from simloop.explore.strategies.fault import FAULTS
from simloop.explore.strategies.preemption import PREEMPTIONS
from simloop.explore.strategies.sweep import Groups, Sweep
from simloop.explore.strategies.timeout import RACES


class DelaySweep(Sweep):
    """Sweep in which each run delays or reorders a single thing: a packet is late or split, a thread is late, one poll
    returns events in another order, processes run in another order, or callbacks in an order that a wider profile
    allows. This is delay-bounded search with one delay (Emmi, Qadeer and Rakamaric, POPL 2011). First each arrival gets
    its maximum delay, data before connection openings and closings; then other deviations follow, kinds with few choice
    points in a run first, since they say more about the cause."""

    name = "delay sweep"

    def rank(self, choices: Choices) -> list[Groups]:
        late: tuple[Groups, Groups] = {}, {}
        kinds: dict[str, Groups] = {}
        for who, kind, number, n, _ in choices.recorded:
            if kind in ("cancel", "signal.sent", "host.crash", *FAULTS, *PREEMPTIONS, *RACES):
                continue
            point = Point(who, kind, number)
            most = LATE.get(kind, n) if kind != "order.lag" else n
            if most < n:
                late[not has_contents(kind, n)].setdefault(who, []).append((point, most))
            group = kinds.setdefault(kind, {}).setdefault(who, [])
            group += [(point, value) for value in range(1, n) if value != most]
        return [*late, *sorted(kinds.values(), key=lambda groups: sum(map(len, groups.values())))]
