"""Execution of the runs of a campaign, in this process or in forks, and comparison of two runs of one schedule."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
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

#: Outcome of a run that was made in this process, or in a fork.
AnyOutcome: TypeAlias = "Outcome | ForkedOutcome"

#: Maximum number of steps of a run that is still shrunk and explained after it was cut off.
STEPS_EXPLAINED = 20_000


class RunMaker:
    """Maker of the runs of one campaign, which calls `execute` or has a fork do so. `report` says which measures the
    runs have needed so far: objects that hash by number, or a process of its own for each run.

    `may_fork` is False if all runs have to be made in this process. ``fresh()``, if given, starts a process that has
    run no test and forks for each run. `number` returns the number of the current run.
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
        #: Worker processes that make batches of runs; None if there are none.
        self.jobs: Jobs | None = None
        #: Forks that make each run in a process of its own; None unless runs of one schedule differ in this process.
        self.forks: Forks | None = None
        self.may_fork = may_fork
        #: Function that starts a process that has run no test; None if that is not possible, or was done already.
        self.fresh = fresh
        #: True once runs are made by forks of a fresh process.
        self.begins_afresh = False
        #: Exception of the first run in this process; None if it passed.
        self.first_error: BaseException | None = None
        self._number = number

    def make(
        self, choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
    ) -> AnyOutcome:
        """Make a run: in a fork if runs are forked, except for an observed or `final` one, and return its outcome."""
        forked = None
        if self.forks is not None and observer is None and not final:
            forked = self.forks.run(choices, profile)
        return forked or self.execute(choices, observer, profile=profile, final=final)

    def schedule_of(self, outcome: AnyOutcome) -> Schedule:
        """Return the schedule by which the run of an outcome can be repeated."""
        choices = outcome.choices
        return Schedule(self.profile, choices.seed, choices.deviations(), choices.numbered)

    def went_alike(self, one: AnyOutcome, other: AnyOutcome) -> bool:
        """Return True if two runs took the same steps and ended in the same way. If one of them was made in this
        process although runs are forked, only their ends are compared."""
        if failure_in(one) != failure_in(other):
            return False
        made_here = self.forks is not None and (one.is_here or other.is_here)
        return made_here or one.choices.digest == other.choices.digest

    def traced(
        self, schedule: Schedule, observer: Trace | None, *, profile: str | None = None, final: bool = False
    ) -> AnyOutcome:
        """Run a schedule, recorded by the trace `observer` unless it is None, and return the outcome."""
        with observer.touches.watch() if observer is not None else contextlib.nullcontext():
            return self.repeated(schedule, observer, profile=profile, final=final)

    def repeated(
        self, schedule: Schedule, observer: Observer | None, *, profile: str | None = None, final: bool = False
    ) -> AnyOutcome:
        """Run a schedule, watched by `observer` unless it is None, and return the outcome."""
        choices = schedule._replace(numbered=self.report.numbered).choices()
        return self.went_on(self.make(choices, observer, profile=profile, final=final))

    def went_on(self, outcome: AnyOutcome) -> AnyOutcome:
        """Return the given outcome, unless its run was ended by a `HangError`: then raise that, since each further run
        would take as long."""
        hang = outcome.escape
        if isinstance(hang, HangError):
            from simloop.choices.tokens import encode

            token = encode(self.schedule_of(outcome), self.name)
            hang.add_note(f"simloop: in run {self._number()} of {self.name}, {token}")
            raise hang
        return outcome


def failure_in(outcome: AnyOutcome) -> object:
    """Return the signature of a run's failure, which is equal for two runs that failed in the same way; None if the run
    passed."""
    if outcome.exception is None:
        return None
    from simloop.explore.signature import signature_of

    return signature_of(outcome.exception)


def is_endless(outcome: AnyOutcome) -> bool:
    """Return True for a run that was cut off at ``max_steps`` or ``max_time`` and is not to be shrunk or explained: it
    has no deviations, or it is so long that repeating it, and above all tracing it, would take too long."""
    if not isinstance(outcome.exception, (StepLimitError, TimeLimitError)):
        return False
    return outcome.steps > STEPS_EXPLAINED or not outcome.choices.deviations()
