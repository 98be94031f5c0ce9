"""The date on which runs begin, for tests that look at what was computed from the real date before them."""

from __future__ import annotations

import re

import pytest

HEAD = """
    import asyncio
    from datetime import UTC, datetime, timedelta
    import pytest

    IMPORTED = datetime.now(UTC)
    runs = []
"""
CASES = {
    "plain": """
    async def test_it():
        assert IMPORTED < datetime.now(UTC)
        await asyncio.to_thread(int)
    """,
    "of unittest": """
    import unittest
    class TestIt(unittest.IsolatedAsyncioTestCase):
        async def test_it(self):
            assert IMPORTED < datetime.now(UTC)
            await asyncio.to_thread(int)
    """,
    "given": """
    from hypothesis import given, settings, strategies
    @settings(max_examples=10)
    @given(number=strategies.integers(0, 100))
    async def test_it(number):
        assert number < 10 or IMPORTED < datetime.now(UTC)
        await asyncio.to_thread(int)
    """,
    "by a fixture of the session": """
    @pytest.fixture(scope="session")
    def made():
        return datetime.now(UTC)
    async def test_it(made):
        assert made < datetime.now(UTC)
        await asyncio.to_thread(int)
    """,
}


@pytest.mark.usefixtures("with_hypothesis")
@pytest.mark.parametrize("case", CASES)
def test_a_test_that_only_holds_on_the_real_date_begins_now(pytester: pytest.Pytester, case: str) -> None:
    pytester.makepyfile(HEAD + CASES[case])
    result = pytester.runpytest_subprocess("--sim", "--sim-runs=5", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_it PASSED (wall clock from now*", "simloop: wall clock from now, *test_it, *"])


def test_what_it_was_told_stays(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(HEAD + CASES["plain"])
    pytester.runpytest_subprocess("--sim", "--sim-start=2026-01-01").assert_outcomes(failed=1)
    pytester.runpytest_subprocess("--sim", "--sim-start=now").assert_outcomes(passed=1)


@pytest.mark.usefixtures("confirming")
def test_a_race_behind_the_date_is_found_and_replayed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        HEAD
        + """
    async def test_it():
        assert IMPORTED < datetime.now(UTC)
        order = []
        await asyncio.gather(*(asyncio.to_thread(order.append, number) for number in range(2)))
        assert order == [0, 1]
    """
    )
    result = pytester.runpytest_subprocess("--sim", "--sim-runs=20")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["failed in run*; wall clock from now)", "in a fresh process it fails in the same way"])
    token = re.search(r"--sim-replay=\S+", str(result.stdout))
    assert token is not None
    again = pytester.runpytest_subprocess(token[0])
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["E*assert [[]1, 0] == [[]0, 1]"])


def test_a_failure_of_another_cause_is_not_laid_to_the_date(pytester: pytest.Pytester) -> None:
    """Such as state that runs leave behind: these fail until they have run often enough."""
    pytester.makepyfile(
        HEAD
        + """
    async def test_fails():
        assert False

    @pytest.mark.parametrize("enough", range(2, 16))
    async def test_changes(enough):
        runs.append(enough)
        assert runs.count(enough) >= enough
    """
    )
    result = pytester.runpytest_subprocess("--sim", "--sim-runs=5", "-v")
    result.assert_outcomes(failed=15)
    result.stdout.no_fnmatch_line("*from now*")
