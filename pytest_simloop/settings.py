"""What a test asks for: its markers, and the command line over them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import pytest

from simloop.choices.choices import check_seed
from simloop.choices.tokens import decode
from simloop.errors import SimulationError
from simloop.explore.campaign import DEFAULT_RUNS, check_runs, check_shrink_runs
from simloop.explore.shrink import DEFAULT_BUDGET
from simloop.simulation.limits import Limits

MARKER = "simloop"
_OF_CAMPAIGN = ("runs", "seed", "shrink_runs")
_ACCEPTED = (*_OF_CAMPAIGN, *Limits.__dataclass_fields__)


@dataclass(frozen=True)
class Settings:
    """One test's campaign."""

    runs: int
    seed: int
    limits: Limits
    replay: str | None
    #: How many runs may be spent on making a failure small; 0 leaves it as it was found.
    shrink_runs: int


def settings_of(item: pytest.Item, name: str) -> Settings:
    """The settings of a test; raises `SimulationError` for a marker that means nothing."""
    marked: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers(MARKER))):
        if mark.args:
            raise SimulationError(f"@pytest.mark.{MARKER} takes keywords only: {', '.join(_ACCEPTED)}")
        unknown = [key for key in mark.kwargs if key not in _ACCEPTED]
        if unknown:
            raise SimulationError(
                f"@pytest.mark.{MARKER} has no keyword {unknown[0]!r}: use one of {', '.join(_ACCEPTED)}"
            )
        marked.update(mark.kwargs)
    option = item.config.option
    for key in ("runs", "seed", "profile", "shrink_runs", "blocking"):
        given = getattr(option, f"sim_{key}")
        if given is not None:
            marked[key] = given
    if option.sim_cancel:
        marked["cancel"] = True
    if option.sim_replay is not None and not option.sim_replay.isdigit():
        marked["profile"] = decode(option.sim_replay).profile
    runs = check_runs(marked.pop("runs", DEFAULT_RUNS))
    # Sixteen bits: the seed is part of every token, and a test needs no more of them.
    seed = check_seed(marked.pop("seed", zlib.crc32(name.encode()) & 0xFFFF))
    shrink_runs = check_shrink_runs(marked.pop("shrink_runs", DEFAULT_BUDGET))
    return Settings(runs, seed, Limits(**marked), option.sim_replay, shrink_runs)


def test_name(item: pytest.Item) -> str:
    """What identifies a test in its tokens: its node id without directories, so that a moved file keeps them."""
    path, colons, rest = item.nodeid.partition("::")
    return path.rpartition("/")[2] + colons + rest


test_name.__test__ = False  # type: ignore[attr-defined]
