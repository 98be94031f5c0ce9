"""Results of a campaign: the failure that it found, and the report on all its runs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from simloop.choices.schedule import Schedule
from simloop.report.explanation import Explanation
from simloop.report.text import Line, command, failure_text


@dataclass
class Failure:
    """What a campaign found."""

    #: The schedule as one line; `simloop.replay` takes it.
    token: str
    #: What the test raised, in the last replay of the token.
    exception: BaseException
    #: The number of the run of the campaign in which it was found; the canonical run is number 1.
    run_number: int
    #: Which strategy found it.
    strategy: str
    schedule: Schedule
    #: What happened, for a person to read.
    explanation: Explanation = field(repr=False)
    #: How many deviations the run had in which it was found.
    deviations_found: int = 0

    @property
    def runs(self) -> int:
        """The old name of `run_number`."""
        warnings.warn("Failure.runs is now called run_number", DeprecationWarning, stacklevel=2)
        return self.run_number

    @property
    def story(self) -> list[str]:
        """One sentence for each deviation of the schedule, in the order of their happening."""
        return self.explanation.sentences

    def describe(self) -> str:
        """The report as text, at most 100 columns by 60 lines: what made it fail, the steps of the failing and of a
        passing run, whether it can happen on stock asyncio, and the token."""
        head = f"failed in run {self.run_number} ({self.strategy})"
        lines = failure_text(head, self.explanation, [Line(""), *command(["token:", self.token])])
        return "\n".join(line.text for line in lines)


@dataclass
class Report:
    """What came of a campaign: ``failure`` is None when every run passed."""

    failure: Failure | None = None
    #: How many schedules were run.
    runs: int = 0
    #: How many of the runs differed from all before them in more than the times at which the same things happened.
    distinct: int = 0
    #: How many schedules there are in all, when each of them was run; else 0.
    schedules_in_all: int = 0
    #: Whether the environment could decide anything at all in the canonical run.
    has_choices: bool = False

    @property
    def complete(self) -> int:
        """The old name of `schedules_in_all`."""
        warnings.warn("Report.complete is now called schedules_in_all", DeprecationWarning, stacklevel=2)
        return self.schedules_in_all

    def __bool__(self) -> bool:
        return self.failure is None
