"""Table of the plugin's settings, and the three ways to set one: on the command line, by marker, in pytest's ini file.

A setting is one row of `SETTINGS`. Values are checked by simloop, which is only imported if one is given.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from pytest_simloop import internals


def _limit(name: str) -> Callable[[Any], Any]:
    """Return a function that checks values of one field of `simloop.simulation.Limits`."""

    def check(value: Any) -> Any:
        from simloop.simulation.limits import Limits

        return getattr(Limits(**{name: value}).check(), name)

    return check


def _runs(value: Any) -> Any:
    from simloop.explore.campaign import check_runs

    return check_runs(value)


def _shrink_runs(value: Any) -> Any:
    from simloop.explore.campaign import check_shrink_runs

    return check_shrink_runs(value)


def _strategies(value: Any) -> Any:
    """Return the given names of strategies, separated by commas, if all are valid. Raises `ConfigurationError`
    otherwise."""
    from simloop.explore.portfolio import check_strategies

    check_strategies(str(value).split(","))
    return value


#: Units of time and their lengths in seconds.
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds_of(value: Any) -> float:
    """Return the number of seconds that a text such as ``60s``, ``1.5m`` or ``2h`` means. Raises `ConfigurationError`
    for any other."""
    from simloop.errors import ConfigurationError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)", value.strip()) if isinstance(value, str) else None
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not seconds:
        raise ConfigurationError(f"time must be more than 0, with its unit, such as 60s, 5m or 2h, not {value!r}")
    return seconds


def _jobs(value: Any) -> Any:
    from simloop.explore.jobs import check_jobs

    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    check_jobs(value)
    return value


def _time(value: Any) -> Any:
    seconds_of(value)
    return value


def _seed(value: Any) -> Any:
    from simloop.choices.choices import check_seed

    return check_seed(value)


#: Value of the setting `seed` that asks for a random seed, drawn once for a session.
RANDOM = "random"
# Drawn seeds are of so many bits: they are part of every token.
_DRAWN_BITS = 32


class Setting(NamedTuple):
    """Setting of the plugin: ``--sim-NAME``, ``@pytest.mark.simloop(NAME=...)`` or, in an ini file, ``sim_NAME``."""

    name: str
    #: Type of the setting's values.
    kind: type
    help: str
    #: Function that returns the checked value or raises `simloop.ConfigurationError`. None if any value of the type is
    #: valid.
    check: Callable[[Any], Any] | None = None
    metavar: str | None = None
    #: True if the setting applies to a single test, so that a marker may contain it.
    of_test: bool = True
    #: True if schedules depend on the setting, so that a replay must be given it, too.
    of_schedule: bool = True

    @property
    def key(self) -> str:
        """Name of the setting in an ini file and in `config.option`."""
        return self.name if self.name == "sim" else f"sim_{self.name}"

    @property
    def option(self) -> str:
        return "--" + self.key.replace("_", "-")

    @property
    def described(self) -> str:
        if self.name == "seed":
            return f"a whole number, or {RANDOM}"
        return {int: "a whole number", float: "a number", bool: "true or false", str: "one word"}[self.kind]

    def parsed(self, text: str) -> Any:
        """Return the setting's value that a text means, after checking it. Raises `ValueError`, or the exception of
        `check`."""
        if self.name == "seed" and text == RANDOM:
            return RANDOM  # drawn once the whole configuration is known
        return self.checked(self.kind(text))

    def checked(self, value: Any) -> Any:
        return value if self.check is None else self.check(value)


#: Names of the settings that are on by default, and switched off by an option ``--sim-no-NAME``.
_ON = ("confirm",)

SETTINGS = (
    Setting("sim", bool, "run every async test in a simulated world, over many schedules", of_test=False),
    Setting("runs", int, "how many schedules to run of each test (default: 100)", _runs, "N", of_schedule=False),
    Setting(
        "time",
        str,
        "how long to explore each test, in real time, such as 60s, 5m or 2h, instead of a number of runs",
        _time,
        "TIME",
        of_schedule=False,
    ),
    Setting(
        "jobs",
        str,
        "how many processes make the runs of one test, or auto for one per processor (default: the test's own)",
        _jobs,
        "N",
        of_schedule=False,
    ),
    Setting(
        "strategy",
        str,
        "which strategies take turns, by their names with hyphens, separated by commas (default: all)",
        _strategies,
        "NAMES",
        of_schedule=False,
    ),
    Setting(
        "corpus",
        bool,
        "keep what was reached of each test, and go on from there the next time, by other runs",
        of_schedule=False,
    ),
    Setting(
        "seed",
        int,
        "the seed that exploring starts from, or random to draw one (default: derived from the test's name)",
        _seed,
        "S",
        of_schedule=False,
    ),
    Setting(
        "profile",
        str,
        "which orders count as legal: cpython (default), portable or hostile",
        _limit("profile"),
        "NAME",
        of_schedule=False,  # the token says it
    ),
    Setting("cancel", bool, "every task that a test function creates may be cancelled from outside", _limit("cancel")),
    Setting(
        "blocking",
        str,
        "what becomes of calls that block in a coroutine: warn (default), fail or ignore",
        _limit("blocking"),
        "ANSWER",
    ),
    Setting(
        "preempt",
        str,
        "where others may go before a simulated thread: before its calls (default), or also between lines of your code",
        _limit("preempt"),
        "WHERE",
    ),
    Setting(
        "shrink_runs",
        int,
        "how many runs to spend on making a failure small (default: 500)",
        _shrink_runs,
        "N",
        of_schedule=False,
    ),
    Setting("max_steps", int, "callbacks after which a run is given up (default: 1,000,000)", _limit("max_steps"), "N"),
    Setting(
        "max_time", float, "virtual seconds after which a run is given up (default: a day)", _limit("max_time"), "S"
    ),
    Setting(
        "max_stall",
        float,
        "virtual seconds for which one slow step may keep a loop from its timers (default: 0.05)",
        _limit("max_stall"),
        "S",
    ),
    Setting(
        "max_hang",
        float,
        "real seconds after which a run ends in which nothing goes on (default: 30)",
        _limit("max_hang"),
        "S",
    ),
    Setting("start", str, "when runs begin, by the wall clock; or now (default: 2026-01-01)", _limit("start"), "DATE"),
    Setting(
        "prove", bool, "replay a failure on stock asyncio's own loop, too, and say what came of it", of_schedule=False
    ),
    Setting("threads", bool, "deprecated, and makes no difference: threads are simulated always", _limit("threads")),
    Setting(
        "strict_programs",
        bool,
        "a program that is registered and never started is a failure",
        _limit("strict_programs"),
    ),
    Setting(
        "confirm",
        bool,
        "do not replay a failure in a fresh process before it is reported",
        of_test=False,
        of_schedule=False,
    ),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}
#: Names of the settings that the marker ``simloop`` accepts as keyword arguments.
KEYWORDS = tuple(setting.name for setting in SETTINGS if setting.of_test)
_INI = pytest.StashKey[dict[str, Any]]()
_DRAWN = pytest.StashKey[int]()
# The key of the drawn seed in what workers of pytest-xdist are given.
_DRAWN_SEED = "simloop_drawn_seed"


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("simloop", "simulation of asyncio tests")
    for setting in SETTINGS:
        parser.addini(setting.key, f"{setting.described}: the default of {_option_of(setting)}", default=None)
        if setting.kind is bool:
            on = setting.name not in _ON
            group.addoption(
                _option_of(setting), action="store_const", const=on, dest=setting.key, default=None, help=setting.help
            )
        else:
            group.addoption(
                setting.option, metavar=setting.metavar, type=_checked(setting.name, setting.parsed), help=setting.help
            )
    group.addoption(
        "--sim-replay",
        metavar="TOKEN",
        type=_checked("replay", _token),
        help="run one schedule only: the token of a report, or the seed of a run; implies --sim",
    )
    group.addoption(
        "--sim-export",
        metavar="FILE",
        help="with --sim-replay: write a script that shows the failure on stock asyncio, without simloop",
    )
    group.addoption(
        "--sim-no-shrink",
        action="store_const",
        const=0,
        dest="sim_shrink_runs",
        help="report the first failing run as it is",
    )


def _option_of(setting: Setting) -> str:
    return setting.option.replace("--sim-", "--sim-no-") if setting.name in _ON else setting.option


def check_options(config: pytest.Config) -> None:
    """Raise `pytest.UsageError` if options contradict each other, or if a value in the ini file is invalid."""
    _refuse_contradictions(config)
    config.stash[_INI] = {
        setting.name: _from_ini(setting, value, config)
        for setting in SETTINGS
        if (value := internals.ini_value(config, setting.key)) is not None
    }
    _draw_seed(config)


def _draw_seed(config: pytest.Config) -> None:
    """Replace the setting `seed` by a random number, if the command line or the ini file asks for a random seed."""
    ini, typed = config.stash[_INI], config.option.sim_seed
    if typed is None:
        typed = ini.get("seed")
    if typed != RANDOM:
        return
    import secrets

    # The workers of pytest-xdist explore from the seed that the main process has drawn.
    seed = getattr(config, "workerinput", {}).get(_DRAWN_SEED, secrets.randbits(_DRAWN_BITS))
    config.stash[_DRAWN] = seed
    if config.option.sim_seed == RANDOM:
        config.option.sim_seed = seed
    else:
        ini["seed"] = seed


def drawn_seed(config: pytest.Config) -> int | None:
    """Return the random seed that was drawn for this session; None if none was."""
    return config.stash.get(_DRAWN, None)


def hand_on_drawn_seed(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """Add the random seed of this session to `workerinput`, the data that a worker of pytest-xdist gets."""
    if (seed := drawn_seed(config)) is not None:
        workerinput[_DRAWN_SEED] = seed


def _from_ini(setting: Setting, value: Any, config: pytest.Config) -> Any:
    from simloop.errors import SimulationError

    try:
        if isinstance(value, str):
            text = value.strip()
            return setting.checked(_TRUTH[text.lower()]) if setting.kind is bool else setting.parsed(text)
        if type(value) is not setting.kind and (type(value), setting.kind) != (int, float):
            raise ValueError
        return setting.checked(value)
    except SimulationError as error:
        wrong = str(error)
    except (ValueError, KeyError):
        wrong = f"it must be {setting.described}, not {value!r}"
    file = config.inipath.name if config.inipath is not None else "the command line"
    raise pytest.UsageError(f"{setting.key} in {file}: {wrong}")


_TRUTH = {
    **dict.fromkeys(("1", "true", "yes", "on", "y", "t"), True),
    **dict.fromkeys(("0", "false", "no", "off", "n", "f"), False),
}


def ini_settings(config: pytest.Config) -> dict[str, Any]:
    """Return the settings of the plugin that the ini file contains, by name."""
    return config.stash[_INI]


def given_settings(config: pytest.Config) -> dict[str, Any]:
    """Return the settings of the plugin that the command line contains, by name."""
    given = {setting.name: getattr(config.option, setting.key) for setting in SETTINGS}
    return {name: value for name, value in given.items() if value is not None}


def for_session(config: pytest.Config, name: str) -> bool:
    """Return the value of a setting for the whole session: from the command line, or else from the ini file."""
    given = getattr(config.option, _BY_NAME[name].key)
    return bool(ini_settings(config).get(name, name in _ON) if given is None else given)


def repeated_options(config: pytest.Config) -> list[str]:
    """Return those options of this command line that a replay must be given too, because schedules depend on them."""
    given = {_BY_NAME[name]: value for name, value in given_settings(config).items()}
    return [
        setting.option if setting.kind is bool else f"{setting.option}={value}"
        for setting, value in given.items()
        if setting.of_schedule and setting.of_test
    ]


def _refuse_contradictions(config: pytest.Config) -> None:
    """Raise `pytest.UsageError` if two options on the command line contradict each other, so that one would be ignored.
    Options in `addopts` are defaults, which any option on the command line may override."""
    typed = [str(argument).partition("=")[0] for argument in config.invocation_params.args]
    if "--sim-no-shrink" in typed and "--sim-shrink-runs" in typed:
        raise pytest.UsageError("--sim-no-shrink and --sim-shrink-runs contradict each other: leave one away")
    if "--sim-time" in typed and "--sim-runs" in typed:
        raise pytest.UsageError("--sim-time and --sim-runs are two budgets for the same: leave one away")
    if "--sim-export" in typed and "--sim-replay" not in typed:
        raise pytest.UsageError("--sim-export writes a script for one schedule: say which with --sim-replay=TOKEN")
    if "--sim-replay" in typed:
        ignored = [
            f"--sim-{name}"
            for name in ("runs", "time", "jobs", "strategy", "corpus", "seed", "shrink-runs", "no-shrink")
        ]
        if not config.option.sim_replay.isdigit():
            ignored.append("--sim-profile")
        for option in ignored:
            if option in typed:
                raise pytest.UsageError(f"--sim-replay runs one schedule, and {option} means nothing to it")


def _checked(name: str, parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a function that parses the value of the setting `name` for argparse, and reports an error in one line."""

    def convert(text: str) -> Any:
        from simloop.errors import SimulationError

        try:
            value = parse(text.strip())
        except SimulationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {_BY_NAME[name].described}") from None
        if name == "shrink_runs" and value == 0:
            raise argparse.ArgumentTypeError("it must be at least 1, not 0: say --sim-no-shrink to not shrink at all")
        return value

    return convert


def _token(text: str) -> str:
    if text.isdigit():
        _seed(int(text))
    else:
        from simloop.choices.tokens import decode

        decode(text)
    return text
