"""Campaigns: many runs of one test, until one fails, the budget is used up, or all schedules were run."""

from __future__ import annotations

import contextlib
import functools
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

from simloop.choices.choices import Choices, Point, check_seed
from simloop.choices.schedule import Schedule, first_difference
from simloop.errors import (
    ConfigurationError,
    EscapedSimulationError,
    HangError,
    NondeterminismError,
    OtherTestError,
    ReplayDriftWarning,
    StepLimitError,
    StoreWarning,
    TimeLimitError,
    limit_met,
)
from simloop.explore.coverage import Coverage
from simloop.explore.result import Failure, Report
from simloop.explore.strategies.base import Canonical
from simloop.explore.wakeups import WakeUps

if TYPE_CHECKING:
    from simloop.explore.corpus import Corpus
    from simloop.explore.forks import ForkedOutcome, Forks, Zygote
    from simloop.explore.jobs import Jobs, Passed
    from simloop.explore.portfolio import Portfolio
    from simloop.explore.progress import Progress
    from simloop.explore.strategies.base import Plan, Strategy
    from simloop.report.explanation import Explanation
    from simloop.report.trace import Trace
    from simloop.simulation.run import Execute, Outcome
    from simloop.world.observer import Observer

    #: Outcome of a run that this process has made, or a fork.
    AnyOutcome = Outcome | ForkedOutcome

DEFAULT_RUNS = 100
#: Default number of runs that shrinking a failure may take.
DEFAULT_SHRINK_RUNS = 500


# Number of runs that a campaign with a budget of time seems to have: what sweeps sample depends on that, and on no
# clock.
_RUNS_IN_TIME = 10_000
# Real seconds after which a corpus is written: who ends a long campaign does not always let it end by itself.
_KEEPS_EVERY = 30.0
# Number of runs that a shrunk schedule has to fail once more, in the same way.
_CHECKS = 2

# Number of steps up to which a run that was cut off is shrunk and explained.
_STEPS_EXPLAINED = 20_000

# Results of a batch whose runs are all still to be made.
_NOTHING: Mapping[int, Outcome | Passed] = {}

_POSSIBLE = "can happen on stock asyncio"
_HIDDEN = "what earlier runs have left behind hides it in this process: replay it to see how it comes about"
# Where CPython looks whether another thread waits for the GIL: `CHECK_EVAL_BREAKER` in its bytecodes.
_BETWEEN_LINES = (
    " where threads switch between any two lines, as they do without the GIL: with it, only at calls and loops"
)


class Campaign:
    """Campaign over one test: `execute` makes a run, and `name` identifies the test in its tokens.

    `saved` schedules are tried first. `strategies` of third parties take turns with the others; `chosen` names those
    that take turns at all. With `seconds`, the campaign lasts for so many real seconds, whatever its number of runs.
    Shrinking takes up to `shrink_runs` further runs, 0 for none. `observe` is called with the outcome of every run that
    explores. `numbered` says that objects are to have numbers from the start. `jobs` is the number of processes that
    make runs (`simloop.explore.jobs`). `progress` is told how far it is. `corpus` is what it goes on with, and what it
    adds to. Raises `ConfigurationError` for a bad argument.
    """

    def __init__(
        self,
        execute: Execute,
        name: str,
        *,
        runs: int = DEFAULT_RUNS,
        seed: int = 0,
        profile: str = "cpython",
        saved: Sequence[Schedule] = (),
        strategies: Sequence[Strategy] = (),
        chosen: Sequence[str] = (),
        seconds: float | None = None,
        shrink_runs: int = DEFAULT_SHRINK_RUNS,
        observe: Callable[[Outcome], None] | None = None,
        numbered: bool = False,
        jobs: int | Literal["auto"] | None = None,
        progress: Progress | None = None,
        corpus: Corpus | None = None,
        fresh: Callable[[], Zygote] | None = None,
    ) -> None:
        self._jobs: Jobs | None = None
        #: The processes that make the runs, where runs of one schedule differ if this one makes them.
        self._forks: Forks | None = None
        #: Starts a fresh process that forks for each run, where there is a way to have one that was not used yet.
        self._fresh = fresh
        self._begins_afresh = False
        #: What the first run of this process has raised.
        self._first_error: BaseException | None = None
        if jobs is not None:
            from simloop.explore.jobs import Jobs, check_jobs

            # What plugins see of runs they see in this process, in order.
            self._jobs = Jobs(check_jobs(jobs) if observe is None else 1, execute)
        self._execute = execute
        self.name = name
        self.runs = check_runs(runs) if seconds is None else _RUNS_IN_TIME
        self._seconds = None if seconds is None else check_seconds(seconds)
        self.seed = check_seed(seed)
        self.profile = profile
        self._shrink_runs = check_shrink_runs(shrink_runs)
        self._observe = observe
        self._progress = progress
        self._corpus = corpus
        self._keeps_next = time.monotonic() + _KEEPS_EVERY
        kept = None if corpus is None else corpus.schedules
        # A test that has needed numbers will need them again.
        numbered = numbered or any(schedule.numbered for schedule in (*saved, *(kept or ())))
        self.report = Report(numbered=numbered)
        if corpus is not None:
            self.report.coverage = Coverage(corpus.fingerprints)
        #: The schedule of the first failing run.
        self._found: Schedule | None = None
        self._canonical = Canonical(seed, WakeUps)
        self._given = saved, strategies, chosen, kept
        #: True as long as nothing but the canonical run is known to be worth a run.
        self._is_canonical = not (saved or strategies or chosen or corpus)
        if chosen:
            _ = self.portfolio  # raises an error for an unknown name

    @functools.cached_property
    def portfolio(self) -> Portfolio:
        """Strategies of the campaign."""
        # Not for the many tests in which there is nothing to choose.
        from simloop.explore.portfolio import Portfolio

        self._is_canonical = False
        return Portfolio(self.seed, self._left, *self._given, canonical=self._canonical)

    def _left(self) -> int:
        """Return the number of runs that are left of the budget."""
        return max(self.runs - self.report.runs, int(self._seconds is not None))

    def explore(self) -> Report:
        """Run until the first failure, until the budget is used up, or until every schedule was run. Raises
        `NondeterminismError` when two runs of one schedule differ."""
        ended_by: BaseException | None = None
        try:
            self._explore(None if self._seconds is None else time.monotonic() + self._seconds)
        except BaseException as error:
            ended_by = error
            if isinstance(error, KeyboardInterrupt):
                error.add_note(self.known())
            raise
        finally:
            if self._forks is not None:
                self._forks.close()
            failure = self.report.failure
            self._keep_corpus(ended_by if failure is None else failure.exception)
        return self.report

    def _explore(self, ends: float | None) -> None:
        report = self.report
        while self._left() > 0 and not _is_over(ends, report):
            batch = self._batch()
            if not batch:
                break
            made: Mapping[int, Outcome | Passed] = _NOTHING
            if self._jobs is not None:
                made = self._jobs.make([plan for _, plan in batch], report.numbered, ends)
            for at, (strategy, plan) in enumerate(batch):
                if at and at not in made and _is_over(ends, report):
                    return
                outcome = self._run(plan, made.get(at))
                if self._progress is not None:
                    self._progress.note(functools.partial(self._told, strategy.name))
                if outcome is not None and outcome.exception is not None:
                    report.failure = self._examine(outcome, strategy.name)
                    return
            if self._corpus is not None and time.monotonic() >= self._keeps_next:
                self._keep_corpus()
        report.schedules_in_all = 1 if self._is_canonical else self.portfolio.enumeration.covered

    def _keep_corpus(self, ended_by: BaseException | None = None) -> None:
        """Save the corpus, for the next campaign to continue from: not where all schedules were run, and will be again.
        A problem with the corpus must not hide what has ended this campaign."""
        if self._corpus is None:
            return
        mutation = self.portfolio.mutation
        if mutation is None or not mutation.kept or self.report.schedules_in_all:
            return
        self._keeps_next = time.monotonic() + _KEEPS_EVERY
        kept = (replace(one, profile=self.profile, numbered=self.report.numbered) for one in mutation.corpus())
        try:
            self._corpus.keep(kept, self.report.coverage.fingerprints)
        except StoreWarning as warning:  # under -W error
            if ended_by is None:
                raise
            ended_by.add_note(str(warning))

    def _batch(self) -> list[tuple[Strategy, Plan]]:
        """Return the next batch of planned runs: one, but for campaigns with jobs. The canonical run is alone."""
        if self._is_canonical:
            plan = self._canonical.plan()
            return [] if plan is None else [(self._canonical, plan)]
        if self._jobs is None:
            alone = self.portfolio.plan()
            return [alone] if alone is not None else []
        size = min(self._jobs.size(self.report.runs), self._left())
        batch: list[tuple[Strategy, Plan]] = []
        while len(batch) < size and (proposed := self.portfolio.plan([strategy for strategy, _ in batch])) is not None:
            batch.append(proposed)
        return batch

    def known(self) -> str:
        """Return the message for a campaign that is interrupted now: in which run, and its failure, if it has one."""
        known = "no failure until then"
        if self._found is not None:
            from simloop.choices.tokens import encode

            known = f"it fails, not reduced yet: {encode(self._found, self.name)}"
        return f"simloop: interrupted in run {self._number()} of {self.name}; {known}"

    def _number(self) -> str:
        """Return the number of the current run as text, and of how many."""
        return f"{self.report.runs} of {self.runs}" if self._seconds is None else f"{self.report.runs}"

    def _told(self, strategy: str) -> str:
        """Return the progress line of the campaign; `strategy` has made the last run."""
        return f"run {self._number()}, {self.report.distinct} distinct, no failure; {strategy}"

    def _run(self, plan: Plan, made: AnyOutcome | Passed | None = None) -> AnyOutcome | None:
        """Make a planned run, unless it was `made` already, and report it to strategies and plugins. Returns its
        outcome, or None for a run that has passed in another process."""
        report = self.report
        report.runs += 1
        if isinstance(made, tuple):
            self._add(*made, failed=False)
            return None
        if made is None and self._jobs is not None:
            made = self._jobs.run(plan, report.numbered)
        elif made is None:
            choices = Choices(plan.seed, plan.decide, numbered=report.numbered)
            made = self._make(choices, plan.observer if self._forks is None else None)
        outcome = self._went_on(made)
        if report.runs == 1 and not _is_endless(outcome):
            self._first_error = outcome.exception
            # The first schedule runs twice: it must go the same way.
            outcome = self._again(self._schedule_of(outcome), outcome)
        self._add(outcome.choices, outcome.fingerprint, failed=outcome.exception is not None)
        if self._observe is not None:
            assert self._forks is None
            self._observe(cast("Outcome", outcome))
        return outcome

    def _add(self, choices: Choices, fingerprint: int, *, failed: bool) -> None:
        report = self.report
        report.coverage.add(fingerprint, choices)
        report.distinct = report.coverage.distinct
        if not report.has_choices:
            report.has_choices = bool(choices.kinds)
        if report.has_choices or choices.drew_entropy or not self._is_canonical:
            self.portfolio.observe(choices, failed)

    def _make(
        self, choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
    ) -> AnyOutcome:
        """Make a run: in a fork if runs are forked, unless it is observed or the final one."""
        forked = None
        if self._forks is not None and observer is None and not final:
            forked = self._forks.run(choices, profile)
        return forked or self._execute(choices, observer, profile=profile, final=final)

    def _schedule_of(self, outcome: AnyOutcome) -> Schedule:
        choices = outcome.choices
        return Schedule(self.profile, choices.seed, choices.deviations(), choices.numbered)

    def _again(self, schedule: Schedule, expected: AnyOutcome) -> AnyOutcome:
        """Run a schedule once more and check that the run goes the same way as `expected`, the outcome of the earlier
        one. Return the later outcome.

        A run that does something for the first time in this process (fills a cache, makes the first client) may differ
        from all later ones. So if the two differ, a third is compared with the second. If these differ too, the same is
        tried with more that is alike in all runs (`_liken`). It is an error if that does not help, or if the failure
        itself occurred in some of these runs only.
        """
        again = self._traced(schedule, None)
        if self._went_alike(again, expected):
            return again
        settled = self._traced(schedule, None)
        alike = self._went_alike(settled, again)
        if alike and _failure_in(settled) == _failure_in(expected):
            return settled
        runs = [expected, again, settled]
        while self._liken(alike):
            likened = self._again(schedule, self._traced(schedule, None))
            # Fresh runs know nothing of what others have left behind, as the first one did not.
            runs = [expected] if self._begins_afresh else [*runs, likened]
            if all(_failure_in(run) == _failure_in(likened) for run in runs):
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
        if self._observe is not None:  # what plugins see of runs they see in this process
            return False
        from simloop.explore.forks import Forks, OwnZygote

        if not report.forked and not alike:
            begin: Callable[[], Zygote] = functools.partial(OwnZygote, self._execute)
        elif self._fresh is not None:
            begin, self._fresh, self._begins_afresh = self._fresh, None, True
        else:
            return False
        try:
            forks = Forks(begin)
        except OSError:
            return False
        if self._forks is not None:
            self._forks.close()
        report.forked = True
        self._forks, self._jobs = forks, None
        return True

    def _went_alike(self, one: AnyOutcome, other: AnyOutcome) -> bool:
        """Return True for two runs that took the same steps and ended in the same way. Of a run that this process has
        made although others are forked, only the end counts."""
        if _failure_in(one) != _failure_in(other):
            return False
        made_here = self._forks is not None and (one.is_here or other.is_here)
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
                    self._execute(run.choices(), run.trace)
            where = parting(*watched)
        return first_difference(one.choices, other.choices, self.name, where)

    def _traced(
        self, schedule: Schedule, observer: Trace | None, *, profile: str | None = None, final: bool = False
    ) -> AnyOutcome:
        choices = replace(schedule, numbered=self.report.numbered).choices()
        with observer.touches.watch() if observer is not None else contextlib.nullcontext():
            return self._went_on(self._make(choices, observer, profile=profile, final=final))

    def _went_on(self, outcome: AnyOutcome) -> AnyOutcome:
        """Return the outcome of a run, or raise the `HangError` that has ended it: all further runs would take as
        long."""
        hang = outcome.escape
        if isinstance(hang, HangError):
            from simloop.choices.tokens import encode

            token = encode(self._schedule_of(outcome), self.name)
            hang.add_note(f"simloop: in run {self._number()} of {self.name}, {token}")
            raise hang
        return outcome

    def _examine(self, found: AnyOutcome, strategy: str) -> Failure:
        """Turn a failing run into a `Failure`: check that it fails again, shrink its schedule, and explain it."""
        from simloop.explore.signature import signature_of

        schedule = self._found = self._schedule_of(found)
        if _is_endless(found):
            return self._failure(found, strategy, schedule, self._unexplained(found.exception))
        last = self._again(schedule, found)
        assert found.exception is not None
        wanted = signature_of(found.exception)

        def still_fails(candidate: Schedule) -> tuple[bool, Choices]:
            nonlocal last
            outcome = self._traced(candidate, None)
            if self._progress is not None:
                self._progress.note(lambda: f"failed in run {self._number()} ({strategy}); it is made small")
            fails = outcome.exception is not None and signature_of(outcome.exception) == wanted
            if fails:
                last = outcome
            return fails, outcome.choices

        from simloop.explore.shrink import Shrinker

        shrinker = Shrinker(schedule, still_fails, self._shrink_runs, self.seed)
        small = self._found = shrinker.shrink()
        for _ in range(_CHECKS):
            if not self._went_alike(checked := self._traced(small, None), last):
                last = self._again(small, checked)
        explanation, outcome = self._explained(small)
        if self._begins_afresh and _failure_in(outcome) != _failure_in(last):
            # What earlier runs have left behind in this process keeps it from this failure, unless it was the first.
            first = self._first_error
            seen = first if first is not None and signature_of(first) == wanted else last.exception
            return self._failure(found, strategy, small, self._unexplained(seen, _HIDDEN))
        if not self._went_alike(outcome, last):
            # Candidates and the neighbour that passes may have done something for the first time, too.
            last = self._again(small, outcome)
        for ended in (last, outcome):
            if ended.exception is None or signature_of(ended.exception) != wanted:
                raise first_difference(last.choices, ended.choices, self.name) from found.exception
        return self._failure(found, strategy, small, explanation)

    def _failure(self, found: AnyOutcome, strategy: str, schedule: Schedule, explanation: Explanation) -> Failure:
        from simloop.choices.tokens import encode

        exception = explanation.exception or found.exception
        assert exception is not None
        schedule = replace(schedule, numbered=self.report.numbered)
        return Failure(
            token=encode(schedule, self.name),
            exception=exception,
            run_number=self.report.runs,
            strategy=strategy,
            schedule=schedule,
            explanation=explanation,
            deviations_found=len(found.choices.deviations()),
            _execute=self._execute,
        )

    def _unexplained(self, error: BaseException | None, verdict: str = "") -> Explanation:
        """Return an explanation of a failure without a traced run of it."""
        from simloop.report.explanation import Explanation
        from simloop.report.trace import Trace

        return Explanation(error, Trace(), None, None, limit_met(error) or verdict)

    def _explained(self, schedule: Schedule) -> tuple[Explanation, Outcome]:
        """Explain a schedule: run it with a `Trace`, beside the nearest run that passes (without the last deviation, if
        that passes). The failing run comes last, since its output and its traceback are what a person sees."""
        # Most campaigns find nothing to explain, and need not wait for these.
        from simloop.report.explanation import Explanation
        from simloop.report.trace import Trace
        from simloop.shims.subprocess import lacks_real_program

        passing: Trace | None = None
        left_out: Point | None = None
        points = list(schedule.deviations)
        for left_out in [*reversed(points), None] if points else []:
            kept = {
                point: value
                for point, value in schedule.deviations.items()
                if left_out is not None and point != left_out
            }
            passing = Trace()
            if self._traced(Schedule(schedule.profile, schedule.seed, kept), passing).exception is None:
                break
            passing = None
        verdict = self._verdict(schedule)
        failing = Trace()
        outcome = cast("Outcome", self._traced(schedule, failing, final=True))
        # Of what the simulation itself cannot do, nothing can be said about stock asyncio.
        limit = limit_met(outcome.escape) or limit_met(outcome.exception) or outcome.limit
        if not limit and lacks_real_program(outcome.exception):
            limit = EscapedSimulationError.limit
        verdict = limit or verdict or failing.beyond_stock(self.profile)
        return Explanation(outcome.exception, failing, passing, left_out, verdict), outcome

    def _verdict(self, schedule: Schedule) -> str:
        """Return the sentence on whether this failure can happen on stock asyncio; empty where it was not seen there. A
        failure found under a wider profile is tried under `cpython`: first the same schedule, then a campaign."""
        from simloop.explore.signature import signature_of

        possible = _POSSIBLE + _BETWEEN_LINES * schedule.preempts_lines
        if self.profile == "cpython":
            always = "" if schedule.deviations else ", and does whenever nothing unusual happens"
            return f"{possible}{always}"
        error = self._traced(schedule, None).exception
        if error is None or limit_met(error):
            return ""
        wanted = signature_of(error)
        stock = self._traced(schedule, None, profile="cpython").exception
        if stock is not None and signature_of(stock) == wanted:
            return possible

        def on_stock(
            choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
        ) -> Outcome:
            return self._execute(choices, observer, profile="cpython")

        found = Campaign(on_stock, self.name, runs=min(self.runs, DEFAULT_RUNS), seed=self.seed).explore().failure
        if found is not None and signature_of(found.exception) == wanted:
            possible = _POSSIBLE + _BETWEEN_LINES * found.schedule.preempts_lines
            return f"{possible}: profile cpython finds it too, with {found.token}"
        return ""

    def replay(self, token: str | int) -> tuple[Outcome, Explanation, Schedule]:
        """Run the schedule of a token or a plain seed. Warns when some of its deviations no longer occur, and raises
        `OtherTestError` when the token was made for another test."""
        from simloop.report.explanation import Explanation
        from simloop.report.trace import Trace

        if isinstance(token, int) or token.strip().isdigit():
            from simloop.choices.draws import seeded

            seed = check_seed(int(token))
            outcome = self._execute(Choices(seed, seeded(seed)))
            schedule = Schedule(self.profile, seed, outcome.choices.deviations())
        else:
            from simloop.choices.tokens import decode

            schedule = decode(token, self.name)
            self.report.numbered = schedule.numbered
            if schedule.profile != self.profile:
                raise OtherTestError(
                    f"the token was made under profile {schedule.profile!r}, not {self.profile!r}: "
                    f"ask for profile {schedule.profile!r}"
                )
        # First in this process, before other schedules can leave anything behind.
        first = self._traced(schedule, failing := Trace())
        explanation, outcome = self._explained(schedule)
        if first.exception is not None and _failure_in(outcome) != _failure_in(first):
            outcome = cast("Outcome", first)
            explanation = Explanation(first.exception, failing, None, None, limit_met(first.exception))
        applied, wanted = schedule.applied(outcome.choices), len(schedule.deviations)
        if applied < wanted:
            warnings.warn(
                f"{applied} of {wanted} deviations of the token applied to {self.name}: "
                "the program has changed since it was made",
                ReplayDriftWarning,
                stacklevel=3,
            )
        return outcome, explanation, schedule


def _is_over(ends: float | None, report: Report) -> bool:
    """Return True once the time of a campaign is used up. One run is made in any case."""
    return ends is not None and report.runs > 0 and time.monotonic() >= ends


def _is_endless(outcome: AnyOutcome) -> bool:
    """Return True for a run that was cut off at ``max_steps`` or ``max_time``, and is not explained beyond its error:
    nothing unusual happened in it, or it is so long that to run it once more would take too long. (To trace it takes a
    hundred times as long.)"""
    if not isinstance(outcome.exception, (StepLimitError, TimeLimitError)):
        return False
    return outcome.steps > _STEPS_EXPLAINED or not outcome.choices.deviations()


def _failure_in(outcome: AnyOutcome) -> object:
    if outcome.exception is None:
        return None
    from simloop.explore.signature import signature_of

    return signature_of(outcome.exception)


def check_runs(runs: int) -> int:
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise ConfigurationError(f"runs must be a whole number of at least 1, not {runs!r}")
    return runs


def check_seconds(seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        raise ConfigurationError(f"the time of a campaign must be more than 0 seconds, not {seconds!r}")
    return seconds


def check_shrink_runs(runs: int) -> int:
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 0:
        raise ConfigurationError(f"shrink_runs must be a whole number of at least 0, not {runs!r}")
    return runs
