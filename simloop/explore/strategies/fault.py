"""Fault sweep: makes one fault happen in each run, of those that the test allows."""

from __future__ import annotations

from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.sweep import Groups, Sweep

#: Kinds of choice points at which a fault may happen that a test has allowed for the network, name look-ups, hosts or
#: clocks.
FAULTS = ("net.partition", "net.reset", "host.pause", "net.lose", "clock.step", "dns.fail", "dns.slow")


class FaultSweep(Sweep):
    """Sweep in which each run has a single fault that the test allows (by ``may_partition`` and the like): a partition,
    a reset, a pause of a host, a lost packet, a step of a clock, a look-up of a name that fails or is slow. Kinds of
    faults take turns, and each is tried at packets from all over the run."""

    name = "fault sweep"

    def rank(self, choices: Choices) -> list[Groups]:
        kinds: Groups = {}
        for who, kind, number, n, _ in choices.recorded:
            if kind in FAULTS:
                kinds.setdefault(kind, []).extend((Point(who, kind, number), value) for value in range(1, n))
        return [kinds]
