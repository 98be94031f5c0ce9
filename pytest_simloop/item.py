"""Pytest items of simulated tests."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.outcomes import XFailed

from pytest_simloop import internals
from pytest_simloop.breakpoints import Breakpoints, note_time
from pytest_simloop.environment import confirming
from pytest_simloop.settings import Settings, settings_of, test_name
from pytest_simloop.streams import exempt_streams
from pytest_simloop.trial import Trial
from simloop.errors import SimulationError
from simloop.explore.result import FROM_NOW, alike_by
from simloop.loop import factory
from simloop.loop.cleanup import report_leftovers, shut_down
from simloop.loop.factory import make_loop
from simloop.shims.set_order import number_objects
from simloop.simulation.context import WorldContext
from simloop.simulation.install import install
from simloop.simulation.outcome import Outcome
from simloop.world import active

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.explore.coverage import Coverage
    from simloop.explore.result import Report
    from simloop.loop.loop import SimLoop
    from simloop.simulation.handle import Sim
    from simloop.simulation.limits import Limits
    from simloop.world.observer import Observer
    from simloop.world.world import World

# Number of runs from which on `-v` tells how many runs of a test are not seen yet.
_RUNS_TO_JUDGE = 50
# Of those who were never raced so many are named.
_NAMES = 3
# Not failures of the test: they end the campaign, and pytest knows what to do with them.
_VERDICTS = (pytest.skip.Exception, pytest.exit.Exception, XFailed, KeyboardInterrupt)
# For a report, in place of the verdict.
_IN_SETUP = "it is a fixture that fails, while it is set up: the test has not begun"


class SimulatedItem(pytest.Function):
    """Pytest item of a test whose runs are made by a campaign, each run in a world of its own."""

    simulated = True
    #: Reason why this test cannot be run; None if it can.
    refusal: str | None = None
    #: True to explore schedules, False to run only the pinned ones.
    explores = True
    #: Tokens of the schedules that are pinned to the test.
    pins: tuple[str, ...] = ()
    #: World of the run in progress; None if there is none.
    world: World | None = None
    _sim: Sim | None = None
    #: Summary of a passed test, which pytest shows with -v.
    summary: str | None = None
    #: Text of the report of a failure; None if there is none.
    section: str | None = None
    #: Sections that plugins add to the report of a failure, as pairs of title and text.
    extra_sections: Sequence[tuple[str, str]] = ()
    breakpoints: Breakpoints
    _settings: Settings
    #: True if runs begin at the real time, since the test fails on the usual date.
    from_now = False
    #: True in the one run whose output counts.
    final = False
    #: True while the fixtures of a run are set up, and after an error in that, which is not a failure of the test.
    setting_up = False
    _scratch: Path | None = None
    #: Counters of the session's factory of temporary directories: those that it uses, and a copy from before the first
    #: run.
    _numbers: tuple[dict[str, int], dict[str, int]] | None = None

    @classmethod
    def of(cls, function: pytest.Function) -> SimulatedItem:
        """Return a simulated item for the same test as the pytest item `function`."""
        item: SimulatedItem = cls.from_parent(
            function.parent,
            name=function.name,
            callspec=getattr(function, "callspec", None),
            fixtureinfo=function._fixtureinfo,
            originalname=function.originalname,
        )
        return item

    def prepare(self) -> None:
        """Read the settings of the test; if they are invalid, make the test fail."""
        exempt_streams(self.config)
        wrong = self.refusal
        if wrong is None:
            try:
                self._settings = settings_of(self, test_name(self))
            except SimulationError as error:
                wrong = str(error)
        if wrong is not None:
            pytest.fail(wrong, pytrace=False)

    def make_wide_fixtures(self) -> None:
        """Set up the fixtures that outlive the test and are not tied to an event loop: once, in the real world, as
        pytest promises. The other fixtures are set up in every run."""
        install()  # for loops that fixtures make to be noticed
        for name in internals.wide_fixtures(self):
            from pytest_simloop.tied import is_tied, tie

            definition = internals.fixture_definition(self, name)
            if is_tied(definition, self):
                continue
            made_before = factory.made_outside
            self._request.getfixturevalue(name)
            if factory.made_outside != made_before:
                tie(definition, self)
                definition.finish(self._request)
        self._prepare_directories()

    def use(self, limits: Limits) -> None:
        """Set the limits and options of later runs."""
        self._settings = self._settings._replace(limits=limits)

    @property
    def sim(self) -> Sim | None:
        """Handle on the world of the current run; None if there is none."""
        if self._sim is None and self.world is not None:
            from simloop.simulation.handle import Sim

            self._sim = Sim(self.world)
        return self._sim

    def finalized(self, world: World, run: Callable[[], object], last: Callable[[], object] = lambda: None) -> None:
        """Call ``run()``, then run the finalizers of everything that was set up in it, and then call ``last()``. Raises
        the first error of all these."""
        errors: list[BaseException] = []
        before = internals.finalizer_counts(self)
        internals.forget_instance(self)
        try:
            run()
        except BaseException as error:
            note_time(error, world)
            errors.append(error)
        for finalizer in chain(internals.take_finalizers(self, before, self._ends_with_run), [last]):
            try:
                finalizer()
            except BaseException as error:
                errors.append(error)
        # The directories are gone with the run, and the next one is to get the same.
        if self._numbers is not None:
            numbers, first = self._numbers
            numbers.clear()
            numbers.update(first)
        for later in errors[1:]:
            if later is not errors[0]:
                errors[0].add_note(f"then, while tearing down: {type(later).__name__}: {later}")
        if errors:
            raise errors[0]

    def _ends_with_run(self, finalizer: Callable[[], object]) -> bool:
        """Return True for a finalizer that is to be called at the end of the run, False for one of a fixture that
        outlives the run."""
        definition = getattr(getattr(finalizer, "func", finalizer), "__self__", None)
        scope = getattr(definition, "scope", None)
        if scope is None or scope == "function":
            return True
        from pytest_simloop.tied import is_tied

        return is_tied(definition, self)

    def _prepare_directories(self) -> None:
        factory, numbers = internals.directories(self.config)
        if factory is not None and "tmp_path_factory" in self.fixturenames:
            # It makes its directory when it is first asked, and that must not be in one run's world only.
            factory.getbasetemp()
            if "tmp_path" in self.fixturenames:
                self.scratch(factory)
        self._numbers = numbers, numbers.copy()

    def scratch(self, factory: pytest.TempPathFactory) -> Path:
        """Return the `tmp_path` of this run: the same path in every run, so that runs are alike, and always empty,
        since files written there exist only in the run's world."""
        if self._scratch is None:
            name = "".join(c if c.isalnum() else "_" for c in self.name)[:30]
            with active.world_entered(None):
                self._scratch = factory.mktemp(name, numbered=True)
        return self._scratch

    def run_once(self, world: World) -> None:
        """Set up, run and tear down the test in `world`. Raises the exception of the test, if it fails."""
        raise AssertionError(f"{type(self).__name__} does not say how it is run")

    def runtest(self) -> None:
        if not self.explores and not self.pins:
            pytest.skip("no schedule is pinned for these parameters: run it with --sim")
        self.use(self._settings.limits.at_present())
        try:
            with Breakpoints() as self.breakpoints:
                self.run_trial(Trial(self, self._settings))
        finally:
            number_objects(False)  # of which one test may have had need

    def run_trial(self, trial: Trial) -> None:
        """Run the pinned schedules and the campaign that the test's settings ask for. Raises the exception of the test,
        if it fails."""
        token = self._settings.replay
        if confirming():
            from pytest_simloop.replayer import served

            if served(self.config, self.execute):
                return
        if token is not None or self.pins:
            from pytest_simloop.replays import replay

            if token is not None:
                replay(trial, token)
                return
            for number, token in enumerate(self.pins, 1):
                replay(trial, token, f"pinned schedule {number} of {len(self.pins)}: {token}\n")
        report = trial.explore() if self.explores else None
        if report is not None and report.failure is not None:
            from pytest_simloop.failures import fail

            fail(trial, report, report.failure)
        self.summary = self._summary(report)
        if report is not None and self.breakpoints.hit:
            from pytest_simloop.replays import look

            look(trial, numbered=report.numbered)

    def _summary(self, report: Report | None) -> str:
        parts = self.pins_told() + [FROM_NOW] * self.from_now
        if report is not None and not report.has_choices:
            hint = "; --sim-profile=hostile also reorders task steps"
            parts.append(f"1 run: nothing to explore{hint * (self._settings.limits.profile != 'hostile')}")
        elif report is not None and report.schedules_in_all:
            parts.append(f"complete: {report.schedules_in_all} schedule{'s' * (report.schedules_in_all != 1)}")
        elif report is not None:
            new = f", {report.coverage.new} of them new" if self._settings.corpus else ""
            parts.append(f"{report.runs} runs, {report.distinct} distinct{new}")
            if report.runs >= _RUNS_TO_JUDGE:
                coverage = report.coverage
                parts.append(f"{coverage.new_in_last} of the last {coverage.last} new, {coverage.unseen:.0%} unseen")
                parts += _missed(coverage)
        if report is not None:
            never = [name for name, runs in report.coverage.sometimes.items() if not runs]
            parts += [f"never met: {', '.join(never)}"] if never else []
            parts += alike_by(numbered=report.numbered, forked=report.forked)
        return "; ".join(parts)

    def pins_told(self) -> list[str]:
        return [f"{len(self.pins)} pinned schedule{'s' * (len(self.pins) != 1)}"] if self.pins else []

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        from pytest_simloop.sections import in_words, with_sections

        return in_words(self, excinfo) or with_sections(self, super().repr_failure(excinfo, *args, **kwargs))

    def _traceback_filter(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
        from pytest_simloop.sections import is_foreign

        shown = super()._traceback_filter(excinfo)
        return shown.filter(is_foreign) or shown

    def execute(
        self, choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
    ) -> Outcome:
        """Make one run in a fresh world. Breakpoints are active in a `final` run only."""
        limits = self._settings.limits
        if profile is not None and profile != limits.profile:
            limits = limits._replace(profile=profile)
        outcome: Outcome | None = None
        internals.forget_output(self)
        self.final = final
        if final and not confirming():
            self.breakpoints.restore()
        try:
            with WorldContext(choices, limits) as world:
                if observer is not None:
                    world.watch(observer)
                outcome = Outcome(world)
                self.world = world
                self.run_once(world)
        except _VERDICTS:
            raise
        except BaseException as error:
            if outcome is None:
                raise
            note_time(error, outcome.world)
            if self.setting_up:
                outcome.limit = _IN_SETUP
            from pytest_simloop.real_servers import asked_for_real_server

            limit = outcome.world.escape or asked_for_real_server(self, outcome.world, error)
            outcome.exception = limit or self.judge(error, choices)
        finally:
            self.world = self._sim = None
            self.setting_up = False
            if final:
                self.breakpoints.mute()
        assert outcome is not None
        return outcome

    def judge(self, error: BaseException, choices: Choices) -> BaseException | None:
        """Return the failure of a run that raised `error`, or None if the run is rejected. Raises an error that is no
        failure, such as a skip."""
        return error


class SimFunction(SimulatedItem):
    """Pytest item of an async test function: each run has its own loop, fixtures and test instance."""

    _loop: SimLoop
    _context: contextvars.Context

    def setup(self) -> None:
        self.prepare()
        self.make_wide_fixtures()

    def run_once(self, world: World) -> None:
        loop = self._loop = make_loop(world, world.root)
        self._context = contextvars.copy_context()
        was_quiet = False

        def end() -> None:
            nonlocal was_quiet
            was_quiet = shut_down(loop)

        try:
            self.finalized(world, self._run_main, end)
            if not was_quiet:
                report_leftovers(loop)
            loop.close()
        finally:
            del self._loop, self._context  # nothing of a run shall outlive it

    def _run_main(self) -> None:
        self.setting_up = True
        internals.fill_fixtures(self)
        self.setting_up = False
        arguments = {name: self.funcargs[name] for name in internals.argument_names(self)}
        self._loop.run_to_end((self._loop.create_main(self.start(arguments), self._context),))

    def start(self, fixtures: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """Call the test function and return its coroutine."""
        coro: Coroutine[Any, Any, Any] = self.obj(**fixtures)
        return coro

    def run_async(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine of a fixture in the event loop of this run, and return its result."""
        return self._loop.run_until_complete(self._loop.create_task(coro, context=self._context))


def _missed(coverage: Coverage) -> list[str]:
    """Return phrases on the choice points that had the default answer in every run, and on connections, threads, timers
    and tasks all of whose choice points had."""
    points, never = len(coverage.never_deviated), coverage.never_raced
    told = [f"{points} point{'s' * (points != 1)} never deviated at"] if points else []
    if never:
        more = f" and {len(never) - _NAMES} more" if len(never) > _NAMES else ""
        told.append(f"never raced: {', '.join(never[:_NAMES])}{more}")
    return told
