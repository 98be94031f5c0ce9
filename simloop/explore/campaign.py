"""Many runs of one test, until a failure, the budget, or exhaustion."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from simloop.choices import (
    Choices,
    Point,
    Schedule,
    check_seed,
    decode,
    encode,
    first_difference,
    seeded,
)
from simloop.errors import ConfigurationError, NondeterminismError, OtherTestError, ReplayDriftWarning
from simloop.explore.shrink import Shrinker
from simloop.explore.signature import signature_of
from simloop.explore.strategies import Portfolio, default_portfolio
from simloop.loop import Tracer
from simloop.report.story import Story
from simloop.simulation import Limits, Main, Outcome, T, execute, make_limits

DEFAULT_RUNS = 100


class Execute(Protocol):
    """Makes one run of the test under the given choices. Exceptions that are no failure, such as a
    skip, it raises; all others it returns in the outcome."""

    def __call__(self, choices: Choices, tracer: Tracer | None = None) -> Outcome: ...


@dataclass
class Failure:
    """What a campaign found."""

    #: The schedule as one line; `simloop.replay` takes it.
    token: str
    #: What the test raised, in the last replay of the token.
    exception: BaseException
    #: In which run of the campaign it was found first; the canonical run is number 1.
    runs: int
    #: Which strategy found it.
    strategy: str
    schedule: Schedule
    #: One sentence for each deviation of the schedule, in the order of their happening.
    story: list[str] = field(default_factory=list)
    #: How many deviations the run had in which it was found.
    deviations_found: int = 0


@dataclass
class Report:
    """What came of a campaign: ``failure`` is None when every run passed."""

    failure: Failure | None = None
    #: How many schedules were run.
    runs: int = 0
    #: How many of the runs differed from all before them, by the digest of their choices and steps.
    distinct: int = 0

    def __bool__(self) -> bool:
        return self.failure is None


class Campaign:
    """Explores one test, which `execute` runs. `name` identifies the test in its tokens."""

    def __init__(
        self,
        execute: Execute,
        name: str,
        *,
        runs: int = DEFAULT_RUNS,
        seed: int = 0,
        profile: str = "cpython",
        portfolio: Portfolio = default_portfolio,
    ) -> None:
        self._execute = execute
        self.name = name
        self.runs = check_runs(runs)
        self.seed = check_seed(seed)
        self.profile = profile
        self._portfolio = portfolio
        self.report = Report()
        self._digests: set[int] = set()
        #: The schedule of the first failing run.
        self._found: Schedule | None = None

    def explore(self) -> Report:
        """Run until the first failure, or the whole budget. Raises `NondeterminismError` when two runs of
        one schedule differ."""
        try:
            strategies = self._portfolio(self.seed)
            for strategy in strategies:
                while self.report.runs < self.runs and (plan := strategy.plan()) is not None:
                    choices = Choices(plan.seed, plan.decide)
                    outcome = self._run(choices)
                    for listener in strategies:
                        listener.observe(choices, outcome.exception is not None)
                    if self.report.runs == 1:
                        self._check_determinism(outcome)
                    if outcome.exception is not None:
                        self.report.failure = self._examine(outcome, strategy.name)
                        return self.report
        except KeyboardInterrupt as interrupt:
            known = "no failure until then"
            if self._found is not None:
                known = f"it fails, not reduced yet: {encode(self._found, self.name)}"
            interrupt.add_note(f"simloop: interrupted in run {self.report.runs} of {self.runs} of {self.name}; {known}")
            raise
        return self.report

    def _run(self, choices: Choices) -> Outcome:
        self.report.runs += 1
        outcome = self._execute(choices)
        if choices.digest not in self._digests:
            self._digests.add(choices.digest)
            self.report.distinct += 1
        return outcome

    def _check_determinism(self, first: Outcome) -> None:
        """The first schedule runs twice, and must go the same way."""
        again = self._execute(Choices(first.choices.seed, None))
        if again.choices.digest != first.choices.digest:
            raise first_difference(first.choices, again.choices, self.name) from first.exception

    def _examine(self, found: Outcome, strategy: str) -> Failure:
        """Make sure of a failure, make it small, and find the words for it."""
        schedule = self._found = Schedule(self.profile, found.choices.seed, found.choices.deviations())
        again = self._execute(Choices(schedule.seed, schedule.decider()))
        if again.choices.digest != found.choices.digest:
            raise first_difference(found.choices, again.choices, self.name) from found.exception
        assert found.exception is not None
        wanted = signature_of(found.exception)

        def still_fails(candidate: Schedule) -> dict[Point, int] | None:
            outcome = self._execute(Choices(candidate.seed, candidate.decider()))
            if outcome.exception is None or signature_of(outcome.exception) != wanted:
                return None
            return outcome.choices.deviations()

        small = Shrinker(schedule, still_fails).shrink()
        outcome, story = self.told(small)
        return Failure(
            token=encode(small, self.name),
            exception=outcome.exception or found.exception,
            runs=self.report.runs,
            strategy=strategy,
            schedule=small,
            story=story,
            deviations_found=len(schedule.deviations),
        )

    def told(self, schedule: Schedule) -> tuple[Outcome, list[str]]:
        """Run a schedule once more, with somebody who puts its deviations into words."""
        story = Story()
        choices = Choices(schedule.seed, schedule.decider())
        choices.observer = story
        outcome = self._execute(choices, story)
        return outcome, story.sentences

    def replay(self, token: str | int) -> tuple[Outcome, list[str], Schedule]:
        """Run what a token or a plain seed stands for. Warns when some of its deviations no longer occur,
        and raises `OtherTestError` when it was made for another test."""
        if isinstance(token, int) or token.strip().isdigit():
            seed = check_seed(int(token))
            outcome = self._execute(Choices(seed, seeded(seed)))
            schedule = Schedule(self.profile, seed, outcome.choices.deviations())
        else:
            schedule = decode(token, self.name)
            if schedule.profile != self.profile:
                raise OtherTestError(
                    f"the token was made under profile {schedule.profile!r}, not {self.profile!r}: "
                    f"ask for profile {schedule.profile!r}"
                )
        outcome, story = self.told(schedule)
        applied, wanted = schedule.applied(outcome.choices), len(schedule.deviations)
        if applied < wanted:
            warnings.warn(
                f"{applied} of {wanted} deviations of the token applied to {self.name}: "
                "the program has changed since it was made",
                ReplayDriftWarning,
                stacklevel=3,
            )
        return outcome, story, schedule


def check_runs(runs: int) -> int:
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise ConfigurationError(f"runs must be a whole number of at least 1, not {runs!r}")
    return runs


def _name_of(main: Callable[..., Any]) -> str:
    return str(getattr(main, "__qualname__", type(main).__qualname__))


def explore(main: Main[Any], *, runs: int = DEFAULT_RUNS, seed: int = 0, **options: Any) -> Report:
    """Run ``main()`` under up to `runs` schedules, beginning with the canonical one, until one fails.

    The failure is made small before it is reported: its token replays it with `replay`, always. Options:
    those of `simloop.run`. Raises `NondeterminismError` when the seed does not decide everything.

    >>> import asyncio
    >>> async def main():
    ...     async def work():
    ...         await asyncio.sleep(1)
    ...     task = asyncio.create_task(work())
    ...     current().may_cancel(task)
    ...     await task
    >>> from simloop.simulation import current
    >>> report = explore(main)
    >>> type(report.failure.exception).__name__
    'CancelledError'
    """
    limits = make_limits(options)
    name = _name_of(main)

    def execute_main(choices: Choices, tracer: Tracer | None = None) -> Outcome:
        return execute(main, choices, limits, tracer)

    return Campaign(execute_main, name, runs=runs, seed=seed, profile=limits.profile).explore()


def replay(main: Main[T], token: str | int, **options: Any) -> T:
    """Run ``main()`` once as a token, or a plain seed, says. Returns what it returns or raises what it raises.

    Raises `TokenError` for what is not a token and `OtherTestError` for one of another function. Options:
    those of `simloop.run`; the profile is the token's.
    """
    if isinstance(token, str) and not token.strip().isdigit():
        options.setdefault("profile", decode(token).profile)
    limits = make_limits(options)

    def execute_main(choices: Choices, tracer: Tracer | None = None) -> Outcome:
        return execute(main, choices, limits, tracer)

    outcome, _, _ = Campaign(execute_main, _name_of(main), profile=limits.profile).replay(token)
    if outcome.exception is not None:
        raise outcome.exception
    value: T = outcome.value
    return value


__all__ = ["Campaign", "Execute", "Failure", "Limits", "NondeterminismError", "Report", "explore", "replay"]
