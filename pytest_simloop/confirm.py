"""Replays a failure once in a fresh process, before it is reported.

What a seed cannot cover is string hashing and state that earlier tests left behind: a failure that depends
on either is reported as such, with an environment under which it can be seen again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_simloop.options import repeated_options
from simloop.explore.signature import signature_of

if TYPE_CHECKING:
    from pytest_simloop.item import SimulatedItem
    from simloop.explore.campaign import Failure

# Names the file into which a confirming child process writes how its replay failed.
_SIGNATURE_FILE = "SIMLOOP_SIGNATURE_FILE"
_HASH_SEEDS = ("0", "1", "2", "3")
_PATIENCE = 120.0


@dataclass(frozen=True)
class Confirmation:
    """What fresh processes said, and the PYTHONHASHSEED under which one failed, if it took one."""

    verdict: str
    hash_seed: str | None = None


SAME = Confirmation("same")
NEVER = Confirmation("never")
UNKNOWN = Confirmation("unknown")


def confirming() -> bool:
    """Whether this process was only started to confirm a failure of another one: nobody sits in front of it."""
    return _SIGNATURE_FILE in os.environ


def note_signature(error: BaseException) -> None:
    """In a confirming child: tell the parent how the replay failed."""
    path = os.environ.get(_SIGNATURE_FILE)
    if path:
        Path(path).write_text(str(signature_of(error)))


def confirm(item: SimulatedItem, failure: Failure) -> Confirmation:
    """Replay `failure` in a fresh process; under a few fixed PYTHONHASHSEEDs where it does not fail in the first."""
    if confirming():
        return UNKNOWN
    wanted = str(signature_of(failure.exception))
    first = _replay(item, failure.token, None)
    if first is None:
        return UNKNOWN
    if first == wanted:
        return SAME
    for seed in _HASH_SEEDS:
        if _replay(item, failure.token, seed) == wanted:
            return Confirmation("only with a hash seed", seed)
    return NEVER


def _replay(item: SimulatedItem, token: str, hash_seed: str | None) -> str | None:
    """How the token fails in a fresh process: empty when it passes, None when that cannot be told."""
    config = item.config
    option = config.option
    command = [sys.executable, "-m", "pytest", item.nodeid, f"--sim-replay={token}", "-q", "-p", "no:cacheprovider"]
    command += [f"--rootdir={config.rootpath}", f"--import-mode={option.importmode}"]
    command += repeated_options(config)
    command += [f"-W{warning}" for warning in option.pythonwarnings or ()]
    if config.inipath is not None:
        command += ["-c", str(config.inipath)]
    for plugin in option.plugins or ():
        command += ["-p", plugin]
    for pair in option.override_ini or ():
        command += ["-o", pair]
    environment = dict(os.environ)
    # A coverage tool or an xdist worker must not take the child for one of its own.
    for name in [name for name in environment if name.startswith(("PYTEST_XDIST", "COV_CORE"))]:
        del environment[name]
    if hash_seed is not None:
        environment["PYTHONHASHSEED"] = hash_seed
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "signature")
        environment[_SIGNATURE_FILE] = str(path)
        try:
            child = subprocess.run(
                command,
                cwd=config.rootpath,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if child.returncode not in (0, 1):
            return None
        return path.read_text() if path.exists() else ""
