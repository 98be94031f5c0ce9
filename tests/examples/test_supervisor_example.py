"""The example finds both of its mistakes, and nothing in the supervisor without them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sizes import examples

import simloop

EXAMPLE = Path(__file__).parents[2] / "examples" / "supervisor"
# The runs that fail leave processes behind, as the mistakes have it.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLE)
    import test_supervisor as module

    return module


def main_of(example: Any, kind: type) -> Callable[[], Coroutine[Any, Any, None]]:
    async def main() -> None:
        await example.keeps_them_running(simloop.current(), kind)

    return main


@pytest.mark.parametrize("seed", range(0, 100_000, 5_000)[: examples(20)])
@pytest.mark.parametrize("mistake", ["LosesAnExit", "RestartsTwice"])
def test_each_mistake_is_found_and_shrunk(example: Any, mistake: str, seed: int) -> None:
    failure = simloop.explore(main_of(example, getattr(example, mistake)), runs=200, seed=seed).failure
    assert failure is not None
    assert len(failure.schedule.deviations) == 1


def test_the_supervisor_passes(example: Any) -> None:
    runs = examples(1_000)
    report = simloop.explore(main_of(example, example.Supervisor), runs=runs, seed=1)
    assert report.failure is None, report.failure.describe()
    assert report.runs == runs


def test_the_report_tells_the_mistake(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "example")
    command = [sys.executable, "-m", "pytest", "--sim", "-p", "no:cacheprovider"]
    child = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert "2 failed, 1 passed" in child.stdout
    for sentence in (
        r"the thread of write_file\(\) \(supervisor\.py:\d+\) (was (delayed|started|seen)|let others go first)",
        # Up to Python 3.11, where a thread waits for the process, it is the loop that is late.
        r"(the end of process web was delayed until|so) the timer of task 'patrol' at\s+faulty\.py:\d+",
    ):
        assert re.search(sentence, child.stdout), sentence
    for token in re.findall(r"--sim-replay=(\S+)", child.stdout):
        assert token.startswith("sl1:")
