"""The text that a failing simulated test adds to pytest's report."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from pytest_simloop.confirm import NEVER, SAME, Confirmation
from simloop.choices import Schedule

if TYPE_CHECKING:
    from pytest_simloop.item import SimulatedItem
    from pytest_simloop.settings import Settings
    from simloop.explore.campaign import Failure, Report


def describe_failure(
    item: SimulatedItem, report: Report, failure: Failure, settings: Settings, confirmation: Confirmation
) -> str:
    profile = settings.limits.profile
    lines = [f"failed in run {failure.runs} of {settings.runs} ({failure.strategy}, profile {profile})"]
    lines += _causes(failure.story)
    lines += ["", "replay it:", "  " + _command(item, failure.token, confirmation)]
    lines += _confirmed(confirmation)
    return "\n".join(lines)


def describe_replay(story: list[str], schedule: Schedule) -> str:
    return "\n".join([f"replayed (profile {schedule.profile}, seed {schedule.seed})", *_causes(story)])


def _causes(story: list[str]) -> list[str]:
    if not story:
        return ["it fails without any deviation: when nothing unusual happens"]
    if len(story) == 1:
        return ["it passes when nothing unusual happens; this is what makes it fail:", f"  {story[0]}"]
    return [
        f"it passes when nothing unusual happens; these {len(story)} things make it fail:",
        *(f"  {number}. {sentence}" for number, sentence in enumerate(story, 1)),
    ]


def _command(item: SimulatedItem, token: str, confirmation: Confirmation) -> str:
    file = os.path.relpath(item.path, item.config.invocation_params.dir)
    node = file + "::" + item.nodeid.partition("::")[2]
    # Whatever else would claim the test must stay away from the replay too.
    absent = "".join(f" -p {name}" for name in item.config.option.plugins or () if name.startswith("no:"))
    command = f"pytest {shlex.quote(node)} --sim-replay={token}{absent.replace(' -p no:cacheprovider', '')}"
    if confirmation.hash_seed is not None:
        return f"PYTHONHASHSEED={confirmation.hash_seed} {command}"
    return command


def _confirmed(confirmation: Confirmation) -> list[str]:
    if confirmation.hash_seed is not None:
        return [
            "in a fresh process it fails only under some PYTHONHASHSEEDs, such as the one in the command:",
            "the program depends on the order in which strings hash",
        ]
    if confirmation == SAME:
        return ["in a fresh process it fails in the same way"]
    if confirmation == NEVER:
        return ["in a fresh process it does NOT fail: it depends on state that earlier tests or runs have left behind"]
    return []
