"""Results of a campaign: the failure that it found, and the report on all its runs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simloop.choices.schedule import Schedule
    from simloop.report.explanation import Explanation


@dataclass
class Failure:
    """Failing schedule that a campaign found, made small, with what a person is told of it."""

    #: The schedule as one line; `simloop.replay` takes it.
    token: str
    #: Exception that the test raised, in the last replay of the token.
    exception: BaseException
    #: Number of the run of the campaign in which it was found; the canonical run is number 1.
    run_number: int
    #: Name of the strategy that found it.
    strategy: str
    #: Profile, seed and deviations: what the token is the text of.
    schedule: Schedule
    #: Failing run beside the nearest passing one, as the report tells them.
    explanation: Explanation = field(repr=False)
    #: Number of deviations of the run in which it was found, before it was made small.
    deviations_found: int = 0

    @property
    def runs(self) -> int:
        """Old name of `run_number`."""
        warnings.warn("Failure.runs is now called run_number", DeprecationWarning, stacklevel=2)
        return self.run_number

    @property
    def story(self) -> list[str]:
        """Sentences, one for each deviation of the schedule, in the order of their happening."""
        return self.explanation.sentences

    def describe(self) -> str:
        """Return the report as text, at most 100 columns by 60 lines: what made it fail, the steps of the failing and
        of a passing run, whether it can happen on stock asyncio, and the token."""
        from simloop.report.text import Line, command, failure_text

        head = f"failed in run {self.run_number} ({self.strategy})"
        lines = failure_text(head, self.explanation, [Line(""), *command(["token:", self.token])])
        return "\n".join(line.text for line in lines)


@dataclass
class Report:
    """Result of a campaign. It is true when every run passed.

    >>> import asyncio, simloop
    >>> async def main():
    ...     await asyncio.gather(*(asyncio.to_thread(int) for _ in range(2)))
    >>> report = simloop.explore(main, runs=20)
    >>> bool(report), report.runs, report.failure
    (True, 20, None)
    """

    #: The failure that ended the campaign; None when every run passed.
    failure: Failure | None = None
    #: Number of schedules that were run.
    runs: int = 0
    #: Number of runs that differed from all before them in more than the times at which the same things happened.
    distinct: int = 0
    #: Number of schedules that there are in all, when each of them was run; else 0.
    schedules_in_all: int = 0
    #: True if the environment could decide anything at all in the canonical run.
    has_choices: bool = False

    @property
    def complete(self) -> int:
        """Old name of `schedules_in_all`."""
        warnings.warn("Report.complete is now called schedules_in_all", DeprecationWarning, stacklevel=2)
        return self.schedules_in_all

    def __bool__(self) -> bool:
        return self.failure is None
