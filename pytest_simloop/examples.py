"""Async tests under `@given`: Hypothesis generates examples (arguments), and each example gets a campaign of runs.

Hypothesis requires the same result each time that it tries an example, so the result of each example is stored. A
schedule that failed for one example may be tried first for the next. The values of an example that draws while it runs
(`st.data()`) are known only when it has ended: all campaigns of such a test begin alike, and are repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import Flaky, Frozen, StopTest, UnsatisfiedAssumption
from hypothesis.strategies import DataObject, SearchStrategy

import simloop
from pytest_simloop import failures, hypothesis_internals, internals, replays
from pytest_simloop.confirm import NEVER, UNKNOWN
from pytest_simloop.item import SimFunction
from simloop.errors import ReplayDriftWarning, SimulationError
from simloop.explore.result import FROM_NOW, alike_by
from simloop.world import active

if TYPE_CHECKING:
    from pytest_simloop.trial import Trial
    from simloop.choices.choices import Choices
    from simloop.choices.schedule import Schedule
    from simloop.explore.failure import Failure
    from simloop.explore.result import Report
    from simloop.simulation.outcome import Outcome
    from simloop.world.observer import Observer

#: Number by which the runs of a test are divided: the campaign of each example gets this fraction of them.
SHARE = 10
#: Maximum number of schedules that failed for earlier examples and are tried first for the next one.
_CARRIED_MAX = 3
# The attribute by which an exception knows what it was found with.
_FOUND = "_simloop_found"
# Folders of code that runs because a test fails, and not the other way round.
_MACHINERY = tuple(os.path.dirname(str(module.__file__)) + os.sep for module in (simloop, internals, asyncio))
# By these Hypothesis steers its engine; none of them is a failure of the test.
_MARKERS = (StopTest, Frozen, Flaky)


class _Stop(BaseException):
    """Exception that carries an error of the whole test through Hypothesis, which would take any other exception for a
    failing example."""

    def __init__(self, error: SimulationError) -> None:
        super().__init__(error)
        self.error = error


class _FixtureValue:
    """Placeholder for a fixture's value in the examples that Hypothesis prints: the value itself is made anew in every
    run."""

    def __repr__(self) -> str:
        return "..."


class SimHypothesis(SimFunction):
    """Pytest item of an async test under `@given`."""

    #: Async function of the user, without its `@given`.
    _test: Callable[..., Coroutine[Any, Any, Any]]
    #: Function that returns the arguments of the current example, new copies for each run.
    given: Callable[[], dict[str, Any]]
    #: True once the test has passed, and one more example is run only for its breakpoints.
    looking = False

    def setup(self) -> None:
        super().setup()
        # Real time means nothing here, and fixtures are rebuilt for every run.
        unneeded = {HealthCheck.function_scoped_fixture, HealthCheck.differing_executors}
        suppressed = {*hypothesis_internals.hypothesis_settings(self.function).suppress_health_check, *unneeded}
        changes = contextlib.ExitStack()
        changes.enter_context(
            hypothesis_internals.changed_settings(self.function, deadline=None, suppress_health_check=suppressed)
        )
        self.addfinalizer(changes.close)

    def run_trial(self, trial: Trial) -> None:
        settings = trial.settings
        seconds = None if settings.seconds is None else settings.seconds / SHARE
        trial.settings = settings._replace(runs=max(1, settings.runs // SHARE), seconds=seconds)
        handle = self.function.hypothesis
        self._test = handle.inner_test
        examples = Examples(self, trial)
        handle.inner_test = examples.one_example(self._test)
        try:
            self._call_hypothesis()
            self.summary = examples.passed()
            if self.breakpoints.hit:
                self.looking = True
                with hypothesis_internals.changed_settings(
                    self.function, max_examples=1, phases=[Phase.generate], database=None
                ):
                    self._call_hypothesis()
        except _Stop as stop:
            raise stop.error from None
        except BaseException as error:
            examples.report(error)
            raise
        finally:
            handle.inner_test = self._test

    def _call_hypothesis(self) -> None:
        with hypothesis_internals.unexplained(_MACHINERY):
            self.obj(**{name: _FixtureValue() for name in internals.argument_names(self)})

    def execute(
        self, choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
    ) -> Outcome:
        """Make one run of the current example. Its output and breakpoints count, as those of the `final` run, only
        while Hypothesis runs the example that it reports."""
        final = final and (self.looking or hypothesis_internals.is_final_example())
        with contextlib.nullcontext() if final else hypothesis_internals.silent_hypothesis():
            return super().execute(choices, observer, profile=profile, final=final)

    def start(self, fixtures: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        hypothesis_internals.forget_targets()
        instance = [self.obj.__self__] if inspect.ismethod(self.obj) else []
        return self._test(*instance, **fixtures, **self.given())

    def judge(self, error: BaseException, choices: Choices) -> BaseException | None:
        """Return the failure of a run that raised `error`, or None if a failed assumption (`hypothesis.assume`) under
        deviations only rejects this run. A failed assumption in the canonical run rejects the whole example, and is
        raised."""
        leaves = list(_leaves(error))
        if not all(isinstance(leaf, (*_MARKERS, UnsatisfiedAssumption)) for leaf in leaves):
            return error
        for leaf in leaves:
            if isinstance(leaf, _MARKERS):
                raise leaf from None
        if choices.deviations():
            return None
        raise leaves[0] from None


@dataclasses.dataclass
class Found:
    """Failing example of a test under `@given`, with the schedule under which it fails."""

    report: Report
    failure: Failure
    given: dict[str, Any]

    def pinning(self) -> list[str]:
        """Return lines for the report that say how to keep the example in the test together with its token."""
        if any(isinstance(value, DataObject) for value in self.given.values()):
            return ["with the example above, draws included: Hypothesis keeps it in its database, and tries it first"]
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.given.items())
        return [
            "with the example above: Hypothesis keeps it in its database, and tries it first; or put over the test",
            f"  @example({arguments})",
        ]


class Examples:
    """Runner of the examples that Hypothesis generates for one test, which stores the result of each."""

    def __init__(self, item: SimHypothesis, trial: Trial) -> None:
        self._item = item
        self._trial = trial
        self._exploring = item.explores and trial.settings.replay is None
        saved = trial.saved if self._exploring else []
        #: Schedules that the campaign of each example tries first.
        self._schedules = [failure.schedule for failure in saved]
        self._found_by = {failure.token: failure.found for failure in saved}
        #: Schedule under which each explored example fails; None for an example that passed.
        self._verdicts: dict[Hashable, Schedule | None] = {}
        self._count = 0
        self._runs = 0
        #: True once runs of an example were alike only after objects hashed by number instead of by address; and once
        #: only after each run was made in a fork.
        self._numbered = self._forked = False
        #: For each token: True if all of its deviations took place in one of its replays.
        self._applied: dict[str, bool] = {}

    def one_example(self, test: Callable[..., Any]) -> Callable[..., None]:
        """Return the function that Hypothesis calls in place of the test. It has the test's name and source, which
        Hypothesis inspects."""
        own = {*internals.argument_names(self._item), *(["self"] if self._item.cls else [])}

        @functools.wraps(test)
        def run(*args: Any, **values: Any) -> None:
            self._run({name: value for name, value in values.items() if name not in own})

        return run

    def _run(self, values: dict[str, Any]) -> None:
        draws = {name: Draws(value) for name, value in values.items() if isinstance(value, DataObject)}

        def given() -> dict[str, Any]:
            for draw in draws.values():
                draw.rewind()
            return {name: draws[name] if name in draws else _copied(value) for name, value in values.items()}

        self._item.given = given
        settings = self._trial.settings
        if self._item.looking:
            replays.look(self._trial)
            return
        self._count += 1
        for token in self._item.pins if settings.replay is None else [settings.replay]:
            self._replay(token)
        if self._exploring:
            self._explore(values, bool(draws))

    def _replay(self, token: str) -> None:
        """Run the current example under the schedule of a token. Raises the exception of the test, if it fails."""
        schedule, choices = self._trial.scheduled(token)
        outcome = self._item.execute(choices, profile=schedule.profile)
        applied = schedule.applied(choices) == len(schedule.deviations)
        self._applied[token] = applied or self._applied.get(token, False)
        if outcome.exception is None:
            return
        if hypothesis_internals.is_final_example():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ReplayDriftWarning)
                replays.replay(self._trial, token)
        raise outcome.exception

    def _explore(self, values: dict[str, Any], drawing: bool) -> None:
        """Run the campaign of the current Hypothesis example, unless its result is known. Raises the exception of the
        test, if it fails. `values` are the arguments of the example; `drawing` is True if it draws further values while
        it runs."""
        key = None if drawing else hypothesis_internals.example_key()
        known = key is not None and key in self._verdicts
        schedule = self._verdicts.get(key)
        if known and schedule is None:
            return
        if schedule is not None and not hypothesis_internals.is_final_example():
            again = self._item.execute(schedule.choices(), profile=schedule.profile)
            if again.exception is not None:
                raise again.exception
            return
        report = self._search(self._schedules if schedule is None else [schedule])
        failure = report.failure
        if key is not None:
            self._verdicts[key] = None if failure is None else failure.schedule
        if failure is None:
            return
        if not drawing and failure.schedule not in self._schedules:
            self._schedules = [failure.schedule, *self._schedules][:_CARRIED_MAX]
        # One that was tried first because of another example was found there.
        failure.strategy = self._found_by.setdefault(failure.token, failure.strategy)
        raise _marked(failure.exception, Found(report, failure, values))

    def _search(self, first: Sequence[Schedule]) -> Report:
        try:
            # What Hypothesis has found it makes small by many more examples, of which nobody sees the explanation.
            explain = hypothesis_internals.is_final_example()
            begun = self._trial.settings.limits
            report = self._trial.campaign(first, numbered=self._numbered, explain=explain).explore()
            if self._trial.settings.limits is not begun:
                return self._search(first)
        except SimulationError as error:
            raise _Stop(error) from error
        self._runs += report.runs
        self._numbered = report.numbered
        self._forked |= report.forked
        return report

    def passed(self) -> str:
        """Record that the test has passed. Returns the summary that pytest shows with -v."""
        if self._exploring:
            self._trial.passed()
        for token, applied in self._applied.items():
            if not applied:
                warnings.warn(
                    f"not all deviations of {token} applied to an example of {self._trial.name}: "
                    "the program or its examples have changed since it was made",
                    ReplayDriftWarning,
                    stacklevel=2,
                )
        runs = f", {self._runs} runs" if self._runs else ""
        alike = alike_by(numbered=self._numbered, forked=self._forked)
        told = [*self._item.pins_told(), *[FROM_NOW] * self._item.from_now]
        return "; ".join([*told, f"{self._count} examples{runs}", *alike])

    def report(self, error: BaseException) -> None:
        """Describe in the test's report the failures that Hypothesis reports, each with the schedule under which it
        fails."""
        parts: list[str] = []
        for exception, found in _settled(error):
            failure = dataclasses.replace(found.failure, exception=exception)
            saved_at = failures.keep(self._trial, failure)
            confirmation = UNKNOWN if parts else failures.confirmation(self._trial, failure)
            if confirmation == NEVER:  # another process may not have come to this example
                confirmation = UNKNOWN
            parts.append(failures.described(self._trial, found.report, failure, confirmation, saved_at))
            parts += found.pinning()
            self._item.extra_sections = [*self._item.extra_sections, *failures.extra_sections(self._trial, failure)]
        if parts:
            self._item.section = "\n".join(parts)


class Draws(DataObject):
    """Value of `st.data()` for the runs of one example: each run draws the same values."""

    def __init__(self, drawn: DataObject) -> None:
        super().__init__(drawn.conjecture_data)
        self._drawn = drawn
        self._values: dict[tuple[str, Any], list[Any]] = {}
        self._counts: Counter[tuple[str, Any]] = Counter()

    def rewind(self) -> None:
        """Begin a new run, in which the same values are drawn again."""
        self.count = 0
        self._counts.clear()

    def draw(self, strategy: SearchStrategy[Any], label: Any = None) -> Any:
        # By strategy, and not by order: a schedule may change the order in which tasks draw.
        key = (repr(strategy), label)
        values = self._values.setdefault(key, [])
        number = self._counts[key]
        self._counts[key] += 1
        self.count += 1
        if number == len(values):
            # Hypothesis looks at the clock while it draws, which would cost virtual time in the first run only.
            with active.world_entered(None):
                values.append(self._drawn.draw(strategy, label))
        else:
            name = "" if label is None else f" ({label})"
            hypothesis.note(f"Draw {self.count}{name}: {values[number]!r}")
        return _copied(values[number])


def _copied(value: Any) -> Any:
    """Return a copy of a drawn value for one run. Containers are copied, since the test may change them; other objects
    are returned as they are, since the test may compare them by identity."""
    if type(value) in (list, set, bytearray, deque):
        return type(value)(map(_copied, value))
    if type(value) is tuple:
        return tuple(map(_copied, value))
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return value


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _settled(error: BaseException) -> Iterator[tuple[BaseException, Found]]:
    found: Found | None = getattr(error, _FOUND, None)
    if found is not None:
        yield error, found
    elif isinstance(error, BaseExceptionGroup):  # several failures in one
        for inner in error.exceptions:
            yield from _settled(inner)


def _marked(error: BaseException, found: Found) -> BaseException:
    with contextlib.suppress(AttributeError, TypeError):  # of an exception that takes no attributes
        setattr(error, _FOUND, found)
    return error
