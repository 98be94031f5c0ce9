"""Preemption of threads between lines: where it may come, where never, and by which events of the interpreter."""

from __future__ import annotations

import asyncio
import colorsys
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices, Decide
from simloop.choices.draws import random_walk, seeded
from simloop.choices.tokens import decode
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute
from simloop.world import lines

# Known to type checkers from Python 3.12 on.
MONITORING: Any = getattr(sys, "monitoring", None)
LINES = Limits(preempt="lines")
# Few points are expected, so that a walk deviates at most of them.
OFTEN = {"thread.line": 2}


@pytest.fixture(params=["monitoring", "settrace"])
def mechanism(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to get the events, where the interpreter has both."""
    name: str = request.param
    if name == "settrace":
        monkeypatch.setattr(lines, "_monitoring", None)
    elif MONITORING is None:
        pytest.skip("sys.monitoring is of Python 3.12")
    return name


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = sys.gettrace()
    yield
    assert sys.gettrace() is before
    assert tools() == set()


def tools() -> set[str]:
    """Names of the tools of sys.monitoring that are ours."""
    if MONITORING is None:
        return set()
    return {MONITORING.get_tool(tool) or "" for tool in lines._TOOLS} & {"simloop"}


def in_thread(work: Callable[[], object], decide: Decide | None = None, limits: Limits = LINES) -> Outcome:
    async def main() -> Any:
        return await asyncio.to_thread(work)

    outcome = execute(main, Choices(0, decide), limits)
    if outcome.exception is not None:
        raise outcome.exception
    return outcome


def asked(outcome: Outcome, kind: str = "thread.line") -> list[str]:
    return [f"{who} {number}" for who, found, number, *_ in outcome.choices.recorded if found == kind]


def always(who: str, kind: str, number: int, n: int) -> int:
    """Preempts each thread before each line."""
    return 2 if kind == "thread.line" else 0


def test_each_line_is_a_point_named_by_its_function(mechanism: str) -> None:
    def work() -> list[int]:
        found = []
        for number in range(2):
            found.append(helper(number))
        return found

    def helper(number: int) -> int:
        return number + 1

    outcome = in_thread(work)
    assert outcome.value == [1, 2]
    assert asked(outcome) == [
        "asyncio work~work#2 1",
        "asyncio work~work#3 1",
        "asyncio work~work#4 1",
        "asyncio work~helper#2 1",
        "asyncio work~work#3 2",
        "asyncio work~work#4 2",
        "asyncio work~helper#2 2",
        "asyncio work~work#3 3",
        "asyncio work~work#5 1",
    ]


def test_only_threads_of_the_world_and_only_the_users_code(mechanism: str) -> None:
    async def main() -> None:
        for _ in range(3):
            await asyncio.sleep(0.001)

    assert asked(execute(main, Choices(), LINES)) == []

    def work() -> tuple[float, float, float]:
        return colorsys.rgb_to_hsv(0.1, 0.2, 0.3)

    assert asked(in_thread(work)) == ["asyncio work~work#2 1"]


def test_a_run_without_the_option_has_no_events(mechanism: str) -> None:
    def look() -> tuple[set[str], bool]:
        return tools(), sys.gettrace() is not None

    outer = sys.gettrace() is not None and mechanism == "monitoring"
    assert in_thread(look, limits=Limits()).value[0] == set()
    assert not in_thread(look, limits=Limits()).value[1] or outer
    expected = ({"simloop"}, False) if mechanism == "monitoring" else (set(), True)
    assert in_thread(look).value == expected
    assert tools() == set()


def test_the_events_end_with_a_run_that_fails(mechanism: str) -> None:
    def fail() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        in_thread(fail)
    assert not lines._worlds


def test_points_of_calls_are_numbered_alike_with_and_without(mechanism: str) -> None:
    def work() -> None:
        for number in range(5):
            with open("/x", "w") as file:
                file.write(str(number))
            time.sleep(0.001)

    plain = in_thread(work, limits=Limits())
    assert asked(plain) == []
    assert asked(plain, "thread.switch") == asked(in_thread(work), "thread.switch") != []
    # What was forced by hand to be long is taken, whatever comes between.
    assert asked(in_thread(work, always), "thread.switch") == asked(plain, "thread.switch")


def test_nothing_comes_in_the_middle_of_a_simulated_call(mechanism: str) -> None:
    class Name:
        def __fspath__(self) -> str:
            self.asked = True
            return "/x"

    def work() -> str:
        Path("/x").write_text("found")
        fd = os.open(Name(), os.O_RDONLY)
        try:
            return os.read(fd, 10).decode()
        finally:
            os.close(fd)

    outcome = in_thread(work, always)
    assert outcome.value == "found"
    assert {point.partition("~")[2].partition("#")[0] for point in asked(outcome)} == {"work"}


def test_a_module_that_a_thread_imports_is_no_part_of_the_run(mechanism: str, tmp_path: Path) -> None:
    (tmp_path / "of_the_user.py").write_text("a = 1\nb = 2\ndef get():\n    return a + b\n")
    sys.path.insert(0, str(tmp_path))
    try:

        def work() -> int:
            import of_the_user  # type: ignore[import-not-found]

            return int(of_the_user.get())

        first, later = in_thread(work, always), in_thread(work, always)
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("of_the_user", None)
    assert asked(first) == asked(later)
    assert {point.partition("~")[2].partition(" ")[0] for point in asked(first)} == {"work#2", "work#4", "get#2"}


def test_real_threads_are_left_alone(mechanism: str) -> None:
    begun, ending = threading.Event(), threading.Event()

    def real() -> None:
        while not ending.is_set():
            begun.set()

    thread = threading.Thread(target=real)
    thread.start()
    begun.wait()

    def work() -> None:
        for _ in range(10):
            time.sleep(0.001)

    outcome = in_thread(work, always)
    ending.set()
    thread.join()
    assert {point.partition("~")[2].partition("#")[0] for point in asked(outcome)} == {"work"}


def test_a_thread_that_its_world_ends_goes_to_its_end(mechanism: str) -> None:
    ended: list[str] = []

    def work() -> None:
        try:
            time.sleep(3600)
        finally:
            ended.append("begun")
            ended.append("ended")

    async def main() -> None:
        threading.Thread(target=work, daemon=True).start()
        await asyncio.sleep(1)

    outcome = execute(main, Choices(0, always), LINES)
    assert outcome.exception is None
    assert ended == ["begun", "ended"]


def test_a_thread_that_looks_again_and_again_lets_others_go(mechanism: str) -> None:
    async def main() -> str:
        found = ""

        def look() -> str:
            while not found:
                pass
            return found

        looking = asyncio.create_task(asyncio.to_thread(look))
        await asyncio.sleep(0.001)
        found = "found"
        return await looking

    for seed in range(5):
        outcome = execute(main, Choices(seed, seeded(seed)), LINES)
        assert outcome.value == "found"
        # Later rounds are no points any more.
        assert len(asked(outcome)) < 400


def test_a_thread_that_never_rests_reaches_the_limit_of_steps(mechanism: str) -> None:
    def work() -> None:
        number = 0
        while True:
            number += 1

    with pytest.raises(simloop.StepLimitError, match="took more than 1000 "):
        in_thread(work, limits=Limits(preempt="lines", max_steps=1000))


def test_a_long_computation_is_no_endless_one(mechanism: str) -> None:
    def work() -> int:
        number = 0
        for _ in range(20_000):
            number += 1
        return number

    outcome = in_thread(work)
    assert outcome.value == 20_000
    assert outcome.world.steps < 10_000
    assert len(asked(outcome)) == 202


def test_a_loop_in_a_thread_is_preempted_in_its_steps(mechanism: str) -> None:
    async def answer() -> int:
        number = 41
        await asyncio.sleep(0.001)
        return number + 1

    def work() -> int:
        return asyncio.run(answer())

    outcome = in_thread(work, always)
    assert outcome.value == 42
    assert [point.partition("~")[2] for point in asked(outcome) if "answer" in point] == [
        "answer#2 1",
        "answer#3 1",
        "answer#4 1",
    ]


def test_callbacks_of_an_executors_future_and_its_initializer_count_too(mechanism: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    seen: list[str] = []

    def prepare() -> None:
        seen.append("prepared")

    def done(_: object) -> None:
        seen.append("done")

    async def main() -> None:
        with ThreadPoolExecutor(1, initializer=prepare) as pool:
            pool.submit(time.sleep, 0.01).add_done_callback(done)

    functions = {point.partition("~")[2].partition("#")[0] for point in asked(execute(main, Choices(), LINES))}
    assert functions == {"prepare", "done"}
    assert seen == ["prepared", "done"]


async def lost_update() -> None:
    counter = 0

    def count() -> None:
        nonlocal counter
        n = counter
        counter = n + 1

    await asyncio.gather(asyncio.to_thread(count), asyncio.to_thread(count))
    assert counter == 2


def test_a_token_switches_the_events_on_by_itself(mechanism: str) -> None:
    failure = simloop.explore(lost_update, preempt="lines").failure
    assert failure is not None
    assert decode(failure.token).preempts_lines
    with pytest.raises(AssertionError):
        simloop.replay(lost_update, failure.token)
    with pytest.raises(AssertionError):
        simloop.replay(lost_update, failure.token, preempt="lines")


def test_the_report_names_the_line(mechanism: str) -> None:
    failure = simloop.explore(lost_update, preempt="lines").failure
    assert failure is not None
    (sentence,) = failure.explanation.sentences
    assert sentence.startswith("the thread of count() (")
    assert "let others go first for 1 ms before line " in sentence
    assert sentence.endswith(f":{lost_update.__code__.co_firstlineno + 6}, `counter = n + 1`")
    assert failure.explanation.verdict.startswith("can happen on stock asyncio where threads switch between any two")


@pytest.mark.skipif(MONITORING is None, reason="sys.monitoring is of Python 3.12")
def test_tools_of_others_are_left_alone() -> None:
    monitoring = MONITORING
    monitoring.use_tool_id(4, "another")
    try:
        assert simloop.explore(lost_update, preempt="lines").failure is not None
        monitoring.use_tool_id(3, "a third")
        with pytest.raises(simloop.ConfigurationError, match=r"needs tool 3 or 4 of sys\.monitoring"):
            simloop.run(lost_update, preempt="lines")
        assert (monitoring.get_tool(4), monitoring.get_tool(3)) == ("another", "a third")
    finally:
        monitoring.free_tool_id(4)
        monitoring.free_tool_id(3)
    simloop.run(lost_update, preempt="lines")


def test_the_trace_function_of_a_thread_is_put_back(mechanism: str) -> None:
    def trace(frame: Any, event: str, argument: Any) -> Any:
        return None

    seen: list[object] = []

    class Thread(threading.Thread):
        def run(self) -> None:
            super().run()

        def _delete(self) -> None:
            seen.append(sys.gettrace())
            super()._delete()  # type: ignore[misc]

    async def main() -> None:
        thread = Thread(target=lambda: None)
        thread.start()
        await asyncio.to_thread(thread.join)

    before = threading.gettrace()
    threading.settrace(trace)
    try:
        simloop.run(main, preempt="lines")
    finally:
        threading.settrace(before)
    assert seen == [trace]


PROGRAM = """
import asyncio, simloop, sys
sys.path.insert(0, {folder!r})
from test_lines import LINES, OFTEN, lost_update
from simloop.choices.choices import Choices
from simloop.choices.draws import random_walk
from simloop.simulation.run import execute
for seed in range(40):
    outcome = execute(lost_update, Choices(seed, random_walk(seed, OFTEN)), LINES)
    print(seed, outcome.choices.digest, type(outcome.exception).__name__)
"""


def test_another_process_agrees() -> None:
    outputs = set()
    for hash_seed in ("0", "1"):
        child = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(folder=str(Path(__file__).parent))],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        outputs.add(child.stdout)
    here = [execute(lost_update, Choices(seed, random_walk(seed, OFTEN)), LINES) for seed in range(40)]
    told = [f"{seed} {run.choices.digest} {type(run.exception).__name__}" for seed, run in enumerate(here)]
    assert outputs == {"\n".join(told) + "\n"}
    assert {type(run.exception) for run in here} == {AssertionError, type(None)}


@pytest.mark.parametrize("value", ["line", None, 1, ["lines"]])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(simloop.ConfigurationError, match=r"preempt must be one of calls, lines, not "):
        simloop.run(lost_update, preempt=value)
