"""A pytest plugin for the sessions that `upstream` starts: writes what each test came to, as one line of JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

# From least to most: a test has the worst of its setup, call and teardown.
VERDICTS = ("passed", "skipped", "failed", "error")
_found: dict[str, dict[str, object]] = {}


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
