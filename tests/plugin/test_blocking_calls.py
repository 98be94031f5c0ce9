"""Blocking calls of simulated tests: told in a section of their own, which no filter of warnings makes an error."""

from __future__ import annotations

import pytest

SLEEPS = """
import asyncio, pytest, time

async def test_often():
    for _ in range(800):
        time.sleep(0.01)

@pytest.mark.parametrize("seconds", [0.02, 0.25])
async def test_long(seconds):
    await asyncio.sleep(1)
    time.sleep(seconds)

async def test_short():
    time.sleep(0.001)
"""
SECTION = "*= blocking calls in coroutines (simloop) =*"


@pytest.fixture
def sleeps(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_it=SLEEPS)
    # The self-check runs each test twice; a schedule more would be one that is explored.
    pytester.makeini("[pytest]\nsim_runs = 1")
    return pytester


@pytest.mark.parametrize("filters", [[], ["-Werror"], ["-Wignore"], ["-oaddopts=", "-ofilterwarnings=error"]])
def test_each_line_has_one_row_whatever_the_filters(sleeps: pytest.Pytester, filters: list[str]) -> None:
    result = sleeps.runpytest("--sim", *filters)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            SECTION,
            "test_it.py:5: 1600 calls, the longest 0.01 s, in test_it.py::test_often",
            "test_it.py:10: 4 calls, the longest 0.25 s, in 2 tests",
            "Each has stopped its loop*--sim-blocking=fail makes it an error*",
        ],
        consecutive=True,
    )
    assert "BlockingCallWarning" not in result.stdout.str()


def test_the_workers_of_xdist_hand_theirs_over(sleeps: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    result = sleeps.runpytest_subprocess("--sim", "-n2")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            SECTION,
            "test_it.py:5: 1600 calls, the longest 0.01 s, in test_it.py::test_often",
            "test_it.py:10: 4 calls, the longest 0.25 s, in 2 tests",
        ],
        consecutive=True,
    )


def test_where_nothing_blocks_or_nobody_asks_there_is_no_section(sleeps: pytest.Pytester) -> None:
    for arguments in (["-kshort"], ["--sim-blocking=ignore"]):
        result = sleeps.runpytest("--sim", *arguments)
        assert result.ret == 0
        assert "blocking calls" not in result.stdout.str()


def test_a_run_that_is_not_of_a_simulated_test_warns(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest, simloop, time
        async def blocks():
            time.sleep(0.1)
        async def test_simulated():
            time.sleep(0.1)
        def test_plain():
            with pytest.warns(simloop.BlockingCallWarning, match="stopped the loop of localhost for 0.1 s"):
                simloop.run(blocks)
        """
    )
    result = pytester.runpytest("--sim")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*.py:5: * in *::test_simulated"])
    assert "py:3:" not in result.stdout.str()


def test_a_session_of_many_lines_names_the_most_frequent(pytester: pytest.Pytester) -> None:
    lines = "\n".join("    time.sleep(0.01)" for _ in range(25))
    pytester.makepyfile(f"import time\nasync def test_it():\n{lines}\n    for _ in range(2): time.sleep(0.01)")
    result = pytester.runpytest("--sim")
    result.stdout.fnmatch_lines([SECTION, "*.py:28: *", "*.py:3: *", "*.py:21: *", "and 6 more lines"])
    assert "py:22:" not in result.stdout.str()
