"""Sections that a failing simulated test adds to pytest's report: the explanation, and how to replay the failure."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from pytest_simloop import internals
from pytest_simloop.confirm import NEVER, SAME, Confirmation
from pytest_simloop.options import repeated_options
from simloop.errors import SimulationError
from simloop.explore.result import FROM_NOW, alike_by
from simloop.explore.signature import FailedElsewhere
from simloop.report.text import Line, command, failure_text, paragraph

if TYPE_CHECKING:
    import pytest

    from pytest_simloop.settings import Settings
    from pytest_simloop.simulated import Simulated
    from simloop.choices.schedule import Schedule
    from simloop.explore.failure import Failure
    from simloop.explore.result import Report
    from simloop.report.explanation import Explanation

# Packages whose frames say nothing of a test.
_MACHINERY = {"simloop", "pytest_simloop", "asyncio", "_pytest", "pluggy", "contextlib"}
# How the roles of lines look, as select graphic rendition codes of ECMA-48: pytest's own colours for the same things.
_STYLES = {"title": "1", "cause": "31", "code": "36", "verdict": "33"}


def describe_failure(
    item: Simulated,
    report: Report,
    failure: Failure,
    settings: Settings,
    confirmation: Confirmation,
    *,
    saved_at: str | None,
) -> str:
    profile = settings.limits.profile
    budget = f" of {settings.runs}" if settings.seconds is None else ""
    parts = [failure.strategy, f"{report.distinct} distinct so far", f"profile {profile}"]
    parts += alike_by(numbered=failure.schedule.numbered, forked=report.forked) + [FROM_NOW] * item.from_now
    head = f"failed in run {failure.run_number}{budget} ({'; '.join(parts)})"
    tail = paragraph(failure.prove()) if settings.prove else []
    tail += [Line(""), Line("replay it:", "title"), *command(_command(item, failure.token, confirmation))]
    if saved_at is not None:
        tail += paragraph(f"saved in {saved_at}: the next run of the test begins with it")
    tail += [line for text in _confirmed(confirmation) for line in paragraph(text)]
    return _text(item.config, failure_text(head, failure.explanation, tail, whole=_whole(item)))


def describe_replay(item: Simulated, explanation: Explanation, schedule: Schedule, tail: list[str]) -> str:
    lines = [line for text in tail for line in paragraph(text)]
    parts = [f"profile {schedule.profile}, seed {schedule.seed}", *alike_by(numbered=schedule.numbered)]
    head = f"replayed ({'; '.join(parts)})"
    return _text(item.config, failure_text(head, explanation, lines, whole=_whole(item)))


def _whole(item: Simulated) -> bool:
    return bool(item.config.get_verbosity() >= 2)


def _text(config: pytest.Config, lines: list[Line]) -> str:
    """Return lines of a report as text, coloured if pytest colours its own output and writes it to a terminal only."""
    coloured = config.get_terminal_writer().hasmarkup and not getattr(config.option, "xmlpath", None)
    return "\n".join(_styled(line) if coloured else line.text for line in lines)


def _styled(line: Line) -> str:
    style = _STYLES.get(line.role)
    return f"\x1b[{style}m{line.text}\x1b[0m" if style and line.text else line.text


def _command(item: Simulated, token: str, confirmation: Confirmation) -> list[str]:
    option = item.config.option
    file = os.path.relpath(item.path, item.config.invocation_params.dir)
    node = file + "::" + item.nodeid.partition("::")[2]
    words = ["pytest", shlex.quote(node), f"--sim-replay={token}"]
    # What decides how the test runs must be the same: who else would claim it, who may be cancelled, what is an error.
    words += [f"-p {name}" for name in option.plugins or () if name.startswith("no:") and name != "no:cacheprovider"]
    words += repeated_options(item.config)
    words += [shlex.quote(f"-W{warning}") for warning in option.pythonwarnings or ()]
    if confirmation.hash_seed is not None:
        words.insert(0, f"PYTHONHASHSEED={confirmation.hash_seed}")
    return words


def _confirmed(confirmation: Confirmation) -> list[str]:
    if confirmation.hash_seed is not None:
        return [
            "in a fresh process it fails only under some PYTHONHASHSEEDs, such as the one in the command: "
            "the program depends on the order in which strings hash"
        ]
    if confirmation == SAME:
        return ["in a fresh process it fails in the same way"]
    if confirmation == NEVER:
        return ["in a fresh process it does NOT fail: it depends on state that earlier tests or runs have left behind"]
    if confirmation.fixture is not None:
        return [
            f"not replayed in a fresh process, which would set up and tear down {confirmation.fixture!r} "
            "beside this session"
        ]
    return []


def in_words(item: Simulated, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    """Return a failure of the simulation, in which no code of the test takes part, without a traceback. None for any
    other."""
    error = excinfo.value
    if not isinstance(error, (SimulationError, FailedElsewhere)) or any(map(is_foreign, excinfo.traceback)):
        return None
    text = error.told if isinstance(error, FailedElsewhere) else f"{type(error).__name__}: {error}"
    message = str(error) if isinstance(error, FailedElsewhere) else text
    return internals.failure_in_words(item.location, "\n".join(filter(None, [text, item.section])), message)


def with_sections(item: Simulated, shown: Any) -> Any:
    """Add the sections of a test to its failure, as pytest is about to show it, and return that."""
    if item.section and hasattr(shown, "addsection"):
        shown.addsection("simulation", item.section)
        for title, text in item.extra_sections:
            shown.addsection(title, text)
    return shown


def is_foreign(entry: Any) -> bool:
    """Return True for an entry of a traceback outside of simloop, asyncio and pytest."""
    module = entry.frame.f_globals.get("__name__", "")
    return module.partition(".")[0] not in _MACHINERY
