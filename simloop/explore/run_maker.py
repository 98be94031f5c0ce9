"""Making of runs: who makes them, and whether two of one schedule go the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from simloop.choices.schedule import Schedule
from simloop.errors import HangError, StepLimitError, TimeLimitError

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.explore.forks import ForkedOutcome, Forks, Zygote
    from simloop.explore.jobs import Jobs
    from simloop.explore.result import Report
    from simloop.report.trace import Trace
    from simloop.simulation.outcome import Outcome
    from simloop.simulation.run import Execute
    from simloop.world.observer import Observer

#: Outcome of a run that this process has made, or a fork.
AnyOutcome: TypeAlias = "Outcome | ForkedOutcome"

#: Number of steps up to which a run that was cut off is shrunk and explained.
STEPS_EXPLAINED = 20_000


class RunMaker:
    """Maker of the runs of one campaign, by `execute`. All begin with what its `report` says that they have needed so
    far: numbers for objects, or a process of their own.

    `may_fork` is False if all have to be made in this process. `fresh` starts a process that was not used yet and forks
    for each run, where there is a way to have one. `number` returns the number of the current run.
    """

    def __init__(
        self,
        execute: Execute,
        name: str,
        profile: str,
        report: Report,
        *,
        may_fork: bool,
        fresh: Callable[[], Zygote] | None,
        number: Callable[[], str],
    ) -> None:
        self.execute = execute
        self.name = name
        self.profile = profile
        self.report = report
        #: The processes that make the runs, if there are any but this one.
        self.jobs: Jobs | None = None
        #: The processes that make the runs, where runs of one schedule differ if this one makes them.
        self.forks: Forks | None = None
        self.may_fork = may_fork
        #: Starts a process that was not used yet; None if there is no way to have one, or no more.
        self.fresh = fresh
        #: True once the runs are made by forks of a fresh process.
        self.begins_afresh = False
        #: What the first run of this process has raised.
        self.first_error: BaseException | None = None
        self._number = number

    def make(
        self, choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
    ) -> AnyOutcome:
        """Make a run: in a fork if runs are forked, unless it is observed or the final one."""
        forked = None
        if self.forks is not None and observer is None and not final:
            forked = self.forks.run(choices, profile)
        return forked or self.execute(choices, observer, profile=profile, final=final)

    def schedule_of(self, outcome: AnyOutcome) -> Schedule:
        """Return the schedule of a run, from which it can be made again."""
        choices = outcome.choices
        return Schedule(self.profile, choices.seed, choices.deviations(), choices.numbered)

    def went_alike(self, one: AnyOutcome, other: AnyOutcome) -> bool:
        """Return True for two runs that took the same steps and ended in the same way. Of a run that this process has
        made although others are forked, only the end counts."""
        if failure_in(one) != failure_in(other):
            return False
        made_here = self.forks is not None and (one.is_here or other.is_here)
        return made_here or one.choices.digest == other.choices.digest

    def traced(
        self, schedule: Schedule, observer: Trace | None, *, profile: str | None = None, final: bool = False
    ) -> AnyOutcome:
        """Make a run of a schedule, with a trace of it if `observer` is one."""
        choices = replace(schedule, numbered=self.report.numbered).choices()
        with observer.touches.watch() if observer is not None else contextlib.nullcontext():
            return self.went_on(self.make(choices, observer, profile=profile, final=final))

    def went_on(self, outcome: AnyOutcome) -> AnyOutcome:
        """Return the outcome of a run, or raise the `HangError` that has ended it: all further runs would take as
        long."""
        hang = outcome.escape
        if isinstance(hang, HangError):
            from simloop.choices.tokens import encode

            token = encode(self.schedule_of(outcome), self.name)
            hang.add_note(f"simloop: in run {self._number()} of {self.name}, {token}")
            raise hang
        return outcome


def failure_in(outcome: AnyOutcome) -> object:
    """Return what the failures of two runs are the same by; None for a run that has passed."""
    if outcome.exception is None:
        return None
    from simloop.explore.signature import signature_of

    return signature_of(outcome.exception)


def is_endless(outcome: AnyOutcome) -> bool:
    """Return True for a run that was cut off at ``max_steps`` or ``max_time``, and is not explained beyond its error:
    nothing unusual happened in it, or it is so long that to run it once more would take too long. (To trace it takes a
    hundred times as long.)"""
    if not isinstance(outcome.exception, (StepLimitError, TimeLimitError)):
        return False
    return outcome.steps > STEPS_EXPLAINED or not outcome.choices.deviations()
