"""anyio's own tests of files and of subprocesses have the same verdicts in the simulation as outside.

The exceptions stand below, each with its reason. Tests that are no coroutines run alike on both sides.
"""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("anyio", reason="anyio is not installed: pip install pytest-simloop[libraries]")

import upstream
from upstream import Suite, Verdict

SUITES = (
    Suite(
        "anyio",
        ("tests/test_fileio.py", "tests/streams/test_file.py"),
        # Their conftest.py wants what tests of TLS need. pytest 9.1 deprecates how they write a fixture.
        options=("--noconftest", "-W", "ignore:Class-scoped fixtures defined as instance methods"),
        stock=("-k", "not trio"),
        # Else anyio's plugin runs them. Its marker is known without it, too.
        simulated=("-p", "no:anyio", "-o", "addopts=", "-o", "markers=anyio"),
    ),
    Suite(
        "anyio",
        ("tests/test_subprocesses.py",),
        # Their children are played, but none that sets handlers for signals, as there is no Python of its own, nor any
        # that writes to the descriptors of pytest itself.
        options=("--noconftest", "-k", "not trio and not test_terminate and not inherit_stdout"),
        simulated=("-p", "no:anyio", "-p", "upstream_players", "-o", "addopts=", "-o", "markers=anyio"),
    ),
)  # fmt: skip


@pytest.fixture(params=SUITES, ids=lambda suite: f"{suite.library} {suite.paths[-1]}")
def suite(request: pytest.FixtureRequest) -> Suite:
    found: Suite = request.param
    return found


def test_same_verdicts(suite: Suite) -> None:
    stock, simulated = upstream.both(suite)
    found = upstream.complaints(suite, stock, simulated)
    assert not found, f"{len(found)} of {len(stock)}:\n" + "\n".join(found)


def test_they_did_run_simulated(suite: Suite) -> None:
    """Else the verdicts would agree about nothing."""
    stock, simulated = upstream.both(suite)
    assert not any(verdict.simulated for verdict in stock.values())
    passed = [name for name, verdict in simulated.items() if verdict.verdict == "passed" and verdict.simulated]
    assert len(passed) > len(simulated) / 2


# --- the driver itself ------------------------------------------------------------------------------

PASSED, FAILED = Verdict("passed"), Verdict("failed", "AssertionError: 1 != 2")


def test_a_difference_is_reported() -> None:
    (said,) = upstream.complaints(Suite("x", ()), {"a": PASSED}, {"a": FAILED})
    assert said == "a: passed stock, failed simulated\nAssertionError: 1 != 2"
    assert upstream.complaints(Suite("x", ()), {"a": FAILED}, {"a": FAILED}) == []


def test_an_exception_covers_what_it_says_and_nothing_else() -> None:
    suite = Suite("x", (), exceptions={"a": ("why", "1 != 2")})
    assert upstream.complaints(suite, {"a": PASSED}, {"a": FAILED}) == []
    assert upstream.complaints(suite, {"a": PASSED}, {"a": dataclasses.replace(FAILED, detail="other")})
    assert upstream.complaints(suite, {"a": PASSED}, {"a": PASSED}) == [
        "a: has the same verdict on both, and needs no exception"
    ]
    assert upstream.complaints(suite, {}, {}) == ["a: there is no such test"]


def test_a_test_of_one_side_only_is_reported() -> None:
    assert upstream.complaints(Suite("x", ()), {"a": PASSED}, {}) == ["a: only on one side"]


def test_names_lose_the_backend() -> None:
    names = ["f.py::test[asyncio]", "f.py::test[asyncio-str]", "f.py::test[str]", "f.py::test"]
    assert [upstream.without_backend(name) for name in names] == [
        "f.py::test", "f.py::test[str]", "f.py::test[str]", "f.py::test",
    ]  # fmt: skip
