"""Simulated pytest items for unittest methods that use an event loop, such as those of
`unittest.IsolatedAsyncioTestCase`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import unittest
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.unittest import TestCaseFunction

from pytest_simloop.breakpoints import note_time
from pytest_simloop.item import SimulatedItem
from pytest_simloop.tied import makes_loop

if TYPE_CHECKING:
    from simloop.world.world import World


class Recorder(unittest.TestResult):
    """Test result for unittest that keeps only the first outcome that a test case reports, as the exception by which
    pytest reports it."""

    outcome: BaseException | None = None

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def _note(self, outcome: BaseException) -> None:
        if self.outcome is None:
            self.outcome = outcome
            note_time(outcome, self._world)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._note(err[1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._note(err[1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._note(err[1])

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._note(pytest.skip.Exception(reason))

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._note(pytest.xfail.Exception(""))

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._note(pytest.fail.Exception("Unexpected success", pytrace=False))


class SimTestCase(SimulatedItem, TestCaseFunction):
    """Pytest item for a unittest method that uses an event loop. Each run creates a new instance of the test case, and
    so its own event loop. What pytest itself adds, such as autouse fixtures, is set up only once for all runs."""

    @property
    def once(self) -> bool:
        """True for a sync method without the marker ``simloop``, for which one run is enough."""
        return not inspect.iscoroutinefunction(self.function) and self.get_closest_marker("simloop") is None

    @functools.cached_property
    def sets_up_class(self) -> bool:
        """True if ``setUpClass`` makes an event loop. Then each run sets up the class, in its world, and tears it down;
        pytest does not."""
        return any(makes_loop(vars(base).get("setUpClass")) for base in self._classes())

    #: Pytest's fixture for ``setUpClass``, where it was replaced for this test.
    stood_in: Any = None

    def _classes(self) -> list[type]:
        """Return the test class and those bases of it that are not unittest's."""
        return [base for base in self.cls.__mro__ if base.__module__.partition(".")[0] not in ("unittest", "builtins")]

    def setup(self) -> None:
        self.prepare()
        TestCaseFunction.setup(self)
        if self.stood_in is not None:
            # A test of the same class that is not simulated needs the real one.
            self.stood_in.finish(self._request)

    def run_once(self, world: World) -> None:
        recorder = Recorder(world)
        with self._class_set_up() if self.sets_up_class else contextlib.nullcontext():
            case = self.parent.obj(self.originalname)  # type: ignore[union-attr]
            case(result=recorder)
            if recorder.outcome is not None:
                raise recorder.outcome

    @contextlib.contextmanager
    def _class_set_up(self) -> Iterator[None]:
        """Context manager for a block of code before and after which the class is set up and torn down. In the end its
        attributes are what they were, since other tests are not to find those of a run."""
        kept = [(base, dict(vars(base))) for base in self._classes()]
        cls: Any = self.cls
        try:
            self.setting_up = True
            try:
                cls.setUpClass()
            except unittest.SkipTest as skipped:
                raise pytest.skip.Exception(str(skipped)) from None
            self.setting_up = False
            try:
                yield
            finally:
                cls.tearDownClass()
        finally:
            cls.doClassCleanups()
            for base, before in kept:
                for name, value in list(vars(base).items()):
                    if name not in before:
                        delattr(base, name)
                    elif value is not before[name]:
                        setattr(base, name, before[name])
