"""Runs the tests that a library's authors wrote, as they run them and simulated, and compares the verdicts.

They come with the library's source distribution, which pip fetches: the index is the one that pip is configured for.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Kept between sessions, and shared by all Pythons: pip takes half a minute for each, since it builds what it fetches.
ARCHIVES = HERE / ".archives"
FETCH_SECONDS = 600
# No side takes half a minute on a machine that does nothing else.
TEST_SECONDS = 500


@dataclass(frozen=True)
class Verdict:
    """What one test came to: ``passed``, ``skipped``, ``failed`` or ``error``."""

    verdict: str
    detail: str = ""
    simulated: bool = False


Verdicts = Mapping[str, Verdict]


@dataclass(frozen=True, eq=False)
class Suite:
    """The tests of a library that are about one thing, such as files."""

    library: str
    paths: tuple[str, ...]
    #: Options of pytest on both sides, and on each.
    options: tuple[str, ...] = ()
    stock: tuple[str, ...] = ()
    simulated: tuple[str, ...] = ()
    #: Tests whose two verdicts differ: why, and a regular expression for what the simulated one must say.
    exceptions: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def archive(library: str) -> Path:
    """The source distribution of the installed version."""
    known = ARCHIVES / f"{library}-{version(library)}.tar.gz"
    if not known.exists():
        ARCHIVES.mkdir(exist_ok=True)
        # Beside it, and renamed at the end: several Pythons may be at it at once.
        with tempfile.TemporaryDirectory(dir=ARCHIVES) as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
            subprocess.run(
                [*command, f"--dest={folder}", f"{library}=={version(library)}"], check=True, timeout=FETCH_SECONDS
            )
            (fetched,) = Path(folder).iterdir()
            fetched.rename(known)
    return known


def judge(suite: Suite, folder: Path, *, simulated: bool) -> Verdicts:
    """The verdicts of one side, by test. They may write beside themselves, so each side has a `folder` of its own."""
    with tarfile.open(archive(suite.library)) as tar:
        tar.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    # Their own place for temporary files, since pytest keeps only those of a user's last three sessions.
    output = folder / "verdicts.jsonl"
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "upstream_plugin",
        f"--basetemp={folder / 'scratch'}", *suite.options, *suite.paths,
        *(("--sim", "--sim-runs=10", "--sim-no-shrink", *suite.simulated) if simulated else suite.stock),
    ]  # fmt: skip
    process = subprocess.run(
        command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TEST_SECONDS, check=False,
        env={
            **os.environ, "UPSTREAM_VERDICTS": str(output),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
        },
    )  # fmt: skip
    # 1 says that some have failed, which may be the same on both sides.
    if process.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {process.returncode}:\n{process.stdout[-3000:]}{process.stderr[-3000:]}")
    found: dict[str, Verdict] = {}
    for line in output.read_text().splitlines():
        entry: dict[str, Any] = json.loads(line)
        name = without_backend(entry.pop("id"))
        assert name not in found, name
        found[name] = Verdict(**entry)
    return found


def without_backend(name: str) -> str:
    """anyio's plugin adds its backend to the parameters of each test."""
    return re.sub(r"\[asyncio(?:-|\])", lambda match: "[" if match[0].endswith("-") else "", name)


@functools.cache
def both(suite: Suite) -> tuple[Verdicts, Verdicts]:
    """The verdicts on a suite, stock and simulated."""
    with tempfile.TemporaryDirectory() as folder:
        simulated = judge(suite, Path(folder), simulated=True)
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            stock = judge(suite, Path(folder), simulated=False)
        # Stock asyncio has the real clock, and a busy machine: what fails there alone needs a second hearing.
        alone = [
            name
            for name, verdict in stock.items()
            if verdict.verdict == "failed" != simulated.get(name, verdict).verdict
        ]
        if not alone:
            break
    return stock, simulated


def complaints(suite: Suite, stock: Verdicts, simulated: Verdicts) -> list[str]:
    """What is wrong: differences that are not listed, and exceptions that are not needed."""
    found = [f"{name}: only on one side" for name in sorted(stock.keys() ^ simulated.keys())]
    for name in sorted(stock.keys() & simulated.keys()):
        differs = stock[name].verdict != simulated[name].verdict
        reason, says = suite.exceptions.get(name, (None, ""))
        said = simulated[name].detail
        if differs and (reason is None or not re.search(says, said)):
            found.append(f"{name}: {stock[name].verdict} stock, {simulated[name].verdict} simulated\n{said[-2000:]}")
        elif not differs and reason is not None:
            found.append(f"{name}: has the same verdict on both, and needs no exception")
    found += [f"{name}: there is no such test" for name in suite.exceptions if name not in stock]
    return found
