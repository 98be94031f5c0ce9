"""Many runs of one test, until a failure, the budget, or exhaustion."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
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
from simloop.errors import ConfigurationError, NondeterminismError, OtherTestError, ReplayDriftWarning, limit_met
from simloop.explore.crashes import CrashSweep
from simloop.explore.enumeration import Enumeration
from simloop.explore.plugins import Hooks, installed_plugins
from simloop.explore.shrink import DEFAULT_BUDGET, Shrinker
from simloop.explore.signature import signature_of
from simloop.explore.strategies import Canonical, Plan, Saved, Strategy, Walk
from simloop.explore.sweeps import CancelSweep, DelaySweep, TimeoutSweep
from simloop.hosted import Main
from simloop.loop import Tracer
from simloop.report.explanation import Explanation
from simloop.report.text import Line, command, failure_text
from simloop.report.trace import Trace
from simloop.simulation import Limits, Outcome, T, execute, make_limits

DEFAULT_RUNS = 100


class Execute(Protocol):
    """Makes one run of the test under the given choices. Exceptions that are no failure, such as a skip, it
    raises; all others it returns in the outcome. `profile` overrides the test's own. `final` marks the one run
    that a person gets to see: whose output, traceback and breakpoints count."""

    def __call__(
        self,
        choices: Choices,
        tracer: Tracer | None = None,
        *,
        profile: str | None = None,
        final: bool = False,
    ) -> Outcome: ...


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
    #: What happened, for a person to read.
    explanation: Explanation = field(repr=False)
    #: How many deviations the run had in which it was found.
    deviations_found: int = 0

    @property
    def story(self) -> list[str]:
        """One sentence for each deviation of the schedule, in the order of their happening."""
        return self.explanation.sentences

    def describe(self) -> str:
        """The report as text, at most 100 columns by 60 lines: what made it fail, the steps of the failing and of a
        passing run, whether it can happen on stock asyncio, and the token."""
        head = f"failed in run {self.runs} ({self.strategy})"
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
    #: How many schedules there are, when all were run; else 0.
    complete: int = 0
    #: Whether the environment could decide anything at all in the canonical run.
    has_choices: bool = False

    def __bool__(self) -> bool:
        return self.failure is None


# Up to which part of a campaign's runs each sweep may go on: what one leaves, the next may have. The rest is for the
# walk. Strategies of third parties share a part of their own.
_SWEEPS = ((CancelSweep, 0.3), (CrashSweep, 0.75), (TimeoutSweep, 0.45), (DelaySweep, 0.65))
_THIRD_PARTIES = 0.2


class Campaign:
    """Explores one test, which `execute` runs. `name` identifies the test in its tokens.

    `saved` schedules are tried first. `strategies` of third parties come after the sweeps. Shrinking takes up to
    `shrink_runs` runs more, 0 for none. `observe` hears of every run that explores.
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
        shrink_runs: int = DEFAULT_BUDGET,
        observe: Callable[[Outcome], None] | None = None,
    ) -> None:
        self._execute = execute
        self.name = name
        self.runs = check_runs(runs)
        self.seed = check_seed(seed)
        self.profile = profile
        self._shrink_runs = check_shrink_runs(shrink_runs)
        self._observe = observe
        self.report = Report()
        self._fingerprints: set[int] = set()
        #: The schedule of the first failing run.
        self._found: Schedule | None = None
        self._enumeration = Enumeration(seed, self._left)
        #: Strategies in the order in which they are asked, each with the runs that it may still make. What is kept
        #: runs before everything else, whatever it costs.
        self._portfolio: list[tuple[Strategy, Callable[[], int]]] = [
            (Saved(saved), self._left),
            (Canonical(seed), self._left),
        ]
        for sweep, part in _SWEEPS:
            left = functools.partial(self._left, part)
            self._portfolio.append((sweep(seed, left), left))
        for number, strategy in enumerate(strategies):
            share = max(1, int(runs * _THIRD_PARTIES / len(strategies)))
            self._portfolio.append((strategy, functools.partial(self._left_of, number, share)))
        self._portfolio += [(self._enumeration, self._left), (Walk(seed), self._left)]
        self._guests = list(strategies)
        self._made = [0] * len(strategies)

    def _left(self, part: float = 1) -> int:
        """How many runs may still be made before that part of all is used up."""
        return int(self.runs * part) - self.report.runs

    def _left_of(self, guest: int, share: int) -> int:
        return min(self._left(), share - self._made[guest])

    def explore(self) -> Report:
        """Run until the first failure, the whole budget, or until every schedule was run. Raises
        `NondeterminismError` when two runs of one schedule differ."""
        report = self.report
        try:
            for strategy, left in self._portfolio:
                while left() > 0 and (plan := strategy.plan()) is not None:
                    if strategy in self._guests:
                        self._made[self._guests.index(strategy)] += 1
                    outcome = self._run(plan)
                    if outcome.exception is not None:
                        report.failure = self._examine(outcome, strategy.name)
                        return report
                if strategy is self._enumeration and (covered := self._enumeration.covered):
                    report.complete = covered
                    return report
        except KeyboardInterrupt as interrupt:
            known = "no failure until then"
            if self._found is not None:
                known = f"it fails, not reduced yet: {encode(self._found, self.name)}"
            interrupt.add_note(f"simloop: interrupted in run {report.runs} of {self.runs} of {self.name}; {known}")
            raise
        return report

    def _run(self, plan: Plan) -> Outcome:
        report = self.report
        report.runs += 1
        choices = Choices(plan.seed, plan.decide)
        outcome = self._execute(choices)
        if outcome.fingerprint not in self._fingerprints:
            self._fingerprints.add(outcome.fingerprint)
            report.distinct += 1
        for listener, _ in self._portfolio:
            listener.observe(choices, outcome.exception is not None)
        if self._observe is not None:
            self._observe(outcome)
        if report.runs == 1:
            self._check_determinism(outcome)
        if not report.has_choices:
            report.has_choices = any(n > 1 for _, _, _, n, _ in choices.recorded)
        return outcome

    def _check_determinism(self, first: Outcome) -> None:
        """The first schedule runs twice, and must go the same way."""
        self._again(Schedule(self.profile, first.choices.seed, first.choices.deviations()), first)

    def _again(self, schedule: Schedule, expected: Outcome) -> Outcome:
        """Run what `expected` came of once more, and see that it goes the same way."""
        outcome = self._traced(schedule, None)
        if outcome.choices.digest != expected.choices.digest:
            raise first_difference(expected.choices, outcome.choices, self.name) from expected.exception
        return outcome

    def _traced(
        self, schedule: Schedule, tracer: Trace | None, *, profile: str | None = None, final: bool = False
    ) -> Outcome:
        choices = Choices(schedule.seed, schedule.decider())
        choices.observer = tracer
        with tracer.touches.watch() if tracer is not None else contextlib.nullcontext():
            return self._execute(choices, tracer, profile=profile, final=final)

    def _examine(self, found: Outcome, strategy: str) -> Failure:
        """Make sure of a failure, make it small, and find the words for it."""
        schedule = self._found = Schedule(self.profile, found.choices.seed, found.choices.deviations())
        last = self._again(schedule, found)
        assert found.exception is not None
        wanted = signature_of(found.exception)

        def still_fails(candidate: Schedule) -> tuple[bool, Choices]:
            nonlocal last
            outcome = self._traced(candidate, None)
            fails = outcome.exception is not None and signature_of(outcome.exception) == wanted
            if fails:
                last = outcome
            return fails, outcome.choices

        shrinker = Shrinker(schedule, still_fails, self._shrink_runs, self.seed)
        small = self._found = shrinker.shrink()
        explanation, outcome = self._explained(small)
        if outcome.choices.digest != last.choices.digest:
            raise first_difference(last.choices, outcome.choices, self.name) from outcome.exception
        return Failure(
            token=encode(small, self.name),
            exception=outcome.exception or found.exception,
            runs=self.report.runs,
            strategy=strategy,
            schedule=small,
            explanation=explanation,
            deviations_found=len(schedule.deviations),
        )

    def _explained(self, schedule: Schedule) -> tuple[Explanation, Outcome]:
        """Run a schedule with somebody watching, beside the nearest one that passes: without its last deviation,
        if that passes. The run itself comes last, since its output and its traceback are what a person sees."""
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
        outcome = self._traced(schedule, failing, final=True)
        # Of what the simulation itself cannot do, nothing can be said about stock asyncio.
        limit = limit_met(outcome.world.escape) or limit_met(outcome.exception)
        verdict = limit or verdict or failing.beyond_stock(self.profile)
        return Explanation(outcome.exception, failing, passing, left_out, verdict), outcome

    def _verdict(self, schedule: Schedule) -> str:
        """What is known of this failure on stock asyncio; empty where it was not seen there. What a wider profile has
        found is tried without it: first the schedule itself, then others."""
        if self.profile == "cpython":
            always = "" if schedule.deviations else ", and does whenever nothing unusual happens"
            return f"can happen on stock asyncio{always}"
        error = self._traced(schedule, None).exception
        if error is None or limit_met(error):
            return ""
        wanted = signature_of(error)
        stock = self._traced(schedule, None, profile="cpython").exception
        if stock is not None and signature_of(stock) == wanted:
            return "can happen on stock asyncio"

        def on_stock(
            choices: Choices, tracer: Tracer | None = None, *, profile: str | None = None, final: bool = False
        ) -> Outcome:
            return self._execute(choices, tracer, profile="cpython")

        found = Campaign(on_stock, self.name, runs=min(self.runs, DEFAULT_RUNS), seed=self.seed).explore().failure
        if found is not None and signature_of(found.exception) == wanted:
            return f"can happen on stock asyncio: profile cpython finds it too, with {found.token}"
        return ""

    def replay(self, token: str | int) -> tuple[Outcome, Explanation, Schedule]:
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
        explanation, outcome = self._explained(schedule)
        applied, wanted = schedule.applied(outcome.choices), len(schedule.deviations)
        if applied < wanted:
            warnings.warn(
                f"{applied} of {wanted} deviations of the token applied to {self.name}: "
                "the program has changed since it was made",
                ReplayDriftWarning,
                stacklevel=3,
            )
        return outcome, explanation, schedule


def check_runs(runs: int) -> int:
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise ConfigurationError(f"runs must be a whole number of at least 1, not {runs!r}")
    return runs


def check_shrink_runs(runs: int) -> int:
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 0:
        raise ConfigurationError(f"shrink_runs must be a whole number of at least 0, not {runs!r}")
    return runs


def _name_of(main: Callable[..., Any]) -> str:
    return str(getattr(main, "__qualname__", type(main).__qualname__))


def _executor(main: Main[Any], limits: Limits) -> Execute:
    def execute_main(
        choices: Choices, tracer: Tracer | None = None, *, profile: str | None = None, final: bool = False
    ) -> Outcome:
        own = limits if profile is None else dataclasses.replace(limits, profile=profile)
        return execute(main, choices, own, tracer)

    return execute_main


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

    hooks = Hooks(installed_plugins(), name)
    return Campaign(
        _executor(main, limits),
        name,
        runs=runs,
        seed=seed,
        profile=limits.profile,
        strategies=hooks.strategies(seed, limits.profile),
        observe=hooks.observer(),
    ).explore()


def replay(main: Main[T], token: str | int, **options: Any) -> T:
    """Run ``main()`` once as a token, or a plain seed, says. Returns what it returns or raises what it raises.

    Raises `TokenError` for what is not a token and `OtherTestError` for one of another function. Options:
    those of `simloop.run`; the profile is the token's.
    """
    if isinstance(token, str) and not token.strip().isdigit():
        options.setdefault("profile", decode(token).profile)
    limits = make_limits(options)

    outcome, _, _ = Campaign(_executor(main, limits), _name_of(main), profile=limits.profile).replay(token)
    if outcome.exception is not None:
        raise outcome.exception
    value: T = outcome.value
    return value


__all__ = ["Campaign", "Execute", "Failure", "Limits", "NondeterminismError", "Report", "explore", "replay"]
