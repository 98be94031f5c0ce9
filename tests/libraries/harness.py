"""Runs a program that uses a real, unmodified library under many seeds, and each of them twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import seeded
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute

Main = Callable[[], Coroutine[Any, Any, Any]]
SEEDS = range(50)
HERE = Path(__file__).parent


LIMITS = Limits()


def run_once(main: Main, seed: int) -> Outcome:
    """One run, whose exception is raised with a note of the seed."""
    outcome = execute(main, Choices(seed, seeded(seed)), LIMITS)
    if outcome.exception is not None:
        outcome.exception.add_note(f"under seed {seed} of {getattr(main, '__qualname__', main)}")
        raise outcome.exception
    return outcome


def check(main: Main, expected: Any, seeds: Iterable[int] = SEEDS) -> None:
    """`main` returns `expected` under all seeds, and each seed takes the same way twice."""
    # The first run warms up what a library keeps in its modules for good, such as caches.
    assert simloop.run(main) == expected
    for seed in seeds:
        first, second = run_once(main, seed), run_once(main, seed)
        assert first.value == expected, f"under seed {seed}"
        assert second.value == expected, f"under seed {seed}, run again"
        assert first.choices.digest == second.choices.digest, f"seed {seed} took two ways"


def digests_elsewhere(module: str, function: str, hash_seed: int, seeds: Iterable[int]) -> list[str]:
    """The digests of runs in a fresh process with another PYTHONHASHSEED, as text."""
    code = (
        f"import sys; sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]; import harness, {module} as m; "
        f"[print(harness.run_once(m.{function}, seed).choices.digest) for seed in {list(seeds)!r}]"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout.split()
