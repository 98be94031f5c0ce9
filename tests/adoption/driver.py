"""Runs the suite of another project as it stands, and with `--sim` added, and compares the verdicts test by test.

For any other project: ``python tests/adoption/driver.py DIRECTORY -- OPTIONS OF PYTEST``, where its suite passes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE / "sources.txt"
# Kept between sessions: pip builds what it fetches, which takes it a while.
ARCHIVES = HERE / ".archives"
FETCH_SECONDS = 600
SUITE_SECONDS = 900

#: Plugins that are installed beside these suites, by the names under which pytest can leave them out.
PLUGINS = (
    "asyncio", "anyio", "aiohttp", "tornado", "timeout", "pytest_mock", "rerunfailures", "randomly", "pytest_cov",
    "benchmark",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """Result of one test: ``passed``, ``skipped``, ``failed`` or ``error``, with all that pytest says of it."""

    verdict: str
    detail: str = ""


@dataclass(frozen=True)
class Session:
    """Verdicts of a session by test, and the number of tests that were simulated."""

    verdicts: Mapping[str, Verdict]
    simulated: int


@dataclass(frozen=True)
class Difference:
    """Tests that come to something else under `--sim`: regular expressions for their names and for what must be said,
    and the reason."""

    names: str
    says: str
    reason: str
    #: Whether there has to be such a test.
    always: bool = True

    def explains(self, change: Change) -> bool:
        said = change.simulated.detail if change.stock and change.simulated else ""
        return bool(re.fullmatch(self.names, change.name) and re.search(self.says, said))


@dataclass(frozen=True)
class Suite:
    """Suite of a project of `sources.txt`."""

    project: str
    #: Of `PLUGINS`: those that its authors use.
    plugins: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Change:
    """Test whose verdict is another one under `--sim`."""

    name: str
    stock: Verdict | None
    simulated: Verdict | None

    def __str__(self) -> str:
        before, after = (verdict.verdict if verdict else "not there" for verdict in (self.stock, self.simulated))
        said = [line for line in (self.simulated.detail if self.simulated else "").splitlines() if line[:2] == "E "]
        return "\n".join([f"{self.name}: {before} on stock, {after} under --sim", *said[-3:]])


def fetch(project: str) -> Path:
    """Returns the source distribution of a project of `sources.txt`."""
    (line,) = [line for line in SOURCES.read_text().splitlines() if line.startswith(f"{project}==")]
    release = line.partition(" ")[0].replace("==", "-")
    known = ARCHIVES / f"{release}.tar.gz"
    if not known.exists():
        ARCHIVES.mkdir(exist_ok=True)
        # Beside it, and renamed at the end: another session may be at it at once.
        with tempfile.TemporaryDirectory(dir=ARCHIVES) as folder:
            wanted = Path(folder, "wanted.txt")
            wanted.write_text(line)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
            command += ["--require-hashes", f"--dest={folder}", f"--requirement={wanted}"]
            subprocess.run(command, check=True, timeout=FETCH_SECONDS)
            (fetched,) = Path(folder).glob("*.tar.gz")
            fetched.rename(known)
    return known


def play(root: Path, options: Sequence[str], *, runs: int) -> Session:
    """Gives ``pytest`` in a directory, with ``--sim`` and that number of runs if there are to be any."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        added = ["--sim", f"--sim-runs={runs}"] if runs else []
        process = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *options, *added],
            cwd=root,
            # What the session that runs this one was told is not for this one.
            env={name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SIMLOOP_"))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SUITE_SECONDS,
            check=False,
        )
        # 1 says that some have failed, which may be the same on both sides.
        if process.returncode not in (0, 1):
            said = process.stdout[-3000:] + process.stderr[-3000:]
            raise RuntimeError(f"pytest ended with {process.returncode} in {root}:\n{said}")
        verdicts: dict[str, Verdict] = {}
        for name, verdict in _read(report):
            # One whose teardown fails as well has two.
            if name not in verdicts or verdicts[name].verdict == "passed":
                verdicts[name] = verdict
    told = re.search(r"^simloop: (\d+) simulated", process.stdout, re.MULTILINE)
    return Session(verdicts, int(told[1]) if told else 0)


def _read(report: Path) -> Iterator[tuple[str, Verdict]]:
    kinds = {"failure": "failed", "error": "error", "skipped": "skipped"}
    for case in ET.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        found = [Verdict(kinds[part.tag], f"{part.get('message')}\n{part.text}") for part in case if part.tag in kinds]
        yield name, found[0] if found else Verdict("passed")


def changes(stock: Session, simulated: Session) -> list[Change]:
    """Returns the tests whose verdicts differ, and those that are on one side only."""
    names = sorted(stock.verdicts.keys() | simulated.verdicts.keys())
    pairs = [Change(name, stock.verdicts.get(name), simulated.verdicts.get(name)) for name in names]
    return [
        pair
        for pair in pairs
        if pair.stock is None or pair.simulated is None or pair.stock.verdict != pair.simulated.verdict
    ]


def complaints(suite: Suite, found: Sequence[Change]) -> list[str]:
    """Returns the changes that no listed difference explains, and the listed ones that explain none."""
    explained: dict[Change, Difference] = {}
    for change in found:
        for difference in suite.differences:
            if difference.explains(change):
                explained[change] = difference
    needless = {difference for difference in suite.differences if difference.always} - set(explained.values())
    return [str(change) for change in found if change not in explained] + [
        f"{difference.names}: no test differs for that reason" for difference in needless
    ]


def compare(suite: Suite, *, runs: int) -> tuple[Session, Session, list[str]]:
    """Runs a suite on both sides, each in a copy of its own. Returns the sessions and what is wrong."""
    stock, simulated = _play_copy(suite, 0), _play_copy(suite, runs)
    failing = [change for change in changes(stock, simulated) if change.stock and change.stock.verdict != "passed"]
    if failing:
        # Stock asyncio has the real clock, and a busy machine: its failures need a second hearing.
        again = _play_copy(suite, 0).verdicts
        stock = replace(stock, verdicts={**stock.verdicts, **{change.name: again[change.name] for change in failing}})
    return stock, simulated, complaints(suite, changes(stock, simulated))


def _play_copy(suite: Suite, runs: int) -> Session:
    """Runs a suite in a fresh copy of its source."""
    without = [f"-pno:{plugin}" for plugin in PLUGINS if plugin not in suite.plugins]
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fetch(suite.project)) as tar:
            tar.extractall(folder, filter="data")
        (root,) = Path(folder).iterdir()
        return play(root, [*without, *suite.options], runs=runs)


def main() -> None:
    parser = argparse.ArgumentParser(description="tries a suite under --sim", usage="%(prog)s DIRECTORY [-- OPTIONS]")
    parser.add_argument("--runs", type=int, default=1, help="of each test (default: 1)")
    parser.add_argument("directory", type=Path)
    parser.add_argument("options", nargs="*")
    arguments = parser.parse_args()
    stock = play(arguments.directory, arguments.options, runs=0)
    simulated = play(arguments.directory, arguments.options, runs=arguments.runs)
    found = changes(stock, simulated)
    print(f"{len(stock.verdicts)} tests, {simulated.simulated} simulated, {len(found)} with another verdict")
    for change in found:
        print(change)


if __name__ == "__main__":
    main()
