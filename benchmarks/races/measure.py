"""How many runs it takes to find real races of real libraries, and whether their fixed versions pass.

    python benchmarks/races/measure.py [name ...] [--seeds N] [--runs N]

Makes a virtual environment for each pair of a Python and a set of packages, in `.venvs` beside this file, and keeps
it. The exit status is 1 when a race was not found, found without any deviation or not replayed, or when a fixed
version failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
# Numbers far from one another; campaigns with neighbouring seeds share no walks either.
SEED_DISTANCE = 10_000


@dataclass(frozen=True)
class Environment:
    """A Python and what is installed in it."""

    python: str
    packages: tuple[str, ...]

    @property
    def name(self) -> str:
        return "-".join([f"py{self.python}", *[package.replace("==", "-") for package in self.packages]])

    @property
    def label(self) -> str:
        """What makes the difference: the first package, or the Python where there is none."""
        return self.packages[0].replace("==", " ") if self.packages else f"Python {self.python}"

    def interpreter(self) -> Path:
        """The environment's Python; makes the environment if there is none yet."""
        folder = HERE / ".venvs" / self.name
        python = folder / "bin" / "python"
        complete = folder / "complete"
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            check(find_python(self.python), "-m", "venv", str(folder))
            check(str(python), "-m", "pip", "install", "-q", "-e", str(CHECKOUT), *self.packages)
            complete.touch()
        return python


@dataclass(frozen=True)
class Race:
    name: str
    test: str
    buggy: Environment
    fixed: Environment


def load_races() -> list[Race]:
    def environment(entry: dict[str, Any]) -> Environment:
        return Environment(entry["python"], tuple(entry["packages"]))

    tables = tomllib.loads((HERE / "races.toml").read_text())
    return [
        Race(name, table["test"], environment(table["buggy"]), environment(table["fixed"]))
        for name, table in tables.items()
    ]


def find_python(version: str) -> str:
    """An interpreter of that minor version: this one, one on the path, or one of pyenv's."""
    for candidate in _candidates(version):
        command = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            continue
        # pyenv's stand-ins are on the path also for versions that are not switched on.
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return candidate
    raise SystemExit(f"no Python {version} found: have python{version} on the path, or install it with pyenv")


def _candidates(version: str) -> Iterator[str]:
    yield sys.executable
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        yield on_path
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    # The newest patch release first.
    for folder in sorted((root / "versions").glob(f"{version}.*"), key=lambda path: (len(path.name), path.name))[::-1]:
        yield str(folder / "bin" / "python")


def check(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}")


def campaigns(race: Race, environment: Environment, seeds: list[int], runs: int) -> list[dict[str, Any]]:
    """What campaigns.py found, in one process of that environment."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        script = str(HERE / "campaigns.py")
        command = [str(environment.interpreter()), script, str(HERE / race.test), str(results), f"--runs={runs}"]
        check(*command, "--seeds", *map(str, seeds))
        found: list[dict[str, Any]] = json.loads(results.read_text())
        return found


def replays(race: Race, token: str) -> bool:
    """Whether the token makes the test fail in a new process of its own."""
    command = [str(race.buggy.interpreter()), "-m", "pytest", "-q", "--sim", f"--sim-replay={token}"]
    done = subprocess.run(
        [*command, str(HERE / race.test)], cwd=HERE, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode == 1 and "1 failed" in done.stdout


def measure_buggy(race: Race, seeds: list[int], runs: int) -> tuple[list[str], bool]:
    """The row of the table, and whether the race was found as it should be."""
    results = campaigns(race, race.buggy, seeds, runs)
    found = [result for result in results if result["runs"]]
    again = [replays(race, result["token"]) for result in found]
    first = [result["runs"] for result in found]
    deviations = [result["deviations"] for result in found]
    strategies = sorted({result["strategy"] for result in found})
    row = [
        race.name,
        race.buggy.label,
        f"{len(found)} of {len(seeds)}",
        f"{statistics.median(first):g} ({min(first)} to {max(first)})" if first else "-",
        str(max(deviations)) if deviations else "-",
        f"{sum(again)} of {len(found)}",
        f"{statistics.median(result['seconds'] for result in results):.1f} s",
        ", ".join(strategies),
    ]
    good = len(found) == len(seeds) and all(again) and min(deviations) > 0
    return row, good


def measure_fixed(race: Race, seeds: list[int], runs: int) -> tuple[list[str], bool]:
    results = campaigns(race, race.fixed, seeds, runs)
    passed = sum(not result["runs"] for result in results)
    seconds = f"{statistics.median(result['seconds'] for result in results):.1f} s"
    row = ["", race.fixed.label, f"passed {passed} of {len(seeds)}", "", "", "", seconds, ""]
    return row, passed == len(seeds)


HEADINGS = ["race", "version", "found", "runs: median (range)", "deviations", "replayed", "time", "by"]
WIDTHS = [17, 14, 15, 21, 11, 9, 7, 0]


def show(row: list[str]) -> None:
    print(" ".join(cell.ljust(width) for cell, width in zip(row, WIDTHS, strict=True)).rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    races = load_races()
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(race.name for race in races))
    parser.add_argument("--seeds", type=int, default=20, help="how many campaigns of each test")
    parser.add_argument("--runs", type=int, default=200, help="the budget of each campaign")
    options = parser.parse_args()
    unknown = set(options.names) - {race.name for race in races}
    if unknown:
        parser.error(f"no race of that name: {', '.join(sorted(unknown))}")
    if options.seeds < 1 or options.runs < 1:
        parser.error("--seeds and --runs must be at least 1")
    seeds = [number * SEED_DISTANCE for number in range(1, options.seeds + 1)]
    print(f"{options.seeds} campaigns of {options.runs} runs each; {platform.machine()}")
    show(HEADINGS)
    as_wanted = True
    for race in races:
        if options.names and race.name not in options.names:
            continue
        for measure in (measure_buggy, measure_fixed):
            row, good = measure(race, seeds, options.runs)
            show(row if good else [*row[:-1], f"{row[-1]} NOT AS WANTED".strip()])
            as_wanted &= good
    raise SystemExit(not as_wanted)


if __name__ == "__main__":
    main()
