"""A pytest plugin for the sessions that `upstream` starts: writes what each test came to, as one line of JSON.

It also does for aiofiles' tests what pytest-asyncio does for them, so that no other test has to get along with that.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
from collections.abc import Generator
from pathlib import Path

import pytest

# From least to most: a test has the worst of its setup, call and teardown.
VERDICTS = ("passed", "skipped", "failed", "error")
_found: dict[str, dict[str, object]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if getattr(item, "simulated", False):
            # anyio starts its worker threads itself.
            item.add_marker(pytest.mark.simloop(threads=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    simulated = getattr(item, "simulated", False)
    entry = _found.setdefault(
        item.nodeid, {"id": item.nodeid, "verdict": "passed", "detail": "", "simulated": simulated}
    )
    verdict = "error" if report.failed and report.when != "call" else report.outcome
    if VERDICTS.index(verdict) > VERDICTS.index(str(entry["verdict"])):
        entry |= {"verdict": verdict, "detail": report.longreprtext}
    return report


def pytest_unconfigure() -> None:
    lines = [json.dumps(entry) + "\n" for entry in _found.values()]
    Path(os.environ["UPSTREAM_VERDICTS"]).write_text("".join(lines))


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Outside of the simulation; tests that anyio's plugin runs do not get here."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}))
    return True


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
