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
    group.addoption(
        "--sim-cancel",
        action="store_true",
        help="every task that a test function creates may be cancelled from outside",
    )
    group.addoption(
        "--sim-blocking",
        metavar="ANSWER",
        type=_checked("blocking"),
        help="what becomes of calls that block in a coroutine: warn (default), fail or ignore",
    )
    group.addoption(
        "--sim-shrink-runs",
        metavar="N",
        type=_checked("shrink_runs"),
        help="how many runs to spend on making a failure small (default: 500, or what its marker says)",
    )
    group.addoption(
        "--sim-no-shrink",
        action="store_const",
        const=0,
        dest="sim_shrink_runs",
        help="report the first failing run as it is",
    )


def refuse_contradictions(config: pytest.Config) -> None:
    """Fail for two options of one command line of which one would be ignored. `addopts` holds defaults, which any
    option that was typed may override."""
    typed = [str(argument).partition("=")[0] for argument in config.invocation_params.args]
    if "--sim-no-shrink" in typed and "--sim-shrink-runs" in typed:
        raise pytest.UsageError("--sim-no-shrink and --sim-shrink-runs contradict each other: leave one away")
    if "--sim-replay" in typed:
        ignored = ["--sim-runs", "--sim-seed", "--sim-shrink-runs", "--sim-no-shrink"]
        if not config.option.sim_replay.isdigit():
            ignored.append("--sim-profile")
        for option in ignored:
            if option in typed:
                raise pytest.UsageError(f"--sim-replay runs one schedule, and {option} means nothing to it")


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
    from simloop.choices.choices import check_profile, check_seed
    from simloop.choices.tokens import decode
    from simloop.errors import ConfigurationError
    from simloop.explore.campaign import check_runs
    from simloop.simulation.blocking import check_blocking

    if option == "runs":
        return check_runs(int(text))
    if option == "shrink_runs":
        if int(text) < 1:
            raise ConfigurationError(f"it must be at least 1, not {text}: say --sim-no-shrink to not shrink at all")
        return int(text)
    if option == "seed":
        return check_seed(int(text))
    if option == "profile":
        return check_profile(text)
    if option == "blocking":
        return check_blocking(text)
    if text.isdigit():
        check_seed(int(text))
    else:
        decode(text)
    return text
