"""Tests that are right once in a process: each run begins as the first one did, in a fork of a fresh process."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.usefixtures("confirming")

# A client of a module is connected once, to the server of the first run.
ONCE = """
    import asyncio
    client = None

    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    async def ask():
        global client
        if client is None:
            client = await asyncio.open_connection("127.0.0.1", 80)
        reader, writer = client
        writer.write(b"a\\n")
        assert await reader.readline() == b"A\\n"
        writer.close()
        await asyncio.sleep(1)
"""
PASSES = (
    ONCE
    + """
    async def test_asks(real_server):
        async with await asyncio.start_server(serve, "127.0.0.1", 80):
            await ask()
"""
)
# Real files, since this is said of processes.
CONFTEST = """
    import os, pathlib, pytest
    folder = pathlib.Path(__file__).parent

    @pytest.fixture(scope="session")
    def real_server():
        (folder / f"up-{os.getpid()}").touch()
        yield
        (folder / f"down-{os.getpid()}").touch()
"""


def test_state_that_only_the_first_run_finds(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(PASSES)
    result = pytester.runpytest("--sim", "--sim-runs=20", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*::test_asks PASSED (20 runs, * distinct; *runs forked)*"])
    # What the fresh process has set up, it has torn down.
    ups, downs = (
        sorted(path.name.partition("-")[2] for path in pytester.path.glob(f"{name}-*")) for name in ("up", "down")
    )
    assert len(ups) == 2
    assert ups == downs


# A suite that only one process can run.
ALONE = """
    import os, pytest

    @pytest.fixture(scope="session")
    def real_server():
        if "SIMLOOP_SIGNATURE_FILE" in os.environ:
            raise OSError("the port is in use")
"""


@pytest.mark.parametrize(("conftest", "options"), [(CONFTEST, ["--sim-no-confirm"]), (ALONE, [])])
def test_without_a_fresh_process_it_is_an_error_as_ever(
    pytester: pytest.Pytester, conftest: str, options: list[str]
) -> None:
    pytester.makeconftest(conftest)
    pytester.makepyfile(PASSES)
    result = pytester.runpytest("--sim", "--sim-runs=20", *options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["NondeterminismError: two runs of *"])


ALWAYS = """
    async def test_always():
        async with await asyncio.start_server(serve, "127.0.0.1", 80):
            await ask()
            assert client[1].is_closing() is None
"""
SOMETIMES = """
    async def test_sometimes(sim):
        async with await asyncio.start_server(serve, "127.0.0.1", 80):
            await ask()
        task = asyncio.create_task(asyncio.sleep(1))
        sim.may_cancel(task)
        await task
"""


def test_failures_of_fresh_runs(pytester: pytest.Pytester) -> None:
    # Modules of their own, since one test would find the closed client of another.
    pytester.makepyfile(test_always=ONCE + ALWAYS, test_sometimes=ONCE + SOMETIMES)
    result = pytester.runpytest("--sim", "--sim-runs=20")
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert "NondeterminismError" not in text
    assert "FailedElsewhere" not in text
    result.stdout.fnmatch_lines(
        [
            "*AssertionError*",
            "failed in run 1 of 20 (canonical run*",
            "*test_sometimes.py:*: in test_sometimes",
            "asyncio.exceptions.CancelledError",
            "failed in run * of 20 (*",
            "what earlier runs have left behind hides it in this process: replay it*",
        ]
    )
    assert text.count("in a fresh process it fails in the same way") == 2
    (token,) = re.findall(r"::test_sometimes[\s\\]+--sim-replay=(\S+)", text)
    replayed = pytester.runpytest_subprocess("test_sometimes.py", f"--sim-replay={token}")
    replayed.assert_outcomes(failed=1)
    replayed.stdout.fnmatch_lines(["*CancelledError*"])
