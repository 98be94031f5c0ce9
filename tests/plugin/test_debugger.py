"""Debuggers stop in the one run that counts, and time stands still while they are open."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

RACE = """
    import asyncio, datetime, sys, time
    async def test_race(sim):
        done = []
        async def work():
            await asyncio.sleep(40)
            done.append(1)
        task = asyncio.create_task(work())
        sim.may_cancel(task)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(20)
        STOP
        await asyncio.wait([task])
        assert done
"""
# What the clocks say, as seconds since the world began.
CLOCKS = (
    "p 'clocks', round(time.time() - 1767225600, 1), round(time.monotonic() - 1000, 1), round(loop.time() - 1000, 1), "
    "datetime.datetime.now(datetime.timezone.utc).isoformat()\n"
)
TWICE = "p 'twice', time.time() == time.time(), loop.time() == loop.time()\n"
TIMES = "('clocks', {0}, {0}, {0}, '2026-01-01T00:00:{1}"


def debugged(
    pytester: pytest.Pytester, code: str, commands: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    pytester.makepyfile(test_it=code)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=pytester.path,
        env={**os.environ, **environment},
        input=commands,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def race(stop: str = "pass") -> str:
    return RACE.replace("STOP", stop)


def test_post_mortem_is_of_the_reduced_run_at_its_own_time(pytester: pytest.Pytester) -> None:
    child = debugged(pytester, race(), "p 'done is', done, task\n" + CLOCKS + TWICE + "q\n", "--sim", "--pdb")
    assert "('done is', [], <Task cancelled" in child.stdout
    assert TIMES.format("20.0", "20.0") in child.stdout
    assert "('twice', True, True)" in child.stdout
    assert "Escaped" not in child.stdout


def test_the_time_is_that_of_the_failure_and_not_that_after_the_teardown(pytester: pytest.Pytester) -> None:
    code = """
        import asyncio, pytest, time
        @pytest.fixture
        async def slow():
            yield
            await asyncio.sleep(500)
        async def test_fails(slow):
            await asyncio.sleep(5)
            assert 0
    """
    commands = "p 'elapsed', round(time.time() - 1767225600, 1)\nq\n"
    assert "('elapsed', 5.0)" in debugged(pytester, code, commands, "--sim", "--pdb").stdout


def test_afterwards_time_is_real_again(pytester: pytest.Pytester) -> None:
    code = (
        race() + "\n    def test_after():\n        assert time.time() > 1767225600 + 1e6 or time.time() < 1767225600\n"
    )
    child = debugged(pytester, code, "c\n", "--sim", "--pdb")
    assert "1 failed, 1 passed" in child.stdout


@pytest.mark.parametrize("stop", ["breakpoint()", "import pdb; pdb.set_trace()", "import pytest; pytest.set_trace()"])
def test_a_breakpoint_stops_once_and_in_the_reduced_run(pytester: pytest.Pytester, stop: str) -> None:
    commands = "p 'task is', task\n" + CLOCKS + TWICE + "c\n"
    child = debugged(pytester, race(stop), commands, "--sim")
    assert child.stdout.count("PDB set_trace") == 1
    assert "('task is', <Task cancelled" in child.stdout
    assert TIMES.format("20.0", "20.0") in child.stdout
    assert "('twice', True, True)" in child.stdout
    assert "replay it:" in child.stdout
    assert "1 failed" in child.stdout
    assert "Nondeterminism" not in child.stdout


def test_a_breakpoint_of_a_test_that_passes_stops_in_the_usual_run(pytester: pytest.Pytester) -> None:
    code = race("breakpoint()").replace("assert done", "assert done or task.cancelled()")
    child = debugged(pytester, code, "p 'task is', task\nc\n", "--sim")
    assert child.stdout.count("PDB set_trace") == 1
    assert "('task is', <Task pending" in child.stdout
    assert "1 passed" in child.stdout


def test_a_breakpoint_of_a_replay_stops_once(pytester: pytest.Pytester) -> None:
    child = debugged(pytester, race("breakpoint()"), "p 'task is', task\nc\n", "--sim-replay=0")
    assert child.stdout.count("PDB set_trace") == 1
    assert "1 passed" in child.stdout


def test_stepping_goes_on_in_virtual_time(pytester: pytest.Pytester) -> None:
    # Before 3.13, pdb stops behind the breakpoint.
    commands = "n\n" * (1 + (sys.version_info >= (3, 13))) + "p 'seconds', round(time.time() - 1767225600)\nc\n"
    child = debugged(pytester, race("breakpoint()"), commands, "--sim-replay=0")
    assert "('seconds', 40)" in child.stdout


def test_no_breakpoints_are_wanted(pytester: pytest.Pytester) -> None:
    child = debugged(pytester, race("breakpoint()"), "", "--sim", PYTHONBREAKPOINT="0")
    assert "PDB" not in child.stdout
    assert "1 failed" in child.stdout


def test_nothing_is_run_for_breakpoints_that_are_not_wanted(pytester: pytest.Pytester) -> None:
    code = """
        runs = []
        async def test_it():
            runs.append(1)
            breakpoint()
        def test_count():
            assert len(runs) == 2  # one for the self-check
    """
    assert "2 passed" in debugged(pytester, code, "", "--sim", PYTHONBREAKPOINT="0").stdout


def test_a_hook_of_the_users_own_is_called_once(pytester: pytest.Pytester) -> None:
    stop = "breakpoint('said')"
    pytester.makepyfile(own="def stop(*args):\n    print('own debugger', *args)\n")
    path = os.pathsep.join([str(pytester.path), os.environ.get("PYTHONPATH", "")])
    child = debugged(pytester, race(stop), "", "--sim", "-s", PYTHONBREAKPOINT="own.stop", PYTHONPATH=path)
    assert child.stdout.count("own debugger said") == 1


def test_quitting_ends_the_session(pytester: pytest.Pytester) -> None:
    child = debugged(pytester, race("breakpoint()"), "q\n", "--sim")
    assert "Exit: Quitting debugger" in child.stdout
    assert "simloop/" not in child.stdout


def test_cases_of_unittest_too(pytester: pytest.Pytester) -> None:
    code = """
        import asyncio, time, unittest
        class Case(unittest.IsolatedAsyncioTestCase):
            async def test_fails(self):
                await asyncio.sleep(5)
                breakpoint()
                assert 0
            async def asyncTearDown(self):
                await asyncio.sleep(500)
    """
    commands = "p 'elapsed', round(time.time() - 1767225600, 1)\n"
    child = debugged(pytester, code, commands + "c\n" + commands + "q\n", "--sim", "--pdb")
    assert child.stdout.count("('elapsed', 5.0)") == 2


@pytest.mark.usefixtures("with_hypothesis")
@pytest.mark.parametrize(("bound", "stops"), [(17, "n = 17"), (1001, "n = 0")])
def test_breakpoints_under_given(pytester: pytest.Pytester, bound: int, stops: str) -> None:
    pytest.importorskip("hypothesis", reason="it makes the examples")
    code = f"""
        import asyncio
        from hypothesis import given, note, settings, strategies as st
        @settings(database=None)
        @given(n=st.integers(0, 1000))
        async def test_it(sim, n):
            task = asyncio.create_task(asyncio.sleep(1))
            sim.may_cancel(task)
            await asyncio.wait([task])
            note("seen")
            breakpoint()
            assert n < {bound} or not task.cancelled()
    """
    child = debugged(pytester, code, "p f'n = {n}'\nc\n", "--sim")
    assert child.stdout.count("PDB set_trace") == 1
    assert stops in child.stdout


def test_post_mortem_in_a_world_that_a_fixture_holds(pytester: pytest.Pytester) -> None:
    code = """
        import pytest, simloop, time
        @pytest.fixture
        def sim():
            with simloop.world() as sim:
                yield sim
        def test_it(sim):
            before = time.monotonic()
            time.sleep(1000)
            assert 0
        """
    child = debugged(pytester, code, "p 'passed', round(time.monotonic() - before)\nq\n", "--pdb")
    assert "('passed', 1000)" in child.stdout
