"""Pairs of a wrong program and its mended version, and how a campaign is held to both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from statistics import median
from typing import Any

from sizes import examples

import simloop

Main = Callable[[], Coroutine[Any, Any, Any]]
Pair = tuple[Main, Main]
RUNS = 100
# What is found is a matter of strategies, hardly of the Python: on each change, one of them tries some more seeds.
SEEDS = range(0, 100_000, 10_000)[: max(examples(10), 4 if sys.version_info >= (3, 13) else 1)]
# Campaigns that find nothing take their full number of runs.
FEW_SEEDS = SEEDS[: examples(3)]


def pair_into(pairs: list[Pair]) -> Callable[[Callable[[bool], Main]], Callable[[bool], Main]]:
    """Return a decorator for ``make(mended)``, which adds both programs that it makes to `pairs`."""

    def pair(make: Callable[[bool], Main]) -> Callable[[bool], Main]:
        wrong, mended = make(False), make(True)
        wrong.__name__ = make.__name__
        pairs.append((wrong, mended))
        return make

    return pair


def hold(wrong: Main, mended: Main, **options: Any) -> None:
    """Assert that campaigns of the default size find the race, in the median of its seeds, and nothing where it is
    mended."""
    reports = [simloop.explore(wrong, runs=RUNS, seed=seed, **options) for seed in SEEDS]
    needed = [report.runs if report.failure is not None else RUNS + 1 for report in reports]
    assert median(needed) <= RUNS, needed
    for seed in FEW_SEEDS:
        report = simloop.explore(mended, runs=RUNS, seed=seed, **options)
        assert report.failure is None, report.failure
