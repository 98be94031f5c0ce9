"""Gathers verdicts on CPython's own tests, stock and simulated, and reads the tables of exceptions."""

from __future__ import annotations

import fnmatch
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sizes

HERE = Path(__file__).parent
# One table for each kind of modules.
TABLES = tuple(HERE / f"exceptions{kind}.toml" for kind in ("", "-files", "-threads", "-tls"))

# The modules of test.test_asyncio that are about what is simulated, at least in part: the table names the rest.
ASYNCIO = (
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
    "test_ssl",
    "test_sslproto",
    "test_staggered",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_transports",
    "test_unix_events",
    "test_waitfor",
)
# Those of the package test that are about files.
FILES = (
    "test_fileio",
    "test_glob",
    "test_io",
    "test_os",
    "test_pathlib",
    "test_shutil",
    "test_tempfile",
)
# And those about threads.
THREADS = (
    "test_concurrent_futures",
    "test_queue",
    "test_sched",
    "test_thread",
    "test_threading",
    "test_threading_local",
)
# And those about TLS: asyncio has a test_ssl, too.
TLS = ("test.test_ssl",)
MODULES = ASYNCIO + FILES + THREADS + TLS
# Not run: multiprocessing is not simulated, and each of these starts real processes on the stock side.
LEFT_OUT = (
    "test_concurrent_futures.*Process*",
    "test_concurrent_futures.*Resources*",
    "test_concurrent_futures.*Deadlock*",
)
# Not run for each change: seconds each, since the program spins until virtual time has passed, which only its own looks
# at the clock move on.
SLOW = (
    "test_base_events.BaseEventLoopTests.test_time_and_call_at",
    "test_pep492.LockTests.test_context_manager_*",
    "test_runners.RunnerTests.test_interrupt_*",
    "test_threading.InterruptMainTests.test_can_interrupt_tight_loops",
    # Of six queues that share all but their order, two are enough.
    "test_queue.*PriorityQueue*many_threads*",
    "test_queue.*LifoQueue*many_threads*",
    "test_queue.PySimpleQueueTest.test_many_threads",
)
# Real seconds for the methods of a module in one process, and for one method. No simulated method comes
# near; those that the table lists as hanging need not be waited for as long.
MODULE_SECONDS = 500
METHOD_SECONDS = 60
HANGING_SECONDS = 1


@dataclass(frozen=True)
class Verdict:
    """What one test method came to: ``pass``, ``skip``, ``fail``, ``error``, ``hang`` or ``crash``."""

    verdict: str
    detail: str = ""


Verdicts = Mapping[str, Verdict]


# --- running ----------------------------------------------------------------------------------------


def module_of(name: str) -> str:
    """The module of a test method, or of a pattern of such."""
    return name[: name.index(".", len(_package(name)))]


def _package(name: str) -> str:
    return "test." if name.startswith("test.") else ""


def full_name(module: str) -> str:
    if module in TLS:
        return module
    return f"test.{module}" if module in FILES + THREADS else f"test.test_asyncio.{module}"


def available(module: str) -> bool:
    """Whether the running Python has this test module."""
    try:
        return importlib.util.find_spec(full_name(module)) is not None
    except ModuleNotFoundError:
        return False


@functools.cache
def names(module: str) -> tuple[str, ...]:
    """The test methods of a module, such as ``test_locks.LockTests.test_repr``."""
    process = _verdicts_py("list", full_name(module))
    if process.returncode:
        raise RuntimeError(f"{module} cannot be loaded:\n{process.stderr[-3000:]}")
    found = [_package(module) + name for name in process.stdout.split()]
    return tuple(name for name in found if not _is_left_out(name))


def _is_left_out(name: str) -> bool:
    left_out = LEFT_OUT if sizes.FACTOR >= 1 else LEFT_OUT + SLOW
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in left_out)


def judge(mode: str, module: str, wanted: Iterable[str], seconds: float = METHOD_SECONDS) -> Verdicts:
    """The verdict on each method of `module` in `wanted`; `mode` is ``stock`` or ``simulated``."""
    found: dict[str, Verdict] = {}
    while rest := [name for name in wanted if name not in found]:
        # One process for all, and another one for what is left when it hangs or dies.
        package = _package(module)
        wanted_here = [name.removeprefix(package) for name in rest]
        process = _verdicts_py(mode, full_name(module), *wanted_here, f"--patience={seconds}")
        before = len(found)
        running = ""
        for line in process.stdout.splitlines():
            entry: dict[str, Any] = json.loads(line)
            if "begins" in entry:
                running = package + entry["begins"]
            else:
                found[package + entry["id"]] = Verdict(entry["verdict"], entry["detail"])
                running = ""
        if running:
            what = "hang" if "Timeout" in process.stderr else "crash"
            found[running] = Verdict(what, f"{what} of the process:\n{process.stderr[-3000:]}")
        if len(found) == before:
            raise RuntimeError(f"no verdict on {rest[0]}:\n{process.stderr[-3000:]}")
    return found


def _verdicts_py(*arguments: str) -> subprocess.CompletedProcess[str]:
    # What stock and simulated tests leave behind, or look for, is not to be in each other's way.
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        return subprocess.run(
            [sys.executable, str(HERE / "verdicts.py"), *arguments],
            cwd=directory, env=os.environ | {"TMPDIR": directory}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=MODULE_SECONDS, check=False,
        )  # fmt: skip


def both(module: str) -> tuple[Verdicts, Verdicts]:
    """The verdicts on a module, stock and simulated.

    CPython's own tests pass on CPython: asked outside of a world are those alone that do not pass in one. The rest
    would take the real time for which they sleep, and fail on a busy machine.
    """
    hanging = [name for name in names(module) if any(exempt.hangs and exempt.covers(name) for exempt in exempts())]
    others = [name for name in names(module) if name not in hanging]
    simulated = {**judge("simulated", module, others), **judge("simulated", module, hanging, HANGING_SECONDS)}
    doubtful = [name for name, verdict in simulated.items() if verdict.verdict != "pass"]
    stock = {**dict.fromkeys(names(module), Verdict("pass")), **judge("stock", module, doubtful)}
    # Stock asyncio has the real clock, and a busy machine: a verdict against it needs a second hearing.
    failed = [name for name in doubtful if stock[name].verdict not in ("pass", "skip", simulated[name].verdict)]
    return {**stock, **judge("stock", module, failed)}, simulated


# --- the table --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exempt:
    """A pattern of test methods whose two verdicts differ, and why."""

    pattern: str
    reason: str
    says: str
    """A regular expression for what the simulated verdict must say: an exception covers nothing else."""
    hangs: bool

    def covers(self, name: str) -> bool:
        return fnmatch.fnmatchcase(name, self.pattern)


def holds_for(versions: str, version: tuple[int, int]) -> bool:
    """Whether a key of the table (``3.12``, ``3.12+``, ``3.11-3.12``) means this Python."""
    low, _, high = versions.rstrip("+").partition("-")
    at_most = (99, 99) if versions.endswith("+") else _version(high or low)
    return _version(low) <= version <= at_most


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


@functools.cache
def exempts() -> tuple[Exempt, ...]:
    """The exceptions that hold for the running Python."""
    return tuple(
        Exempt(pattern, group["reason"], group["says"], group.get("hangs", False))
        for table in TABLES
        for group in tomllib.loads(table.read_text()).get("exceptions", ())
        for versions, patterns in group["tests"].items()
        if holds_for(versions, sys.version_info[:2])
        for pattern in patterns
        if not _is_left_out(pattern)
    )


def differing(stock: Verdicts, simulated: Verdicts) -> list[str]:
    """The methods whose two verdicts differ."""
    return [name for name in stock if stock[name].verdict != simulated[name].verdict]


def complaints(
    module: str, stock: Verdicts, simulated: Verdicts, listed: Iterable[Exempt]
) -> tuple[list[str], list[str]]:
    """What is wrong: differences that the table does not list, and exceptions that are not needed."""
    listed = [exempt for exempt in listed if module_of(exempt.pattern) == module]
    differ = differing(stock, simulated)
    unlisted = []
    for name in differ:
        reasons = [exempt for exempt in listed if exempt.covers(name)]
        said = simulated[name].detail
        if not any(re.search(exempt.says, said) for exempt in reasons):
            what = f"{name}: {stock[name].verdict} outside, {simulated[name].verdict} simulated"
            if reasons:
                what += f" (listed as {reasons[0].reason!r}, but says otherwise)"
            unlisted.append(f"{what}\n{_indented(said)}")
    unneeded = []
    for exempt in listed:
        covered = [name for name in stock if exempt.covers(name)]
        agreeing = [name for name in covered if name not in differ]
        if not covered:
            unneeded.append(f"{exempt.pattern}: there is no such test")
        unneeded += [f"{exempt.pattern}: {name} has the same verdict on both" for name in agreeing]
    return unlisted, unneeded


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-12:])
