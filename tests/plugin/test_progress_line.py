"""The line on the terminal that says how far a campaign is."""

from __future__ import annotations

import pytest

TEST = """
    import asyncio
    async def test_it():
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(5)))
    async def test_other(): ...
"""
AT_ONCE = """
    from simloop.explore import progress
    progress._AFTER = progress._BETWEEN = 0
"""
TERMINAL = """
    def pytest_collection_finish(session):
        session.config.pluginmanager.get_plugin("terminalreporter").isatty = lambda: True
"""


def test_it_replaces_itself_and_goes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    pytester.makeconftest(AT_ONCE + TERMINAL)
    output = pytester.runpytest_subprocess("--sim", "--sim-runs=20").stdout.str()
    # Each one goes back to the beginning of the line.
    shown = output.replace("\r", "\n").splitlines()
    told = [
        at for at, line in enumerate(shown) if line.startswith("test_it_replaces_itself_and_goes.py::test_it: run ")
    ]
    assert len(told) == 20
    assert "run 20 of 20, " in shown[told[-1]]
    assert "no failure; " in shown[told[-1]]
    # The last one is replaced by blanks.
    assert not shown[told[-1] + 1].strip()
    assert "2 passed" in output


def test_it_is_not_written_into_files(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    pytester.makeconftest(AT_ONCE)
    output = pytester.runpytest_subprocess("--sim", "--sim-runs=20").stdout.str()
    assert "test_it: run" not in output
