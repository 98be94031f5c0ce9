"""The example finds its bug in the redis that has it, and nothing in the one that does not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sizes import examples

redis = pytest.importorskip("redis", reason="redis is in the extras 'demo' (with the bug) and 'libraries' (without)")
EXAMPLE = Path(__file__).parents[2] / "examples" / "redis_reply_mixup"
# https://github.com/redis/redis-py/issues/2624: mended in 4.5.4 and 4.5.5.
HAS_BUG = redis.__version__ in ("4.5.1", "4.5.3")


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    child = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    return child.returncode, child.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "example"))


@pytest.mark.skipif(not HAS_BUG, reason="needs the redis of the extra 'demo', which has the bug")
def test_the_bug_is_found_told_and_replayed(folder: Path) -> None:
    status, output = run(folder, "--sim")
    assert status == 1
    assert "assert b'value of foo' == b'value of bar'" in output
    assert re.search(r"task 'get foo', created at test_reply_mixup.py:\d+, was cancelled from outside", output)
    assert "in a fresh process it fails in the same way" in output
    replay = re.search(r"--sim-replay=(\S+)", output)
    assert replay is not None
    assert len(replay[1]) <= 60
    for _ in range(2):
        status, output = run(folder, replay[0])
        assert status == 1
        assert "assert b'value of foo' == b'value of bar'" in output
        assert "was cancelled from outside" in output


@pytest.mark.skipif(not HAS_BUG, reason="needs the redis of the extra 'demo', which has the bug")
@pytest.mark.parametrize("seed", range(1, 20)[: examples(12)])
def test_it_is_found_from_any_seed(folder: Path, seed: int) -> None:
    status, output = run(folder, "--sim", f"--sim-seed={seed * 1000}")
    assert status == 1, output
    found = re.search(r"failed in run (\d+) of 100", output)
    assert found is not None


@pytest.mark.skipif(HAS_BUG, reason="needs a redis without the bug")
def test_nothing_is_found_where_the_bug_is_mended(folder: Path) -> None:
    status, output = run(folder, "--sim", "--sim-runs=1000")
    assert status == 0, output
