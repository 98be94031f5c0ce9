"""What a test asks for: the marker, and the command line over it."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from simloop.choices import check_profile, check_seed, decode
from simloop.errors import SimulationError
from simloop.explore.campaign import DEFAULT_RUNS, check_runs
from simloop.simulation import Limits

MARKER = "simloop"
_OF_CAMPAIGN = ("runs", "seed")
_ACCEPTED = (*_OF_CAMPAIGN, *Limits.__dataclass_fields__)


@dataclass(frozen=True)
class Settings:
    """One test's campaign."""

    runs: int
    seed: int
    limits: Limits
    replay: str | None


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("simloop", "simulation of asyncio tests")
    group.addoption(
        "--sim",
        action="store_true",
        help="run every async test in a simulated world, over many schedules",
    )
    group.addoption(
        "--sim-runs",
        metavar="N",
        type=_parsed(lambda text: check_runs(int(text))),
        help=f"how many schedules to run of each test (default: {DEFAULT_RUNS}, or what its marker says)",
    )
    group.addoption(
        "--sim-seed",
        metavar="S",
        type=_parsed(lambda text: check_seed(int(text))),
        help="the seed that exploring starts from (default: derived from the test's name)",
    )
    group.addoption(
        "--sim-replay",
        metavar="TOKEN",
        type=_parsed(_token),
        help="run one schedule only: the token of a report, or the seed of a run; implies --sim",
    )
    group.addoption(
        "--sim-profile",
        metavar="NAME",
        type=_parsed(check_profile),
        help="which orders count as legal: cpython (default), portable or hostile",
    )


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
    for key in ("runs", "seed", "profile"):
        given = getattr(option, f"sim_{key}")
        if given is not None:
            marked[key] = given
    if option.sim_replay is not None and not option.sim_replay.isdigit():
        marked["profile"] = decode(option.sim_replay).profile
    runs = check_runs(marked.pop("runs", DEFAULT_RUNS))
    # Sixteen bits: the seed is part of every token, and a test needs no more of them.
    seed = check_seed(marked.pop("seed", zlib.crc32(name.encode()) & 0xFFFF))
    return Settings(runs, seed, Limits(**marked), option.sim_replay)


def test_name(item: pytest.Item) -> str:
    """What identifies a test in its tokens: its node id without directories, so that a moved file keeps them."""
    path, colons, rest = item.nodeid.partition("::")
    return path.rpartition("/")[2] + colons + rest


test_name.__test__ = False  # type: ignore[attr-defined]


def _parsed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return parse(text)
        except SimulationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None

    return convert


def _token(text: str) -> str:
    text = text.strip()
    if text.isdigit():
        check_seed(int(text))
    else:
        decode(text)
    return text
