"""Settings of one test, merged: the command line overrides markers, and markers override the ini file."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_simloop.options import KEYWORDS, given_settings, ini_settings, seconds_of
from simloop.choices.choices import check_seed
from simloop.errors import SimulationError
from simloop.explore.campaign import DEFAULT_RUNS, DEFAULT_SHRINK_RUNS, check_runs, check_shrink_runs
from simloop.simulation.limits import Limits, checked_limits

if TYPE_CHECKING:
    from pytest_simloop.simulated import Simulated

MARKER = "simloop"


class Settings(NamedTuple):
    """Settings of the plugin for one test, all of them valid."""

    runs: int
    seed: int
    limits: Limits
    replay: str | None
    #: Maximum number of runs to shrink a failure; 0 to leave it as it was found.
    shrink_runs: int
    #: Real seconds for which to explore, instead of a number of runs; None for a number of runs.
    seconds: float | None = None
    #: Names of the strategies to use; all if empty.
    strategies: tuple[str, ...] = ()
    #: True if the campaign continues from where earlier ones ended, and later ones from where it ends.
    corpus: bool = False
    #: Number of processes that make runs; None for this one alone, which learns from each run before it plans the next.
    jobs: int | None = None
    #: True if failures are also replayed on stock asyncio's own event loop.
    prove: bool = False


def settings_of(item: pytest.Item, name: str) -> Settings:
    """Return the settings of a test. Raises `SimulationError` for an invalid marker."""
    config = item.config
    found = ini_settings(config)
    for mark in reversed(list(item.iter_markers(MARKER))):
        if mark.args == (False,):
            continue  # for a wider marker than this one: it leaves the test alone
        if mark.args:
            raise SimulationError(f"@pytest.mark.{MARKER} takes keywords only: {', '.join(KEYWORDS)}")
        unknown = [key for key in mark.kwargs if key not in KEYWORDS]
        if unknown:
            raise SimulationError(
                f"@pytest.mark.{MARKER} has no keyword {unknown[0]!r}: use one of {', '.join(KEYWORDS)}"
            )
        found = {**found, **mark.kwargs}
    found = {**found, **given_settings(config)}
    replay = config.option.sim_replay
    if replay is not None and not replay.isdigit():
        from simloop.choices.tokens import decode

        found["profile"] = decode(replay).profile
    limits = checked_limits({name: found[name] for name in Limits._fields if name in found})
    runs = check_runs(found.get("runs", 1 if getattr(item, "once", False) else DEFAULT_RUNS))
    # Sixteen bits: the seed is part of every token, and a test needs no more of them.
    seed = check_seed(found.get("seed", zlib.crc32(name.encode()) & 0xFFFF))
    shrink_runs = check_shrink_runs(found.get("shrink_runs", DEFAULT_SHRINK_RUNS))
    # Who types a number of runs means that, whatever the file says of time; and the other way round.
    given = given_settings(config)
    seconds = seconds_of(found["time"]) if "time" in found and not ("runs" in given and "time" not in given) else None
    corpus = bool(found.get("corpus"))
    strategies: tuple[str, ...] = ()
    if "strategy" in found:
        from simloop.explore.portfolio import check_strategies

        strategies = tuple(check_strategies(str(found["strategy"]).split(","), corpus))
    return Settings(
        runs,
        seed,
        limits,
        replay,
        shrink_runs,
        seconds=seconds,
        strategies=strategies,
        corpus=corpus,
        jobs=_jobs(found.get("jobs")),
        prove=bool(found.get("prove")),
    )


def _jobs(value: int | str | None) -> int | None:
    """Return the number of processes that make the runs of a test. With pytest-xdist, the processors are divided among
    its workers."""
    if value is None:
        return None
    from simloop.explore.jobs import check_jobs

    jobs = check_jobs(value)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return jobs if workers == 1 else max(1, min(jobs, check_jobs("auto") // workers))


def test_name(item: pytest.Item | Simulated) -> str:
    """Return the name by which tokens identify a test: its node id without directories, so that tokens stay valid when
    its file is moved."""
    path, colons, rest = item.nodeid.partition("::")
    return path.rpartition("/")[2] + colons + rest


test_name.__test__ = False  # type: ignore[attr-defined]
