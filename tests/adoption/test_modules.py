"""Modules of widely used libraries can be imported in a run wherever they can be imported outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LINES = (Path(__file__).parent / "modules.txt").read_text().splitlines()
MODULES = [line.partition("  # ")[2] for line in LINES if not line.startswith("#") and line]

OUTSIDE = "import importlib, sys; importlib.import_module(sys.argv[1])"
INSIDE = """
import importlib, sys
import simloop
from simloop.choices.choices import Choices
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

async def main():
    importlib.import_module(sys.argv[1])

for _ in range(2):
    outcome = execute(main, Choices(), Limits())
    if outcome.exception is not None:
        raise outcome.exception
    print(outcome.choices.digest)
"""


def told(program: str, module: str) -> tuple[str, str]:
    command = [sys.executable, "-W", "ignore", "-c", program, module]
    child = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=120, check=False)
    return child.stdout, child.stderr


@pytest.mark.parametrize("module", MODULES)
def test_it_is_imported_in_a_run_as_outside(module: str) -> None:
    if told(OUTSIDE, module)[1]:
        pytest.skip(f"{module} is not installed: pip install -r tests/adoption/modules.txt")
    digests, wrong = told(INSIDE, module)
    assert not wrong
    first, second = digests.splitlines()
    assert first == second
