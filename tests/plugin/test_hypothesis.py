"""Async tests under `@given`: each example is explored, and its schedule shrinks with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from simloop.choices.schedule import Schedule
from simloop.explore.examination import Examination

pytest.importorskip("hypothesis", reason="it is what these tests are about")
pytestmark = pytest.mark.usefixtures("with_hypothesis")

HEAD = """
import asyncio, pytest, simloop
from hypothesis import assume, event, example, given, note, settings, strategies as st, target
"""
# Fails for 17 and more, and only when the task is cancelled.
RACE = (
    HEAD
    + """
async def lost(n):
    done = []
    async def work():
        await asyncio.sleep(1)
        done.append(n)
    task = asyncio.create_task(work(), name="work")
    simloop.current().may_cancel(task)
    await asyncio.wait([task])
    return not done

DECORATORS
@given(n=st.integers(0, 1000))
async def test_race(sim, n):
    note(f"noted {n}")
    assert n < 17 or not await lost(n)
"""
)


def race(*decorators: str) -> str:
    return RACE.replace("DECORATORS", "\n".join(decorators))


def token_of(result: pytest.RunResult) -> str:
    found = re.search(r"--sim-replay=(sl1:[\w-]+)", result.stdout.str())
    assert found is not None
    return found[1]


def failing_example(result: pytest.RunResult) -> str:
    """What Hypothesis says of it, in one line."""
    lines = [line.removeprefix("E").strip() for line in result.stdout.lines if line.startswith("E ")]
    start = next(at for at, line in enumerate(lines) if re.match("(Failing|Falsifying).* test_", line))
    return " ".join(lines[start : lines.index(")", start)])


@pytest.mark.usefixtures("confirming")
def test_example_and_schedule_are_found_shrunk_and_printed_together(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=race())
    result = pytester.runpytest("--sim")
    result.assert_outcomes(failed=1)
    assert "n=17," in failing_example(result)
    text = result.stdout.str()
    assert text.count("noted 17") == 1
    assert not re.search(r"^E .*(simloop|_pytest|asyncio)/\w+\.py", text, re.MULTILINE)
    assert "Flaky" not in text
    result.stdout.fnmatch_lines(
        [
            "failed in run * of 10 (cancel sweep;*",
            "  task 'work', created at *, was cancelled from outside*",
            "saved in .simloop/test_it.py-test_race-*",
            "in a fresh process it fails in the same way",
            "with the example above: Hypothesis keeps it in its database, and tries it first; or put over the test",
            "  @example(n=17)",
        ]
    )
    again = pytester.runpytest("--sim")
    assert token_of(again) == token_of(result)
    again.stdout.fnmatch_lines(["failed in run 1 of 10 (cancel sweep;*"])


def test_example_and_schedule_can_be_replayed_apart_from_the_database(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=race())
    token = token_of(pytester.runpytest("--sim"))
    off = "@settings(database=None, max_examples=3)"
    pytester.makepyfile(test_it=race("@example(n=17)", off))
    replayed = pytester.runpytest(f"--sim-replay={token}")
    replayed.assert_outcomes(failed=1)
    assert "n=17," in failing_example(replayed)
    replayed.stdout.fnmatch_lines(["replayed (profile cpython, seed *", "*task 'work'*was cancelled from outside*"])
    pytester.runpytest("--sim-replay=0").assert_outcomes(passed=1)

    pytester.makepyfile(test_it=race(f"@simloop.replay('{token}')", "@example(n=17)", off))
    pinned = pytester.runpytest()
    pinned.assert_outcomes(failed=1)
    pinned.stdout.fnmatch_lines(["replayed (profile cpython, seed *"])


def test_a_token_runs_each_example(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=race())
    token = token_of(pytester.runpytest("--sim"))
    pytester.makepyfile(test_it=race("@settings(database=None)").replace("n < 17 or", "n < 500 or"))
    result = pytester.runpytest(f"--sim-replay={token}")
    result.assert_outcomes(failed=1)
    assert "n=500," in failing_example(result)


def test_a_token_that_applies_to_no_example_is_a_warning(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=race())
    token = token_of(pytester.runpytest("--sim"))
    pytester.makepyfile(test_it=race().replace(".may_cancel(task)", ""))
    result = pytester.runpytest_subprocess(f"--sim-replay={token}")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*ReplayDriftWarning: not all deviations of sl1:*"])


def test_each_example_gets_a_tenth_of_the_runs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + """
@settings(max_examples=5, database=None)
@given(n=st.integers())
async def test_many(n):
    for _ in range(20):
        await asyncio.to_thread(int)
"""
    )
    pytester.runpytest("--sim", "-v").stdout.fnmatch_lines(["*::test_many PASSED (5 examples, 50 runs)*"])
    pytester.runpytest("--sim", "-v", "--sim-runs=3").stdout.fnmatch_lines(["*PASSED (5 examples, 5 runs)*"])


def test_a_mended_test_drops_its_saved_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=race())
    pytester.runpytest("--sim")
    assert len(list(pytester.path.glob(".simloop/*.json"))) == 1
    pytester.makepyfile(test_it=race().replace("n < 17 or", "True or"))
    pytester.runpytest("--sim").assert_outcomes(passed=1)
    assert list(pytester.path.glob(".simloop/*.json")) == []


def test_fixtures_methods_and_parameters(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + """
@pytest.fixture
async def connection():
    await asyncio.sleep(3)
    yield []
    await asyncio.sleep(3)

class TestIt:
    count = 0

    @pytest.mark.simloop
    @pytest.mark.parametrize("word", ["a", "b"])
    @settings(max_examples=5)
    @given(n=st.integers(), items=st.lists(st.integers(), min_size=1))
    async def test_all(self, sim, connection, tmp_path, word, n, items):
        self.count += 1
        connection.append(n)
        assert connection == [n] and self.count == 1 and word in "ab"
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "file").touch()
        items.clear()  # it comes whole to the next run
        await asyncio.to_thread(int)
        await asyncio.sleep(3600)

@pytest.mark.simloop
@settings(max_examples=5)
@given(items=st.lists(st.integers(), min_size=1))
async def test_own_copy(items):
    assert items.pop() is not None
    await asyncio.to_thread(int)
"""
    )
    pytester.runpytest().assert_outcomes(passed=3)


def test_what_is_drawn_while_the_test_runs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + """
@given(data=st.data())
async def test_draws(sim, data):
    limit = data.draw(st.integers(0, 50), label="limit")
    async def work():
        await asyncio.sleep(data.draw(st.integers(1, 50)))
    tasks = [asyncio.create_task(work()) for _ in range(2)]
    sim.may_cancel(tasks[0])
    await asyncio.wait(tasks)
    if tasks[0].cancelled():
        data.draw(st.binary(max_size=3))
    assert limit < 20 or not tasks[0].cancelled()
"""
    )
    result = pytester.runpytest("--sim")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "Draw 1 (limit): 20" in text
    assert text.count("Draw 2: 1") == 1
    assert "Flaky" not in text
    assert "Nondeterminism" not in text
    result.stdout.fnmatch_lines(["with the example above, draws included: Hypothesis keeps it in its database*"])
    token = token_of(result)
    again = pytester.runpytest(f"--sim-replay={token}")
    again.assert_outcomes(failed=1)
    assert "Draw 1 (limit): 20" in again.stdout.str()


def test_only_the_example_that_is_reported_is_explained(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained: list[Schedule] = []
    real = Examination.explained

    def note_it(self: Examination, schedule: Schedule) -> Any:
        explained.append(schedule)
        return real(self, schedule)

    monkeypatch.setattr(Examination, "explained", note_it)
    pytester.makepyfile(test_it=race())
    result = pytester.runpytest("--sim")
    result.assert_outcomes(failed=1)
    assert len(explained) == 1


def test_an_assumption_about_the_schedule_passes_over_a_run_and_not_over_the_example(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + """
@settings(max_examples=20, database=None)
@given(n=st.integers(0, 1000))
async def test_assumes(sim, n):
    task = asyncio.create_task(asyncio.sleep(1))
    sim.may_cancel(task)
    await asyncio.wait([task])
    assume(not task.cancelled())
    assume(n % 2)
    event("odd")
    target(n)

@settings(max_examples=20, database=None)
@given(n=st.integers(0, 1000))
async def test_in_a_group(n):
    async def work():
        assume(n % 2)
    async with asyncio.TaskGroup() as group:
        group.create_task(work())
    assert n % 2
"""
    )
    pytester.runpytest("--sim").assert_outcomes(passed=2)


def test_two_failures_have_two_tokens(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + """
@given(n=st.integers(0, 1000))
async def test_two(sim, n):
    task = asyncio.create_task(asyncio.sleep(1))
    sim.may_cancel(task)
    await asyncio.wait([task])
    if n > 500:
        assert not task.cancelled()
    elif n > 5:
        raise ValueError(n)
"""
    )
    result = pytester.runpytest("--sim")
    text = result.stdout.str()
    assert len(set(re.findall(r"--sim-replay=(sl1:[\w-]+)", text))) == 2
    assert {"  @example(n=501)", "  @example(n=6)"} <= set(result.stdout.lines)


def test_what_is_wrong_with_the_test_is_not_put_down_to_an_example(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + """
import mmap
seen = mmap.mmap(-1, 1)  # forks share it
@given(n=st.integers())
async def test_leaks(n):
    seen[0] = (seen[0] + 1) % 200
    for _ in range(seen[0]):
        await asyncio.sleep(1)

@given(n=st.integers())
async def test_skips(n):
    pytest.skip("not today")

@pytest.mark.simloop
@settings(max_examples=5)
@given(n=st.integers())
def test_plain(n): pass

@given(n=st.integers())
def test_sync(n): pass
"""
    )
    result = pytester.runpytest("--sim")
    result.assert_outcomes(failed=1, skipped=1, passed=2)
    result.stdout.fnmatch_lines(["NondeterminismError: two runs of * differ*"])
    assert "core.py" not in result.stdout.str()


def test_real_time_means_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + """
@settings(deadline=0.001, max_examples=5)
@given(n=st.integers())
async def test_slow(n):
    for _ in range(100):
        await asyncio.sleep(1)
"""
    )
    pytester.runpytest("--sim").assert_outcomes(passed=1)


def test_a_hypothesis_that_is_too_old_is_refused(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypothesis.__version_info__", (6, 124, 9))
    pytester.makepyfile(test_it=race())
    result = pytester.runpytest("--sim")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["a simulated test under @given needs Hypothesis 6.125 or newer"])


def test_plain_hypothesis_is_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=race().replace("sim, n", "n"))
    result = pytester.runpytest("-p", "no:anyio")
    result.assert_outcomes(failed=1)
    assert "doesn't know how to run async test functions" in result.stdout.str()
    assert not Path(pytester.path, ".simloop").exists()
