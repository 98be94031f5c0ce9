"""Making of runs: who makes them, and whether two of one schedule go the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from simloop.choices.schedule import Schedule, first_difference
from simloop.errors import HangError, NondeterminismError, StepLimitError, TimeLimitError

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.explore.forks import ForkedOutcome, Forks
    from simloop.explore.jobs import Jobs
    from simloop.explore.result import Report
    from simloop.report.trace import Trace
    from simloop.simulation.run import Execute, Outcome
    from simloop.world.observer import Observer

    #: Outcome of a run that this process has made, or a fork.
    AnyOutcome = Outcome | ForkedOutcome

# Number of steps up to which a run that was cut off is shrunk and explained.
_STEPS_EXPLAINED = 20_000


class RunMaker:
    """Maker of the runs of one campaign, by `execute`. All begin with what its `report` says that they have needed so
    far: numbers for objects, or a process of their own.

    `may_fork` is False if all have to be made in this process. `number` returns the number of the run that goes on.
    """

    def __init__(
        self,
        execute: Execute,
        name: str,
        profile: str,
        report: Report,
        *,
        may_fork: bool,
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
        self._may_fork = may_fork
        self._number = number

    def make(
        self, choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
    ) -> AnyOutcome:
        """Make a run: in a fork if there are any, unless it is to be seen."""
        forked = None
        if self.forks is not None and observer is None and not final:
            forked = self.forks.run(choices, profile)
        return forked or self.execute(choices, observer, profile=profile, final=final)

    def schedule_of(self, outcome: AnyOutcome) -> Schedule:
        """Return the schedule of a run, from which it can be made again."""
        choices = outcome.choices
        return Schedule(self.profile, choices.seed, choices.deviations(), choices.numbered)

    def again(self, schedule: Schedule, expected: AnyOutcome) -> AnyOutcome:
        """Run a schedule once more and check that the run goes the same way as `expected`, the outcome of the earlier
        one. Return the later outcome.

        A run that does something for the first time in this process (fills a cache, makes the first client) may differ
        from all later ones. So if the two differ, a third is compared with the second. If these differ too, the same is
        tried with more that is alike in all runs (`_liken`). It is an error if that does not help, or if the failure
        itself occurred in some of these runs only.
        """
        again = self.traced(schedule, None)
        if self.went_alike(again, expected):
            return again
        settled = self.traced(schedule, None)
        alike = self.went_alike(settled, again)
        if alike and failure_in(settled) == failure_in(expected):
            return settled
        runs = [expected, again, settled]
        if not alike and self._liken():
            likened = self.again(schedule, self.traced(schedule, None))
            runs.append(likened)
            if all(failure_in(run) == failure_in(likened) for run in runs):
                return likened
        error = next((run.exception for run in runs if run.exception is not None), None)
        raise self._parted(schedule, expected if alike else again, settled) from error

    def _liken(self) -> bool:
        """Have all further runs begin with more that is alike, if there is a way left: first, objects that hash by
        address get numbers; then, each run is made by a fork of one process. Return False if there is none."""
        report = self.report
        if not report.numbered:
            report.numbered = True
        elif not report.forked and self._may_fork:
            from simloop.explore.forks import Forks

            report.forked = True
            self.forks, self.jobs = Forks(self.execute), None
        else:
            return False
        return True

    def went_alike(self, one: AnyOutcome, other: AnyOutcome) -> bool:
        """Return True for two runs that took the same steps and ended in the same way. Of a run that this process has
        made although others are forked, only the end counts."""
        if failure_in(one) != failure_in(other):
            return False
        made_here = self.forks is not None and (one.is_here or other.is_here)
        return made_here or one.choices.digest == other.choices.digest

    def _parted(self, schedule: Schedule, one: AnyOutcome, other: AnyOutcome) -> NondeterminismError:
        """Return the error for two runs of a schedule that differ. Two more are watched to see where they part."""
        where = ""
        if max(one.steps, other.steps) <= _STEPS_EXPLAINED:
            from simloop.report.parting import WatchedRun, parting

            schedule = replace(schedule, numbered=self.report.numbered)
            watched = [WatchedRun(schedule), WatchedRun(schedule)]
            for run in watched:
                with run.trace.touches.watch():
                    self.execute(run.choices(), run.trace)
            where = parting(*watched)
        return first_difference(one.choices, other.choices, self.name, where)

    def traced(
        self, schedule: Schedule, observer: Trace | None, *, profile: str | None = None, final: bool = False
    ) -> AnyOutcome:
        """Make a run of a schedule, with a trace of it if `observer` is one."""
        choices = replace(schedule, numbered=self.report.numbered).choices()
        with observer.touches.watch() if observer is not None else contextlib.nullcontext():
            return self.went_on(self.make(choices, observer, profile=profile, final=final))

    def went_on(self, outcome: AnyOutcome) -> AnyOutcome:
        """Return the outcome of a run. Raises `HangError` if it was ended by that: it would take as long each time."""
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
    """Return True for a run that was cut off at ``max_steps`` or ``max_time``, and of which no more is said than its
    error does: nothing unusual happened in it, or it is so long that to run it once more would take too long. (To trace
    it takes a hundred times as long.)"""
    if not isinstance(outcome.exception, (StepLimitError, TimeLimitError)):
        return False
    return outcome.steps > _STEPS_EXPLAINED or not outcome.choices.deviations()
