"""These tests run pytest inside of pytest.

`pytester` forgets every module that a session inside this process has imported first. What holds on to the threads
of executors must not be imported twice, so it is imported here.
"""

from __future__ import annotations

import pytest

import simloop.simulation.install  # noqa: F401


@pytest.fixture
def confirming() -> None:
    """For tests about the replay of failures in a fresh process."""


@pytest.fixture(autouse=True)
def unconfirmed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests do without: it is a pytest session more."""
    if "pytester" in request.fixturenames and "confirming" not in request.fixturenames:
        request.getfixturevalue("pytester")  # it takes the variable away
        monkeypatch.setenv("PYTEST_ADDOPTS", "--sim-no-confirm")
