"""The command-line options. Their values are checked by simloop, which is imported when one is given."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest


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
        type=_checked("runs"),
        help="how many schedules to run of each test (default: 100, or what its marker says)",
    )
    group.addoption(
        "--sim-seed",
        metavar="S",
        type=_checked("seed"),
        help="the seed that exploring starts from (default: derived from the test's name)",
    )
    group.addoption(
        "--sim-replay",
        metavar="TOKEN",
        type=_checked("replay"),
        help="run one schedule only: the token of a report, or the seed of a run; implies --sim",
    )
    group.addoption(
        "--sim-profile",
        metavar="NAME",
        type=_checked("profile"),
        help="which orders count as legal: cpython (default), portable or hostile",
    )


def _checked(option: str) -> Callable[[str], Any]:
    """Turns what is wrong with a value into argparse's one line."""

    def convert(text: str) -> Any:
        from simloop.errors import SimulationError

        try:
            return _parse(option, text.strip())
        except SimulationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None

    return convert


def _parse(option: str, text: str) -> Any:
    from simloop.choices import check_profile, check_seed, decode
    from simloop.explore.campaign import check_runs

    if option == "runs":
        return check_runs(int(text))
    if option == "seed":
        return check_seed(int(text))
    if option == "profile":
        return check_profile(text)
    if text.isdigit():
        check_seed(int(text))
    else:
        decode(text)
    return text
