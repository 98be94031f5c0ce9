"""Fault sweep: lets one declared fault happen at a time."""

from __future__ import annotations

from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.sweep import Groups, Sweep

#: Kinds of faults that a test declares for the network and its names, for hosts and for their clocks.
FAULTS = ("net.partition", "net.reset", "host.pause", "net.lose", "clock.step", "dns.fail", "dns.slow")


class FaultSweep(Sweep):
    """Sweep that lets one fault happen that the test has declared: a partition, a reset, a pause of a host, a lost
    packet, a step of a clock, a look-up of a name that fails or is slow. Each kind gets its turns, at packets from all
    over the run."""

    name = "fault sweep"

    def rank(self, choices: Choices) -> list[Groups]:
        kinds: Groups = {}
        for who, kind, number, n, _ in choices.recorded:
            if kind in FAULTS:
                kinds.setdefault(kind, []).extend((Point(who, kind, number), value) for value in range(1, n))
        return [kinds]
