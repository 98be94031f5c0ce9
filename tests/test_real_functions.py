"""What a test may replace, by `unittest.mock` in `os` and `time` above all, is not called by simloop itself."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

import pytest_simloop
import simloop

ROOTS = [Path(str(package.__file__)).parent for package in (simloop, pytest_simloop)]
#: Of these modules, tests replace functions most often. In place of `os`, call `posix`, or the shim.
MODULES = {"os", "time", "importlib"}
#: Functions that look at nothing but their arguments, and one that is called once, by an import.
PURE = {"fspath", "fsdecode", "fsencode", "makedev", "register_at_fork", "strerror", "waitstatus_to_exitcode"} | {
    "WIFSIGNALED", "WTERMSIG", "get_exec_path",
}  # fmt: skip
#: The command line, and a script that simloop is no part of.
PROGRAMS = {"simloop/__main__.py", "simloop/explore/standalone.py"}
# What `platform` calls in the same place, by the same name.
AS_STOCK = {("simloop/shims/libraries.py", "os.uname")}

FILES = {str(path.relative_to(root.parent)): path for root in ROOTS for path in sorted(root.rglob("*.py"))}


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Calls by an attribute of one of `MODULES`, as ``module.function``, with their lines."""
    names = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in MODULES
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            value, function = node.func.value, node.func.attr
            # Types such as `os.stat_result` are no functions.
            if isinstance(value, ast.Name) and value.id in names and not function.endswith("_result"):
                yield f"{names[value.id]}.{function}", node.lineno


@pytest.mark.parametrize("file", sorted(FILES.keys() - PROGRAMS))
def test_what_a_test_replaces_is_not_called(file: str) -> None:
    found = [
        f"{FILES[file]}:{line} calls {call}, which a test may have replaced"
        for call, line in calls(ast.parse(FILES[file].read_text()))
        if call.partition(".")[2] not in PURE and (file, call) not in AS_STOCK
    ]
    assert not found, found


def test_a_call_is_seen() -> None:
    source = "import os\nimport time as _time\n_time.time()\nos.stat_result(())\nos.path.join('a')\nos.stat('a')\n"
    assert list(calls(ast.parse(source))) == [("time.time", 3), ("os.stat", 6)]


async def main() -> None:
    with open("/file", "wb+", 0) as source, open("/copy", "wb", 0) as target:
        source.write(b"copied")
        assert os.sendfile(target.fileno(), source.fileno(), 0, 6) == 6
    order: list[int] = []
    loop = asyncio.get_running_loop()
    when = loop.time() + 0.01
    loop.call_at(when, order.append, 1)
    loop.call_at(when, order.append, 2)
    await asyncio.sleep(0.02)
    assert order == [1, 2]


def test_a_campaign_calls_no_mocks() -> None:
    names = ["_exit", "fork", "fstat", "kill", "lseek", "memfd_create", "pread", "read", "waitpid", "write"]
    replaced = [f"os.{name}" for name in names] + ["time.monotonic", "time.perf_counter", "time.process_time"]
    simloop.run(main)
    with contextlib.ExitStack() as stack:
        for name in replaced:
            stack.enter_context(mock.patch(name, side_effect=ValueError(name)))
        report = simloop.explore(main, runs=50, jobs=2)
    assert report.failure is not None
    assert isinstance(report.failure.exception, AssertionError)
