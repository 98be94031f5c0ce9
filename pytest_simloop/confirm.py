"""Confirmation of failures: each is replayed once in a fresh process before it is reported.

A token does not determine string hashing, nor state that earlier tests left behind: a failure that depends on either is
reported as such, with a PYTHONHASHSEED that reproduces it, if one is found.
"""

from __future__ import annotations

import inspect
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_simloop import internals
from pytest_simloop.environment import SIGNATURE_FILE, confirming
from pytest_simloop.options import repeated_options
from pytest_simloop.tied import is_tied
from simloop.explore.signature import signature_of
from simloop.sources import is_library

if TYPE_CHECKING:
    from pytest_simloop.replayer import Replayer
    from pytest_simloop.simulated import Simulated
    from simloop.explore.failure import Failure

# What may stand on the command line and makes no difference to a test, or is repeated for the replay: values, and
# options of pytest and of its plugins for reports and distribution.
_NEUTRAL = re.compile(
    r"[^-]|-[a-zA-Z]|--(sim|tb|durations|junit|rootdir|import-mode|config-file|override-ini|pythonwarnings|maxfail"
    r"|exitfirst|verbos|quiet|color|show|no-|last-failed|lf|failed-first|ff|new-first|nf|stepwise|sw|cache|capture|log"
    r"|report|html|json|cov|dist|numprocesses|maxprocesses|deselect|ignore|full-trace|strict|basetemp|pdb|trace"
    r"|disable-warnings|reruns|randomly|timeout)"
)
_HASH_SEEDS = ("0", "1", "2", "3")
# The processes of the session, by their PYTHONHASHSEED.
_REPLAYERS = pytest.StashKey["dict[str | None, Replayer]"]()
# Present once a replay did not end: the suite needs something that only one process may have, such as a port.
_HANGS = pytest.StashKey[bool]()


@dataclass(frozen=True)
class Confirmation:
    """Result of replaying a failure in fresh processes: a verdict, and the PYTHONHASHSEED that was needed to reproduce
    it, or None. Without a replay, `fixture` is the fixture for which none was made, or None."""

    verdict: str
    hash_seed: str | None = None
    fixture: str | None = None


SAME = Confirmation("same")
NEVER = Confirmation("never")
UNKNOWN = Confirmation("unknown")


def note_signature(error: BaseException) -> None:
    """Write the signature of a replay's failure to the file that an environment variable names. Does nothing in a
    process that is not a replay for another session."""
    path = os.environ.get(SIGNATURE_FILE)
    if path:
        Path(path).write_text(str(signature_of(error)))


def confirm(item: Simulated, failure: Failure) -> Confirmation:
    """Replay `failure` in a fresh process and return the verdict. If it does not fail in the same way, it is also
    replayed with a few fixed PYTHONHASHSEEDs."""
    if confirming() or _HANGS in item.config.stash:
        return UNKNOWN
    fixture = set_up_once(item)
    if fixture is not None:
        return Confirmation("unknown", fixture=fixture)
    wanted = str(signature_of(failure.exception))
    first = _replay(item, failure.token, None)
    if first is None:
        return UNKNOWN
    if first == wanted:
        return SAME
    if not all(_NEUTRAL.match(str(argument)) for argument in item.config.invocation_params.args):
        return UNKNOWN  # it may be another test without that option, which the replay was not given
    for seed in _HASH_SEEDS:
        if _replay(item, failure.token, seed) == wanted:
            return Confirmation("only with a hash seed", seed)
    return NEVER


def set_up_once(item: Any) -> str | None:
    """Return the name of a fixture of the item that may stand for something that only one process can have, or None.
    Such a fixture outlives the test, is set up in the real world and has something to tear down: a database, a server,
    a directory. If a second process set it up and tore it down beside this one, later tests would not find it any
    more."""
    for name in internals.wide_fixtures(item):
        if getattr(item, "sets_up_class", False) and internals.is_class_setup(name):
            continue  # in each run, in its world
        definition = internals.fixture_definition(item, name)
        function = definition.func
        code = getattr(function, "__code__", None)
        tears_down = inspect.isgeneratorfunction(function) or (code is not None and "addfinalizer" in code.co_names)
        if not tears_down or internals.is_default_of_unittest(item, name):
            continue
        # As pytest calls those that stand for `setup_module` and the like.
        xunit = re.fullmatch(r"_(?:unittest|xunit)_(\w+?)_fixture.*", name)
        if xunit is None and code is not None and is_library(code.co_filename) and internals.is_autouse(item, name):
            continue  # what a plugin sets up for all tests alike any session does, also two at once
        if not is_tied(definition, item):
            return xunit[1] if xunit is not None else name
    return None


def _replay(item: Simulated, token: str, hash_seed: str | None) -> str | None:
    """Replay the run that a token describes, in a fresh process. Return the signature of its failure, an empty string
    if the test passes, or None if there is no result, for example because no process could be started."""
    config = item.config
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "signature")
        try:
            status = replayer_of(config, hash_seed).replay(node_of(item), token, file)
        except OSError:  # no process can be started
            return None
        if status is not None and status < 0:
            config.stash[_HANGS] = True
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return None
        return file.read_text() if file.exists() else ""


def _arguments(config: pytest.Config) -> list[str]:
    """Return the command-line arguments with which another pytest process runs tests like this session."""
    option = config.option
    arguments = [*config.args, "-q", "-p", "no:cacheprovider"]
    arguments += [f"--rootdir={config.rootpath}", f"--import-mode={option.importmode}"]
    arguments += repeated_options(config)
    arguments += [f"-W{warning}" for warning in option.pythonwarnings or ()]
    if config.inipath is not None:
        arguments += ["-c", str(config.inipath)]
    for plugin in option.plugins or ():
        arguments += ["-p", plugin]
    for pair in option.override_ini or ():
        arguments += ["-o", pair]
    if hasattr(option, "numprocesses"):  # of xdist: one test needs no workers, whatever the ini file says
        arguments += ["-n0"]
    return arguments


def node_of(item: Simulated) -> str:
    """Return the node id of a test with the absolute path of its file, for the command line."""
    return str(item.path) + "::" + item.nodeid.partition("::")[2]


def replayer_of(config: pytest.Config, hash_seed: str | None = None) -> Replayer:
    """Return the process that makes replays for this session with a PYTHONHASHSEED, started on first use. It ends when
    pytest ends, also if pytest is killed."""
    replayers = config.stash.setdefault(_REPLAYERS, {})
    if hash_seed not in replayers:
        from pytest_simloop.replayer import Replayer

        replayers[hash_seed] = replayer = Replayer(_arguments(config), config.invocation_params.dir, hash_seed)
        config.add_cleanup(replayer.close)
    return replayers[hash_seed]
