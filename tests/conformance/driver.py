"""Gathers verdicts on CPython's asyncio tests, stock and simulated, and reads the table of exceptions."""

from __future__ import annotations

import fnmatch
import functools
import importlib.util
import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TABLE = HERE / "exceptions.toml"

# The modules that need no real process or file. test_unix_events, test_events and test_base_events hold
# classes that do; the table names them.
MODULES = (
    "test_base_events",
    "test_buffered_proto",
    "test_context",
    "test_eager_task_factory",
    "test_events",
    "test_futures",
    "test_futures2",
    "test_locks",
    "test_pep492",
    "test_protocols",
    "test_queues",
    "test_runners",
    "test_selector_events",
    "test_server",
    "test_sock_lowlevel",
    "test_staggered",
    "test_streams",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_transports",
    "test_unix_events",
    "test_waitfor",
)
# Real seconds for a module. A hanging method ends earlier, by the watchdog of verdicts.py.
MODULE_TIMEOUT = 400


@dataclass(frozen=True)
class Verdict:
    """What one test method came to."""

    verdict: str
    detail: str = ""


@dataclass(frozen=True)
class Exempt:
    """A pattern of test methods whose two verdicts may differ, and why."""

    pattern: str
    reason: str
    says: str

    def covers(self, name: str) -> bool:
        return fnmatch.fnmatchcase(name, self.pattern)


def available(module: str) -> bool:
    """Whether the running Python has this test module."""
    try:
        return importlib.util.find_spec(f"test.test_asyncio.{module}") is not None
    except ModuleNotFoundError:
        return False


def _run(mode: str, module: str, names: tuple[str, ...] = ()) -> dict[str, Verdict]:
    """One process's worth of verdicts; the method in which it died or hung is among them."""
    command = [sys.executable, str(HERE / "verdicts.py"), mode, module, *names]
    if mode == "simulated":
        command.append("--patience=5")
    found: dict[str, Verdict] = {}
    running = ""
    process = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=MODULE_TIMEOUT, check=False
    )
    for line in process.stdout.splitlines():
        entry: dict[str, Any] = json.loads(line)
        if "begins" in entry:
            running = entry["begins"]
        else:
            found[entry["id"]] = Verdict(entry["verdict"], entry["detail"])
            running = ""
    if running:
        found[running] = Verdict("hang" if "Timeout" in process.stderr else "crash", process.stderr[-2000:])
    elif process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{process.stderr[-2000:]}")
    return found


@functools.lru_cache(maxsize=None)
def verdicts(mode: str, module: str) -> dict[str, Verdict]:
    """The verdict on each method of `module`; `mode` is ``stock`` or ``simulated``."""
    found = _run(mode, module)
    while _died_in(found) is not None:
        names = _names(module)
        rest = tuple(name for name in names if name not in found)
        if not rest:
            break
        more = _run(mode, module, rest)
        if not more:
            break
        found |= more
        if list(more.values())[-1].verdict not in ("hang", "crash"):
            break
    return found


def _died_in(found: dict[str, Verdict]) -> str | None:
    return next((name for name, verdict in found.items() if verdict.verdict in ("hang", "crash")), None)


@functools.lru_cache(maxsize=None)
def _names(module: str) -> tuple[str, ...]:
    process = subprocess.run(
        [sys.executable, str(HERE / "verdicts.py"), "list", module], capture_output=True, text=True, check=True
    )
    return tuple(process.stdout.split())
