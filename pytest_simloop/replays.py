"""Replays of a simulated test by pytest: of the schedule of a token, or of a passed test for its breakpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_simloop import timeouts
from pytest_simloop.confirm import note_signature
from pytest_simloop.sections import describe_replay
from simloop.choices.choices import Choices
from simloop.explore.campaign import Campaign
from simloop.explore.export import ExportError, export

if TYPE_CHECKING:
    from pytest_simloop.trial import Trial
    from simloop.choices.schedule import Schedule
    from simloop.simulation.outcome import Outcome
    from simloop.simulation.run import Execute
    from simloop.world.observer import Observer


def replay(trial: Trial, token: str, title: str = "") -> None:
    """Run a test under one schedule, given by a token or a plain seed. Raises the exception of the test, if it
    fails."""
    own = trial.scheduled(token)[0].profile

    def execute(
        choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
    ) -> Outcome:
        return trial.item.execute(choices, observer, profile=profile or own, final=final)

    campaign = Campaign(execute, trial.name, profile=own, dismiss=trial.dismiss)
    with timeouts.ending(trial.item, campaign):
        outcome, explanation, schedule = campaign.replay(token)
    if outcome.exception is not None:
        note_signature(outcome.exception)

        tail = []
        if trial.settings.prove:
            from simloop.explore.proof import prove

            tail.append(prove(execute, schedule, outcome.exception))
        if trial.item.config.option.sim_export is not None:
            tail.append(_exported(trial, execute, schedule, outcome.exception, token))
        trial.item.section = title + describe_replay(trial.item, explanation, schedule, tail)
        raise outcome.exception


def _exported(trial: Trial, execute: Execute, schedule: Schedule, error: BaseException, token: str) -> str:
    """Write the script that the command line asks for (an export of the failure). Returns a sentence that says where,
    or why there is none."""
    file = Path(trial.item.config.option.sim_export)
    try:
        file.write_text(export(execute, schedule, error, getattr(trial.item, "function", None), token))
    except (ExportError, OSError) as reason:
        return f"not exported: {reason}"
    return f"exported: python {file} fails in the same way, without simloop"


def look(trial: Trial, *, numbered: bool = False) -> None:
    """Repeat a test that has passed with active breakpoints: under the schedule of the token on the command line, or
    else in the canonical run."""
    settings = trial.settings
    profile, choices = settings.limits.profile, Choices(settings.seed, numbered=numbered)
    if settings.replay is not None:
        schedule, choices = trial.scheduled(settings.replay)
        profile = schedule.profile
    exception = trial.item.execute(choices, profile=profile, final=True).exception
    if exception is not None:
        raise exception
