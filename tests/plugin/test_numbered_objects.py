"""Tests whose runs differ by the addresses of objects: these are numbered, and the report says so."""

from __future__ import annotations

import re

import pytest

HUB = """
    import asyncio

    async def test_hub():
        writers = set()

        async def hub(reader, writer):
            writers.add(writer)
            while line := await reader.readline():
                for each in writers:
                    each.write(line)
            writers.discard(writer)
            writer.close()

        server = await asyncio.start_server(hub, "127.0.0.1", 8100)
        clients = [await asyncio.open_connection("127.0.0.1", 8100) for _ in range(6)]
        await asyncio.sleep(0.1)
        clients[0][1].write(b"hi\\n")
        assert [await reader.readline() for reader, _ in clients] == [b"hi\\n"] * 6
        for _, writer in clients:
            writer.close()
        await asyncio.sleep(1)
        server.close()

    def test_that_is_not_simulated():
        assert asyncio.StreamWriter.__hash__ is object.__hash__
        assert repr(__build_class__) == "<built-in function __build_class__>"

    async def test_another():
        assert asyncio.StreamWriter.__hash__ is object.__hash__
"""

FAILS = """
    import asyncio, simloop

    class Member:
        pass

    kept = []

    async def test_members(sim):
        made = [Member() for _ in range(30)]
        kept.append(made)
        done = []

        async def work(member):
            await asyncio.sleep(0.01 * (1 + made.index(member)))
            done.append(member)

        tasks = [asyncio.create_task(work(member)) for member in set(made)]
        sim.may_cancel(tasks[3])
        await asyncio.wait(tasks)
        assert len(done) == 30
"""


def test_a_hub_with_a_set_of_writers_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(HUB)
    result = pytester.runpytest_subprocess("--sim", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*::test_hub PASSED (100 runs, * distinct; * unseen; objects numbered)*"])
    assert result.stdout.str().count("objects numbered") == 1


@pytest.mark.usefixtures("confirming")
def test_a_failure_says_so_and_is_the_same_in_another_process(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAILS)
    result = pytester.runpytest_subprocess("--sim")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["failed in run * profile cpython; objects numbered)*"])
    result.stdout.fnmatch_lines(["*in a fresh process it fails in the same way"])
    found = re.search(r"--sim-replay=(sl2:[\w-]+)", result.stdout.str())
    assert found is not None

    again = pytester.runpytest_subprocess(f"--sim-replay={found[1]}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*assert 29 == 30*", "replayed (profile cpython, seed *; objects numbered)*"])
    # What is saved is tried first, with numbers from the start.
    pytester.runpytest_subprocess("--sim").stdout.fnmatch_lines(["failed in run 1 of * objects numbered)*"])

    pytester.makepyfile(FAILS.replace("async def test", f'@simloop.replay("{found[1]}")\n    async def test'))
    pinned = pytester.runpytest_subprocess()
    pinned.assert_outcomes(failed=1)
    pinned.stdout.fnmatch_lines(["*pinned schedule 1 of 1*"])


def test_what_differs_even_so_names_its_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import asyncio, mmap
        count = mmap.mmap(-1, 1)  # forks share it
        async def test_counts():
            count[0] += 1
            await asyncio.sleep(count[0])
            await asyncio.to_thread(int)
        """
    )
    result = pytester.runpytest("--sim")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "NondeterminismError: two runs of *::test_counts with the same * differ: * They part at test_it.py:5, "
            "where task test_counts() goes on after * s in one run and after * s in the other: look there for *id()*"
        ]
    )


@pytest.mark.usefixtures("with_hypothesis")
def test_all_examples_of_a_test_have_numbers_once_one_needs_them(pytester: pytest.Pytester) -> None:
    pytest.importorskip("hypothesis", reason="it makes the examples")
    pytester.makepyfile(
        """
        import asyncio
        from hypothesis import given, settings, strategies as st

        class Member:
            pass

        kept = []

        @settings(max_examples=10, database=None, derandomize=True)
        @given(st.integers(0, 5))
        async def test_members(n):
            made = [Member() for _ in range(30)]
            kept.append(made)
            for member in list(set(made))[:4]:
                await asyncio.sleep(0.01 * (1 + made.index(member)))
            await asyncio.to_thread(int)
        """
    )
    result = pytester.runpytest_subprocess("--sim", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*::test_members PASSED (* examples, * runs; objects numbered)*"])


def test_runs_that_differ_even_so_are_forked_and_said_to_be(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import asyncio, itertools
        count = itertools.count()
        async def test_counts():
            number = next(count)
            await asyncio.sleep(number)
            await asyncio.gather(*(asyncio.create_task(asyncio.sleep(1), name=f"{number}") for _ in range(2)))
            await asyncio.gather(asyncio.to_thread(int), asyncio.to_thread(str))
        async def test_fails(sim):
            await asyncio.sleep(next(count))
            task = asyncio.create_task(asyncio.sleep(1))
            sim.may_cancel(task)
            await task
        """
    )
    result = pytester.runpytest("--sim", "-v", "--sim-runs=20")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*::test_counts PASSED (20 runs, * distinct; objects numbered; runs forked)*",
            "failed in run 2 of 20 (cancel sweep; 2 distinct so far; profile cpython; objects numbered; runs*",
            "forked)",
            "simloop: runs forked (several times as slow) for test_it.py::test_counts, since they differ otherwise",
        ]
    )
