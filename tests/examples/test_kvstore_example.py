"""The example finds each of its mistakes, and nothing in the store without them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sizes import examples

import simloop

EXAMPLE = Path(__file__).parents[2] / "examples" / "kvstore"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLE)
    import test_kvstore as module

    return module


def main_of(example: Any, kind: type, profile: str = "posix") -> Callable[[], Coroutine[Any, Any, None]]:
    async def main() -> None:
        await example.keeps_its_promises(simloop.current(), kind, profile)

    return main


@pytest.mark.parametrize("seed", range(0, 100_000, 5_000)[: examples(20)])
@pytest.mark.parametrize("mistake", ["NoFsyncBeforeRename", "NoFsyncOfDirectory", "TrustsTheTail"])
def test_each_mistake_is_found_and_shrunk(example: Any, mistake: str, seed: int) -> None:
    failure = simloop.explore(main_of(example, getattr(example, mistake)), runs=100, seed=seed).failure
    assert failure is not None
    kinds = Counter(point.kind for point in failure.schedule.deviations)
    assert kinds["host.crash"] <= 1
    assert kinds["disk.crash"] + kinds["disk.journal"] <= 2
    assert kinds.total() == kinds["host.crash"] + kinds["disk.crash"] + kinds["disk.journal"]


@pytest.mark.parametrize(("profile", "runs"), [("posix", 10_000), ("ext4-ordered", 1_000)])
def test_the_store_survives(example: Any, profile: str, runs: int) -> None:
    runs = examples(runs)
    report = simloop.explore(main_of(example, example.Store, profile), runs=runs, seed=1)
    assert report.failure is None, report.failure.describe()
    # Each run has a crash: the test itself makes one where the environment has made none.
    assert report.runs == runs


def test_the_report_tells_the_mistake(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "example")
    command = [sys.executable, "-m", "pytest", "--sim", "-p", "no:cacheprovider"]
    child = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert "3 failed, 1 passed" in child.stdout
    for sentence in (
        r"the power cut of db came before (page \d|the size) of /srv/kv/snapshot was on disk",
        r"the power cut of db came before the name /srv/kv/\w+ was on disk",
        r"the power of db was cut right before syncing /srv/kv/log \(store\.py:\d+\)",
    ):
        assert re.search(sentence, child.stdout), sentence
    for token in re.findall(r"--sim-replay=(\S+)", child.stdout):
        assert token.startswith("sl1:")
