"""These tests run pytest inside of pytest.

`pytester` forgets every module that a session inside this process has imported first. What is patched, or holds on to
the threads of executors, must not be imported twice, so all of simloop is imported here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import hypothesis
import pytest

import simloop

for module in pkgutil.walk_packages(simloop.__path__, "simloop."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)


@pytest.fixture(autouse=True)
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CI runs them, pytest's short summaries are longer, and each text is found once more."""
    for variable in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def confirming() -> None:
    """For tests about the replay of failures in a fresh process."""


@pytest.fixture
def with_hypothesis() -> Iterator[None]:
    """For tests under `@given`. Their examples are those of a session elsewhere than in CI, too, where Hypothesis has
    another profile."""
    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.load_profile("default")
    yield
    hypothesis.settings.load_profile(before)


@pytest.fixture(autouse=True)
def lean(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests do without: it is a pytest session more, or all of Hypothesis, which its plugin imports at the
    end of each session."""
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # it takes the variable away
        options = {"confirming": "--sim-no-confirm", "with_hypothesis": "-p no:hypothesispytest"}
        without = [option for fixture, option in options.items() if fixture not in request.fixturenames]
        monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(without))
