"""Simulated pytest items for unittest methods that use an event loop, such as those of
`unittest.IsolatedAsyncioTestCase`."""

from __future__ import annotations

import inspect
import unittest
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.unittest import TestCaseFunction

from pytest_simloop.breakpoints import note_time
from pytest_simloop.item import SimulatedItem

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

    def setup(self) -> None:
        self.prepare()
        TestCaseFunction.setup(self)

    def run_once(self, world: World) -> None:
        recorder = Recorder(world)
        case = self.parent.obj(self.originalname)  # type: ignore[union-attr]
        case(result=recorder)
        if recorder.outcome is not None:
            raise recorder.outcome
