"""Whatever failed, its report fits a terminal of 100 columns and 60 lines."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sizes import examples

import simloop
from simloop.choices.choices import Choices
from simloop.explore.campaign import Campaign
from simloop.report.text import HEIGHT, WIDTH, Line, command, failure_text
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute

NAMES = st.text("abc xyz_/:.→é", min_size=1, max_size=70)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    names=st.lists(NAMES, min_size=1, max_size=12),
    steps=st.integers(1, 30),
    seed=st.integers(0, 1000),
    shrink_runs=st.sampled_from([0, 3, 500]),
    ending=st.sampled_from(["assert", "deadlock", "group"]),
)
def test_any_report_fits(names: list[str], steps: int, seed: int, shrink_runs: int, ending: str) -> None:
    async def main() -> None:
        sim = simloop.current()

        async def work() -> None:
            for _ in range(steps):
                await asyncio.sleep(0.001)
                await asyncio.to_thread(lambda: None)

        tasks = [asyncio.create_task(work(), name=name) for name in names]
        for task in tasks:
            sim.may_cancel(task)
        await asyncio.wait(tasks)
        if not any(task.cancelled() for task in tasks):
            return
        if ending == "deadlock":
            await asyncio.gather(*(asyncio.Event().wait() for _ in range(40)))
        if ending == "group":
            raise ExceptionGroup("several", [ValueError("x" * 200)])
        raise AssertionError("y" * 300)

    def run(choices: Choices, observer: Any = None, **_: Any) -> Outcome:
        return execute(main, choices, Limits(), observer)

    failure = Campaign(run, "it", seed=seed, runs=30, shrink_runs=shrink_runs).explore().failure
    assume(failure is not None)
    assert failure is not None
    lines = failure_text("failed", failure.explanation, command(["pytest", f"--sim-replay={failure.token}"]))
    texts = [line.text for line in lines]
    assert max(map(len, texts)) <= WIDTH
    assert len(texts) <= HEIGHT
    if ending == "deadlock":
        shown = str(failure.exception).splitlines()
        assert len(shown) <= 30


@settings(max_examples=examples(20), deadline=None)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_a_command_can_be_pasted_as_it_is_shown(sizes: list[int]) -> None:
    words = [("abc-=:/" * size)[:size].replace("-", "a", 1) for size in sizes]
    lines: list[Line] = command(["printf", "%s,", *words])
    assert max(len(line.text) for line in lines) <= WIDTH
    pasted = "\n".join(line.text for line in lines)
    shell = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, check=True)
    assert shell.stdout == "".join(f"{word}," for word in words)
