"""Starting, waiting and signalling have the same results and errors as on Linux with its own programs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import process_sides
import pytest

import simloop


@pytest.fixture(scope="module")
def real() -> dict[str, list[str]]:
    """What comes of all cases on Linux."""
    if os.path.basename(os.path.realpath("/bin/sh")) != "dash":
        pytest.skip("other shells than dash have other texts")
    program = Path(process_sides.__file__)
    done = subprocess.run(
        [sys.executable, program], start_new_session=True, capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


async def sleep(proc: simloop.SimProcess) -> None:
    await asyncio.sleep(float(proc.argv[1]))


@pytest.mark.parametrize("case", process_sides.CASES)
def test_the_same_on_both_sides(real: dict[str, list[str]], case: str) -> None:
    with simloop.world(blocking="ignore") as sim:
        sim.program("true")
        sim.program("false", returncode=1)
        sim.program("sleep")(sleep)
        assert process_sides.outcome(case) == real[case]
