"""Examination of a failing run: it is repeated, its schedule is shrunk, and its failure explained and judged."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from simloop.choices.choices import Choices, Point, check_seed
from simloop.choices.draws import seeded
from simloop.choices.schedule import Schedule
from simloop.choices.tokens import decode, encode
from simloop.errors import EscapedSimulationError, OtherTestError, ReplayDriftWarning, causes, limit_met
from simloop.explore.failure import Failure
from simloop.explore.likening import first_difference, run_again
from simloop.explore.run_maker import failure_in, is_endless
from simloop.explore.shrink import Shrinker
from simloop.explore.signature import signature_of
from simloop.report.explanation import Explanation
from simloop.report.trace import Trace
from simloop.shims.subprocess import UNPLAYED

if TYPE_CHECKING:
    from simloop.explore.result import Report
    from simloop.explore.run_maker import AnyOutcome, RunMaker
    from simloop.simulation.outcome import Outcome
    from simloop.simulation.run import Execute
    from simloop.world.observer import Observer

# Number of runs that a shrunk schedule has to fail once more, in the same way.
_CHECKS = 2

_POSSIBLE = "can happen on stock asyncio"
_HIDDEN = "what earlier runs have left behind hides it in this process: replay it to see how it comes about"
# Where CPython looks whether another thread waits for the GIL: `CHECK_EVAL_BREAKER` in its bytecodes.
_BETWEEN_LINES = (
    " where threads switch between any two lines, as they do without the GIL: with it, only at calls and loops"
)


def _lacks_real_program(error: BaseException | None) -> bool:
    """Return True if the error comes from starting a program that the real machine has, but that the test has not
    registered in the simulation."""
    return any(
        isinstance(cause, OSError)
        and any(note.startswith(UNPLAYED) for note in getattr(cause, "__notes__", ()))
        and isinstance(cause.filename, (str, bytes))
        and shutil.which(os.fsdecode(cause.filename)) is not None
        for cause in causes(error)
    )


class Examination:
    """Examination of a failing run, or of a schedule that is to be replayed, by further runs, which `maker` makes.

    Shrinking takes up to `shrink_runs` of them, and draws random numbers from `seed`. ``explore(execute)`` makes
    another campaign over the same test and returns its report. ``told(strategy)`` is called after each run that
    shrinking makes. ``dismiss(error)`` is asked about the failure of a replay: if it returns True, no environment could
    have caused it, and the schedule is replayed anew.
    """

    def __init__(
        self,
        maker: RunMaker,
        seed: int,
        shrink_runs: int,
        explore: Callable[[Execute], Report],
        told: Callable[[str], None],
        dismiss: Callable[[BaseException], bool] | None = None,
    ) -> None:
        self._maker = maker
        self._seed = seed
        self._shrink_runs = shrink_runs
        self._explore = explore
        self._told = told
        self._dismiss = dismiss
        #: Smallest schedule found so far that fails; None before a failure was examined.
        self.schedule: Schedule | None = None

    def failure(self, found: AnyOutcome, strategy: str, *, explain: bool = True) -> Failure:
        """Return the `Failure` for the failing run `found`, which `strategy` has proposed: check that it fails again,
        shrink its schedule, and explain it. Without `explain` only the schedule and the exception are of use."""
        schedule = self.schedule = self._maker.schedule_of(found)
        if is_endless(found):
            return self._failure(found, strategy, schedule, self._unexplained(found.exception))
        last = run_again(self._maker, schedule, found)
        assert found.exception is not None
        wanted = signature_of(found.exception)

        def still_fails(candidate: Schedule) -> tuple[bool, Choices]:
            nonlocal last
            outcome = self._maker.traced(candidate, None)
            self._told(strategy)
            fails = outcome.exception is not None and signature_of(outcome.exception) == wanted
            if fails:
                last = outcome
            return fails, outcome.choices

        shrinker = Shrinker(schedule, still_fails, self._shrink_runs, self._seed)
        small = self.schedule = shrinker.shrink()
        if not explain:
            return self._failure(found, strategy, small, self._unexplained(last.exception))
        for _ in range(_CHECKS):
            if not self._maker.went_alike(checked := self._maker.traced(small, None), last):
                last = run_again(self._maker, small, checked)
        explanation, outcome = self.explained(small)
        if self._maker.begins_afresh and failure_in(outcome) != failure_in(last):
            # What earlier runs have left behind in this process keeps it from this failure, unless it was the first.
            first = self._maker.first_error
            seen = first if first is not None and signature_of(first) == wanted else last.exception
            return self._failure(found, strategy, small, self._unexplained(seen, _HIDDEN))
        if not self._maker.went_alike(outcome, last):
            # Candidates and the neighbour that passes may have done something for the first time, too.
            last = run_again(self._maker, small, outcome)
        for ended in (last, outcome):
            if ended.exception is None or signature_of(ended.exception) != wanted:
                raise first_difference(last.choices, ended.choices, self._maker.name) from found.exception
        return self._failure(found, strategy, small, explanation)

    def _failure(self, found: AnyOutcome, strategy: str, schedule: Schedule, explanation: Explanation) -> Failure:
        exception = explanation.exception or found.exception
        assert exception is not None
        schedule = schedule._replace(numbered=self._maker.report.numbered)
        return Failure(
            token=encode(schedule, self._maker.name),
            exception=exception,
            run_number=self._maker.report.runs,
            strategy=strategy,
            schedule=schedule,
            explanation=explanation,
            deviations_found=len(found.choices.deviations()),
            _execute=self._maker.execute,
        )

    def _unexplained(self, error: BaseException | None, verdict: str = "") -> Explanation:
        """Return an explanation that consists of the error and the verdict alone, without a trace of the run."""
        return Explanation(error, Trace(), None, None, limit_met(error) or verdict)

    def explained(self, schedule: Schedule) -> tuple[Explanation, Outcome]:
        """Run a schedule with a `Trace`, and, for comparison, the nearest run that passes: without the last deviation,
        or else the canonical one. Return the explanation and the outcome. The failing run is made last, since its
        output and its traceback are shown to the user."""
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
            if self._maker.traced(Schedule(schedule.profile, schedule.seed, kept), passing).exception is None:
                break
            passing = None
        verdict = self._verdict(schedule)
        failing = Trace()
        outcome = cast("Outcome", self._maker.traced(schedule, failing, final=True))
        # Of what the simulation itself cannot do, nothing can be said about stock asyncio.
        limit = limit_met(outcome.escape) or limit_met(outcome.exception) or outcome.limit
        if not limit and _lacks_real_program(outcome.exception):
            limit = EscapedSimulationError.limit
        verdict = limit or verdict or failing.beyond_stock(self._maker.profile)
        return Explanation(outcome.exception, failing, passing, left_out, verdict), outcome

    def _verdict(self, schedule: Schedule) -> str:
        """Return the sentence that says if this failure can happen on stock asyncio; empty if it was not reproduced
        there. A failure found under a wider profile is tried under `cpython`: first the same schedule, then a
        campaign."""
        possible = _POSSIBLE + _BETWEEN_LINES * schedule.preempts_lines
        if self._maker.profile == "cpython":
            always = "" if schedule.deviations else ", and does whenever nothing unusual happens"
            return f"{possible}{always}"
        error = self._maker.traced(schedule, None).exception
        if error is None or limit_met(error):
            return ""
        wanted = signature_of(error)
        stock = self._maker.traced(schedule, None, profile="cpython").exception
        if stock is not None and signature_of(stock) == wanted:
            return possible

        def on_stock(
            choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
        ) -> Outcome:
            return self._maker.execute(choices, observer, profile="cpython")

        found = self._explore(on_stock).failure
        if found is not None and signature_of(found.exception) == wanted:
            possible = _POSSIBLE + _BETWEEN_LINES * found.schedule.preempts_lines
            return f"{possible}: profile cpython finds it too, with {found.token}"
        return ""

    def replay(self, token: str | int) -> tuple[Outcome, Explanation, Schedule]:
        """Run the schedule that a token describes, or the one that a plain seed draws. Returns the outcome, the
        explanation and the schedule. Warns when some of its deviations no longer occur, and raises `OtherTestError`
        when the token was made for another test."""
        if isinstance(token, int) or token.strip().isdigit():
            seed = check_seed(int(token))
            outcome = self._maker.execute(Choices(seed, seeded(seed)))
            schedule = Schedule(self._maker.profile, seed, outcome.choices.deviations())
        else:
            schedule = decode(token, self._maker.name)
            self._maker.report.numbered = schedule.numbered
            if schedule.profile != self._maker.profile:
                raise OtherTestError(
                    f"the token was made under profile {schedule.profile!r}, not {self._maker.profile!r}: "
                    f"ask for profile {schedule.profile!r}"
                )
        # First in this process, before other schedules can leave anything behind.
        first = self._maker.traced(schedule, failing := Trace())
        if first.exception is not None and self._dismiss is not None and self._dismiss(first.exception):
            return self.replay(token)
        explanation, outcome = self.explained(schedule)
        if first.exception is not None and failure_in(outcome) != failure_in(first):
            outcome = cast("Outcome", first)
            explanation = Explanation(first.exception, failing, None, None, limit_met(first.exception))
        applied, wanted = schedule.applied(outcome.choices), len(schedule.deviations)
        if applied < wanted:
            warnings.warn(
                f"{applied} of {wanted} deviations of the token applied to {self._maker.name}: "
                "the program has changed since it was made",
                ReplayDriftWarning,
                stacklevel=4,
            )
        return outcome, explanation, schedule
