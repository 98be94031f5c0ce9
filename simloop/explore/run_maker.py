"""Making of runs: who makes them, and whether two of one schedule go the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from simloop.choices.schedule import Schedule, first_difference
from simloop.errors import HangError, NondeterminismError, StepLimitError, TimeLimitError

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

# Number of steps up to which a run that was cut off is shrunk and explained.
_STEPS_EXPLAINED = 20_000


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
        self._may_fork = may_fork
        self._fresh = fresh
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
        while self._liken(alike):
            likened = self.again(schedule, self.traced(schedule, None))
            # Fresh runs know nothing of what others have left behind, as the first one did not.
            runs = [expected] if self.begins_afresh else [*runs, likened]
            if all(failure_in(run) == failure_in(likened) for run in runs):
                return likened
        error = next((run.exception for run in runs if run.exception is not None), None)
        raise self._parted(schedule, expected if alike else again, settled) from error

    def _liken(self, alike: bool) -> bool:
        """Switch on the next way to make later runs of one schedule alike: first, objects that hash by address get
        numbers; then, each run is made by a fork of this process, and then of a fresh one. Only the last helps if
        runs are `alike`, but for the first one. Return False if there is none."""
        report = self.report
        if not report.numbered and not alike:
            report.numbered = True
            return True
        if not self._may_fork:
            return False
        from simloop.explore.forks import Forks, OwnZygote

        afresh = False
        if not report.forked and not alike:
            begin: Callable[[], Zygote] = partial(OwnZygote, self.execute)
        elif self._fresh is not None:
            begin, self._fresh, afresh = self._fresh, None, True
        else:
            return False
        try:
            forks = Forks(begin)
        except OSError:
            return False
        if self.forks is not None:
            self.forks.close()
        report.forked = True
        self.forks, self.jobs, self.begins_afresh = forks, None, afresh
        return True

    def went_alike(self, one: AnyOutcome, other: AnyOutcome) -> bool:
        """Return True for two runs that took the same steps and ended in the same way. Of a run that this process has
        made although others are forked, only the end counts."""
        if failure_in(one) != failure_in(other):
            return False
        made_here = self.forks is not None and (one.is_here or other.is_here)
        return made_here or one.choices.digest == other.choices.digest

    def _parted(self, schedule: Schedule, one: AnyOutcome, other: AnyOutcome) -> NondeterminismError:
        """Return the error for two runs of a schedule that differ. Two more are traced to see where they diverge."""
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
    return outcome.steps > _STEPS_EXPLAINED or not outcome.choices.deviations()
