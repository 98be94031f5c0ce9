"""Handling of a failure by pytest: it is saved, confirmed in a fresh process, and described."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_simloop.confirm import UNKNOWN, confirm
from pytest_simloop.sections import describe_failure
from simloop.errors import StoreWarning, limit_met
from simloop.explore.signature import signature_of
from simloop.explore.store import Saved

if TYPE_CHECKING:
    from pytest_simloop.confirm import Confirmation
    from pytest_simloop.trial import Trial
    from simloop.explore.failure import Failure
    from simloop.explore.result import Report


def fail(trial: Trial, report: Report, failure: Failure) -> NoReturn:
    """Make a test fail with the failure that its campaign has found."""
    saved_at = keep(trial, failure)
    trial.item.section = described(trial, report, failure, confirmation(trial, failure), saved_at)
    trial.item.extra_sections = extra_sections(trial, failure)
    raise failure.exception


def keep(trial: Trial, failure: Failure) -> str | None:
    """Save a failure in the store of failing schedules. Returns the path of its file, or None if it could not be
    written."""
    error = signature_of(failure.exception).exception.rpartition(".")[2]
    entry = Saved(failure.token, error, failure.strategy, trial.settings.limits.cancel)
    try:
        path = trial.store.add(trial.item.nodeid, entry)
    except StoreWarning as warning:  # under -W error, which must not hide the failure
        failure.exception.add_note(str(warning))
        return None
    return None if path is None else _printable(path, trial.item.config)


def _printable(path: Path, config: pytest.Config) -> str:
    try:
        return str(path.relative_to(config.invocation_params.dir))
    except ValueError:
        return str(path)


def confirmation(trial: Trial, failure: Failure) -> Confirmation:
    """Return the verdict of a fresh process on a failure. No process is started with ``--pdb``, nor if confirming is
    switched off, nor for a limit of the simulation, which is no failure of the program."""
    asked = trial.confirms and not limit_met(failure.exception)
    return confirm(trial.item, failure) if asked else UNKNOWN


def described(trial: Trial, report: Report, failure: Failure, confirmation: Confirmation, saved_at: str | None) -> str:
    """Return the text of the report of a failure."""
    return describe_failure(trial.item, report, failure, trial.settings, confirmation, saved_at=saved_at)


def extra_sections(trial: Trial, failure: Failure) -> list[tuple[str, str]]:
    """Return the titles and texts that plugins add to the report of a failure."""
    return [] if trial.hooks is None else trial.hooks.sections(failure)
