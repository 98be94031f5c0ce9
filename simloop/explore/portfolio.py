"""Portfolio of a campaign: its strategies, and the rule that decides which of them proposes the next run.

Strategies take turns, by weights. Sweeps (which enumerate single deviations) find in a few runs a failure that needs
one deviation in the right place, and random walks one that needs several; a campaign that did one after the other would
find half of all races late.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from simloop.errors import ConfigurationError
from simloop.explore.strategies.cancel import CancelSweep
from simloop.explore.strategies.coincidence import CoincidenceWalk
from simloop.explore.strategies.crash import CrashSweep
from simloop.explore.strategies.delay import DelaySweep
from simloop.explore.strategies.enumeration import Enumeration
from simloop.explore.strategies.fault import FaultSweep
from simloop.explore.strategies.mutation import Mutation
from simloop.explore.strategies.pct import PCT
from simloop.explore.strategies.pos import POS
from simloop.explore.strategies.preemption import LineSweep, PreemptionSweep
from simloop.explore.strategies.saved import Saved
from simloop.explore.strategies.sequel import SequelSweep
from simloop.explore.strategies.surw import SURW
from simloop.explore.strategies.timeout import TimeoutSweep
from simloop.explore.strategies.wakeup import WakeUpSweep
from simloop.explore.strategies.walk import DenseWalk, Walk

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.choices.schedule import Schedule
    from simloop.explore.strategies.base import Canonical, Plan, Strategy
    from simloop.explore.wakeups import WakeUps

# The weight of each sweep, by which it makes its part of the runs, among the strategies that have anything left to try;
# and the number of its first runs that count less, since a sweep begins with the candidates that are likeliest to
# matter.
_SWEEPS: tuple[tuple[Callable[[int, Callable[[], int]], Strategy], float, int], ...] = (
    (CancelSweep, 0.60, 8),
    (CrashSweep, 0.90, 6),
    (FaultSweep, 0.60, 8),
    (TimeoutSweep, 0.15, 6),
    (LineSweep, 0.60, 6),
    (DelaySweep, 0.10, 5),
    (PreemptionSweep, 0.60, 8),
)
# How many early runs count as one.
_EARLY = 8
# Weight of the wake-up sweep, and the number of its first runs that count less.
_WAKE_UPS = (0.3, 4)
# The same of the sequel sweep.
_SEQUELS = (0.3, 4)
_THIRD_PARTIES = 0.3
_ENUMERATION = 0.3
_COINCIDENCES = 0.9
_DENSE = 0.15
_SPARSE = 0.05
_COUNTED = attrgetter("counted")

# Strategies that have turns only where they are chosen: they find nothing that the others do not find sooner
# (docs/explanation/exploring.md).
_OPTIONAL = (SURW, PCT, POS)
#: Name that chooses all strategies of third parties.
PLUGINS = "plugins"
#: Names of the strategies that can be chosen.
STRATEGIES = (
    CancelSweep.name,
    CrashSweep.name,
    FaultSweep.name,
    TimeoutSweep.name,
    LineSweep.name,
    DelaySweep.name,
    PreemptionSweep.name,
    WakeUpSweep.name,
    SequelSweep.name,
    CoincidenceWalk.name,
    DenseWalk.name,
    Walk.name,
    Enumeration.name,
    *(kind.name for kind in _OPTIONAL),
    Mutation.name,
)


def check_strategies(chosen: Sequence[str], corpus: bool = False) -> list[str]:
    """Return the names of strategies with spaces in place of hyphens; the name ``plugins`` stands for all strategies of
    third parties. Raises `ConfigurationError` for an unknown name, and, if `corpus` is True, for names without
    ``mutation``, the only strategy that uses a corpus."""
    found = []
    for wanted in chosen:
        name = str(wanted).strip().replace("-", " ")
        if name not in (*STRATEGIES, PLUGINS):
            known = ", ".join(name.replace(" ", "-") for name in (*STRATEGIES, PLUGINS))
            raise ConfigurationError(f"unknown strategy {wanted!r}: use some of {known}")
        found.append(name)
    if corpus and found and Mutation.name not in found:
        raise ConfigurationError(f"a corpus is for the strategy {Mutation.name}: choose that, too, or no corpus")
    return found


@dataclass
class Entry:
    """Strategy in a portfolio, with its weight and the number of runs that it has proposed."""

    strategy: Strategy
    weight: float
    #: Number of the first runs that cost less, so that they come early.
    early: int = 0
    made: int = 0
    #: Sum of the costs of its runs so far: the entry with the lowest sum makes the next run.
    counted: float = 0.0
    #: True once the strategy takes no more turns.
    over: bool = False

    def __post_init__(self) -> None:
        # Half a turn: so the strategies with little weight do not all come before the second run of the others.
        self.counted = self.cost / 2

    @property
    def cost(self) -> float:
        """Amount that its next run adds to `counted`: the lower it is, the sooner the strategy has its next turn."""
        return (1 / _EARLY if self.made < self.early else 1) / self.weight

    @property
    def is_waiting(self) -> bool:
        """True while the strategy has nothing to propose, but may have something later."""
        return getattr(self.strategy, "is_waiting", False)


def _with_more(entries: list[Entry]) -> list[Entry]:
    """Return the entries without those whose strategies have nothing left to propose."""
    return [entry for entry in entries if not (entry.over or getattr(entry.strategy, "is_empty", False))]


class Portfolio:
    """Strategies of one campaign, which take turns. ``left()`` returns the number of runs that the campaign still has.
    `saved` schedules and the `canonical` run come before all others. `strategies` are those of third parties; `chosen`
    names the strategies that take turns, all if it is empty. With a `corpus` of schedules, which may be empty, the
    mutation strategy takes turns too."""

    def __init__(
        self,
        seed: int,
        left: Callable[[], int],
        saved: Sequence[Schedule] = (),
        strategies: Sequence[Strategy] = (),
        chosen: Sequence[str] = (),
        corpus: Sequence[Schedule] | None = None,
        *,
        canonical: Canonical[WakeUps],
    ) -> None:
        self._left = left
        self.enumeration = Enumeration(seed, left)
        names = check_strategies(chosen, corpus is not None)
        optional = [kind(seed) for kind in _OPTIONAL if kind.name in names]
        wakeups = WakeUpSweep(seed, canonical)
        self._first = [Entry(Saved(saved), 1), Entry(canonical, 1, made=int(canonical.is_planned))]
        self._turns: list[Entry] = []
        for sweep, weight, early in _SWEEPS:
            share = functools.partial(self._share_of, weight)
            self._turns.append(Entry(sweep(seed, share), weight, early))
        self._turns += [Entry(wakeups, *_WAKE_UPS), Entry(SequelSweep(seed), *_SEQUELS)]
        self._turns += [Entry(strategy, _THIRD_PARTIES / len(strategies)) for strategy in strategies]
        self._walks = [
            Entry(CoincidenceWalk(seed), _COINCIDENCES),
            Entry(DenseWalk(seed), _DENSE),
            Entry(Walk(seed), _SPARSE),
        ]
        self._walks += [Entry(strategy, _COINCIDENCES) for strategy in optional]
        self.mutation: Mutation | None = None
        if corpus is not None or Mutation.name in names:
            self.mutation = Mutation(seed, corpus or ())
            self._walks.append(Entry(self.mutation, _COINCIDENCES))
        self._last = Entry(self.enumeration, _ENUMERATION)
        self.entries = [*self._first, *self._turns, self._last, *self._walks]
        # The strategies that learn of runs.
        self._learning = [entry.strategy for entry in self.entries]
        if names:
            self._choose(names, strategies)

    def _choose(self, chosen: Sequence[str], third_parties: Sequence[Strategy]) -> None:
        """Switch off all strategies but those named in `chosen`."""
        for entry in (*self._turns, self._last, *self._walks):
            name = PLUGINS if entry.strategy in third_parties else entry.strategy.name
            entry.over = name not in chosen

    def plan(self, ahead: Collection[Strategy] = ()) -> tuple[Strategy, Plan] | None:
        """Return the next run to make, and the strategy that proposes it; None if nothing is left to try. `ahead` are
        the strategies whose last planned runs have not been observed yet; if there are any, None may only mean that
        these runs have to be made first."""
        if self._first:
            for entry in self._first:
                if (plan := self._ask(entry)) is not None:
                    return entry.strategy, plan
            if not ahead:
                self._first.clear()
                # By the canonical run, most programs have nothing for most sweeps.
                self._learning = [
                    entry.strategy
                    for entry in (*self._turns, self._last, *self._walks)
                    if not getattr(entry.strategy, "is_empty", False)
                ]
        while True:
            turn = self._next()
            if turn is None or (turn is self._last and self.enumeration in ahead):
                return None
            if (plan := self._ask(turn)) is not None:
                return turn.strategy, plan
            if ahead:
                return None
            turn.over = True
            if turn is self._last and self.enumeration.covered:
                return None

    def observe(self, choices: Choices, failed: bool) -> None:
        """Pass the choices of a run to all strategies; `failed` is True if the run failed."""
        for strategy in self._learning:
            strategy.observe(choices, failed)

    def _ask(self, entry: Entry) -> Plan | None:
        plan = entry.strategy.plan()
        if plan is not None:
            entry.made += 1
            entry.counted += entry.cost
        return plan

    def _next(self) -> Entry | None:
        """Return the entry whose turn it is; None if no strategy has more to try. Sweeps take turns first, then the
        enumeration of all schedules; random walks too, unless all schedules seem to fit into the budget, since they
        would only repeat them."""
        self._turns = _with_more(self._turns)
        taking = [entry for entry in self._turns if not entry.is_waiting]
        if not taking:
            taking = _with_more([self._last])
        if self._last.over or not self.enumeration.seems_to_fit:
            self._walks = _with_more(self._walks)
            taking += self._walks
        return min(taking, key=_COUNTED, default=None)

    def _share_of(self, weight: float) -> int:
        """Return about how many of the remaining runs a sweep of this weight will make."""
        taking = [entry for entry in _with_more([*self._turns, *self._walks]) if not entry.is_waiting]
        return max(1, round(self._left() * (weight / sum(entry.weight for entry in taking))))
