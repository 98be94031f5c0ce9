"""Campaigns: many runs of one test, until one fails, the budget is used up, or all schedules were run."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from simloop.choices.choices import Choices, check_seed
from simloop.errors import ConfigurationError, StoreWarning
from simloop.explore.coverage import Coverage
from simloop.explore.result import Report
from simloop.explore.run_maker import RunMaker, is_endless
from simloop.explore.strategies.base import Canonical
from simloop.shims.patch import original

if TYPE_CHECKING:
    from simloop.choices.schedule import Schedule
    from simloop.explore.corpus import Corpus
    from simloop.explore.examination import Examination
    from simloop.explore.forks import Zygote
    from simloop.explore.jobs import Passed
    from simloop.explore.portfolio import Portfolio
    from simloop.explore.progress import Progress
    from simloop.explore.run_maker import AnyOutcome
    from simloop.explore.strategies.base import Plan, Strategy
    from simloop.explore.wakeups import WakeUps
    from simloop.report.explanation import Explanation
    from simloop.simulation.outcome import Outcome
    from simloop.simulation.run import Execute

DEFAULT_RUNS = 100
#: Default limit on the number of runs that shrinking a failure may take.
DEFAULT_SHRINK_RUNS = 500

# Number of runs that a campaign with a budget of time seems to have: what sweeps sample depends on that, and on no
# clock.
_RUNS_IN_TIME = 10_000
# Real seconds after which a corpus is written: who ends a long campaign does not always let it end by itself.
_KEEPS_EVERY = 30.0

# A test may have replaced it, even now.
_monotonic = original(time, "monotonic")

# Results of a batch whose runs are all still to be made.
_NOTHING: Mapping[int, Outcome | Passed] = {}


class Campaign:
    """Search for failing schedules of one test: runs it under the schedules that strategies propose, and shrinks and
    explains a failure. `execute` makes a run, and `name` identifies the test in its tokens.

    At most `runs` runs are made, or with `seconds` as many as fit into so many real seconds. `saved` schedules are
    tried first. `strategies` of third parties take turns with the others; `chosen` names the strategies that take
    turns, all if it is empty. Shrinking takes up to `shrink_runs` further runs, 0 to skip it. `observe` is called with
    the outcome of every run that explores, `progress` with how far the campaign is. With `numbered`, objects hash by
    number instead of by address from the start. `jobs` is the number of processes that make runs
    (`simloop.explore.jobs`). `corpus` holds schedules of earlier campaigns to continue from, and receives new ones.
    `fresh` starts a process that has run no test and forks for each run (a zygote). Without `explain`, only the
    schedule and the exception of a failure are of use. ``dismiss(error)`` is asked before a failure is examined: if it
    returns True, no environment could have caused it, and the campaign ends without one. Raises `ConfigurationError`
    for a bad argument.
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
        explain: bool = True,
        dismiss: Callable[[BaseException], bool] | None = None,
    ) -> None:
        self.name = name
        self.runs = check_runs(runs) if seconds is None else _RUNS_IN_TIME
        self._seconds = None if seconds is None else check_seconds(seconds)
        self.seed = check_seed(seed)
        self._shrink_runs = check_shrink_runs(shrink_runs)
        self._observe = observe
        self._explain = explain
        self._dismiss = dismiss
        self._progress = progress
        self._corpus = corpus
        self._keeps_next = _monotonic() + _KEEPS_EVERY
        kept = None if corpus is None else corpus.schedules
        # A test that has needed numbers will need them again.
        numbered = numbered or any(schedule.numbered for schedule in (*saved, *(kept or ())))
        self.report = Report(numbered=numbered)
        if corpus is not None:
            self.report.coverage = Coverage(corpus.fingerprints)
        # What plugins see of runs they see in this process, in order.
        here = observe is not None
        self._maker = RunMaker(execute, name, profile, self.report, may_fork=not here, fresh=fresh, number=self._number)
        if jobs is not None:
            from simloop.explore.jobs import Jobs, check_jobs

            self._maker.jobs = Jobs(1 if here else check_jobs(jobs), execute)
        #: Examination (shrinking and explanation) of the first failing run; None before there is one.
        self._examination: Examination | None = None
        self._canonical = Canonical(seed, _wakeups)
        self._given = saved, strategies, chosen, kept
        #: True as long as only the canonical run is to be made: the portfolio of strategies is not needed yet.
        self._is_canonical = not (saved or strategies or chosen or corpus)
        if chosen:
            _ = self.portfolio  # raises an error for an unknown name

    @functools.cached_property
    def portfolio(self) -> Portfolio:
        """Strategies of the campaign, with the rule by which they take turns."""
        # Not for the many tests in which there is nothing to choose.
        from simloop.explore.portfolio import Portfolio

        self._is_canonical = False
        return Portfolio(self.seed, self._left, *self._given, canonical=self._canonical)

    def _left(self) -> int:
        """Return how many runs of the budget are left."""
        return max(self.runs - self.report.runs, int(self._seconds is not None))

    def explore(self) -> Report:
        """Run the test until it fails, the budget is used up, or every schedule was run, and return the report. Raises
        `NondeterminismError` when two runs of one schedule differ."""
        ended_by: BaseException | None = None
        try:
            self._explore(None if self._seconds is None else _monotonic() + self._seconds)
        except BaseException as error:
            ended_by = error
            if isinstance(error, KeyboardInterrupt):
                error.add_note(self.known())
            raise
        finally:
            if self._maker.forks is not None:
                self._maker.forks.close()
            failure = self.report.failure
            self._keep_corpus(ended_by if failure is None else failure.exception)
        return self.report

    def _explore(self, ends: float | None) -> None:
        report, maker = self.report, self._maker
        while self._left() > 0 and not _is_over(ends, report):
            batch = self._batch()
            if not batch:
                break
            made: Mapping[int, Outcome | Passed] = _NOTHING
            if maker.jobs is not None:
                made = maker.jobs.make([plan for _, plan in batch], report.numbered, ends)
            for at, (strategy, plan) in enumerate(batch):
                if at and at not in made and _is_over(ends, report):
                    return
                outcome = self._run(plan, made.get(at))
                if self._progress is not None:
                    self._progress.note(functools.partial(self._told, strategy.name))
                if outcome is not None and outcome.exception is not None:
                    if self._dismiss is not None and self._dismiss(outcome.exception):
                        return
                    examination = self._examination = self._examiner()
                    report.failure = examination.failure(outcome, strategy.name, explain=self._explain)
                    return
            if self._corpus is not None and _monotonic() >= self._keeps_next:
                self._keep_corpus()
        report.schedules_in_all = 1 if self._is_canonical else self.portfolio.enumeration.covered

    def _keep_corpus(self, ended_by: BaseException | None = None) -> None:
        """Save the corpus for the next campaign, unless it would be empty or all schedules were run. If that fails and
        `ended_by`, the exception that ended the campaign, is given, the problem is only added to it as a note."""
        if self._corpus is None:
            return
        mutation = self.portfolio.mutation
        if mutation is None or not mutation.kept or self.report.schedules_in_all:
            return
        self._keeps_next = _monotonic() + _KEEPS_EVERY
        kept = (one._replace(profile=self._maker.profile, numbered=self.report.numbered) for one in mutation.corpus())
        try:
            self._corpus.keep(kept, self.report.coverage.fingerprints)
        except StoreWarning as warning:  # under -W error
            if ended_by is None:
                raise
            ended_by.add_note(str(warning))

    def _batch(self) -> list[tuple[Strategy, Plan]]:
        """Return the next runs to make, each as a strategy and its plan: one run, or a batch if the campaign has
        several jobs. The first run, in which nothing deviates (the canonical run), is a batch of its own."""
        if self._is_canonical:
            plan = self._canonical.plan_unwatched()
            return [] if plan is None else [(self._canonical, plan)]
        jobs = self._maker.jobs
        if jobs is None:
            alone = self.portfolio.plan()
            return [alone] if alone is not None else []
        size = min(jobs.size(self.report.runs), self._left())
        batch: list[tuple[Strategy, Plan]] = []
        while len(batch) < size and (proposed := self.portfolio.plan([strategy for strategy, _ in batch])) is not None:
            batch.append(proposed)
        return batch

    def known(self) -> str:
        """Return the message for a campaign that is interrupted now: the number of the current run, and the failure
        found so far, if there is one."""
        known = "no failure until then"
        failing = None if self._examination is None else self._examination.schedule
        if failing is not None:
            from simloop.choices.tokens import encode

            known = f"it fails, not reduced yet: {encode(failing, self.name)}"
        return f"simloop: interrupted in run {self._number()} of {self.name}; {known}"

    def _number(self) -> str:
        """Return the number of the current run and the number of runs in all, as text."""
        return f"{self.report.runs} of {self.runs}" if self._seconds is None else f"{self.report.runs}"

    def _told(self, strategy: str) -> str:
        """Return the text of the progress line; `strategy` is the one that proposed the last run."""
        return f"run {self._number()}, {self.report.distinct} distinct, no failure; {strategy}"

    def _run(self, plan: Plan, made: AnyOutcome | Passed | None = None) -> AnyOutcome | None:
        """Make a planned run, and report it to strategies and plugins. `made` is its result if a worker process has
        made it. Returns the outcome, or None for a run that passed in a worker process."""
        report, maker = self.report, self._maker
        report.runs += 1
        if isinstance(made, tuple):
            self._add(*made, failed=False)
            return None
        if made is None and maker.jobs is not None:
            made = maker.jobs.run(plan, report.numbered)
        elif made is None:
            choices = Choices(plan.seed, plan.decide, numbered=report.numbered)
            made = maker.make(choices, plan.observer if maker.forks is None else None)
        outcome = maker.went_on(made)
        if report.runs == 1 and not is_endless(outcome):
            maker.first_error = outcome.exception
            # The first schedule runs twice: it must go the same way.
            schedule = maker.schedule_of(outcome)
            # And the second one is watched: it is known by then if there is anything to choose.
            watched = self._is_canonical and bool(outcome.choices.kinds)
            again = maker.repeated(schedule, self._canonical.watched() if watched else None)
            if maker.went_alike(again, outcome):
                outcome = again
            else:
                from simloop.explore.likening import settled

                outcome = settled(maker, schedule, outcome, again)
        self._add(outcome.choices, outcome.fingerprint, failed=outcome.exception is not None)
        if self._observe is not None:
            assert maker.forks is None
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

    def _examiner(self) -> Examination:
        # Most campaigns find nothing to examine, and need not wait for it.
        from simloop.explore.examination import Examination

        def explore(execute: Execute) -> Report:
            return Campaign(execute, self.name, runs=min(self.runs, DEFAULT_RUNS), seed=self.seed).explore()

        return Examination(self._maker, self.seed, self._shrink_runs, explore, self._told_of_failure, self._dismiss)

    def _told_of_failure(self, strategy: str) -> None:
        if self._progress is not None:
            self._progress.note(lambda: f"failed in run {self._number()} ({strategy}); it is made small")

    def replay(self, token: str | int) -> tuple[Outcome, Explanation, Schedule]:
        """Run the schedule of a token or a plain seed. Returns the outcome, the explanation and the schedule. Warns
        when some of its deviations (choices other than the default) no longer occur, and raises `OtherTestError` when
        the token was made for another test."""
        return self._examiner().replay(token)


def _wakeups() -> WakeUps:
    # Not for the many tests in which there is nothing to choose.
    from simloop.explore.wakeups import WakeUps

    return WakeUps()


def _is_over(ends: float | None, report: Report) -> bool:
    """Return True if the real time `ends`, at which the campaign has to end, has passed and at least one run was made.
    Always False if `ends` is None."""
    return ends is not None and report.runs > 0 and _monotonic() >= ends


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
