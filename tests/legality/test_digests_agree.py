"""All programs of the corpora take the same steps in every process, whatever strings hash to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SEEDS = 2
PROGRAMS_MIN = 100


def digests(hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    child = subprocess.run(
        [sys.executable, "digests.py", str(SEEDS)], cwd=HERE, env={**environment, "PYTHONPATH": _path()},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr[-2000:]
    return child.stdout.splitlines()


def _path() -> str:
    return os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_processes_and_hash_seeds_agree_on_all_programs() -> None:
    first = digests("0")
    # Some want a folder that their own tests make.
    assert len({line.split()[0] for line in first if line.endswith(" NoneType")}) >= PROGRAMS_MIN
    for hash_seed in ("1", "random"):
        assert digests(hash_seed) == first
