"""The text of reports, pinned by golden files: read those as a new user would.

    SIMLOOP_WRITE_GOLDEN=1 python -m pytest tests/report

writes them anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import races

import simloop
from simloop.report.text import HEIGHT, WIDTH, command, failure_text

GOLDEN = Path(__file__).parent / "golden"
RACES = {
    "transfer": "cpython",
    "lost_item": "cpython",
    "two_clients": "cpython",
    "impatient": "cpython",
    "embrace": "cpython",
    "check_then_act": "hostile",
    "two_things": "cpython",
    "broken": "cpython",
    "lost_write": "cpython",
    "lost_update": "cpython",
}


def report_of(name: str, *, whole: bool = False) -> str:
    preempt = "lines" if name == "lost_update" else "calls"
    failure = simloop.explore(getattr(races, name), profile=RACES[name], runs=300, preempt=preempt).failure
    assert failure is not None
    head = f"failed in run {failure.run_number} ({failure.strategy})"
    tail = command(["pytest", "tests/test_it.py::test_it", f"--sim-replay={failure.token}"])
    lines = [line.text for line in failure_text(head, failure.explanation, tail, whole=whole)]
    if isinstance(failure.exception, simloop.DeadlockError):
        lines = [*str(failure.exception).splitlines(), *lines]
    if not whole:
        assert len(lines) <= HEIGHT
        assert max(map(len, lines)) <= WIDTH
    return "\n".join(lines) + "\n"


def normal(text: str) -> str:
    """Without what differs between Python versions and directories."""
    text = re.sub(r"asyncio/(\w+)\.py:\d+", r"asyncio/\1.py:N", text)
    return text.replace(str(Path(races.__file__).parent) + os.sep, "").replace("tests/report/", "")


@pytest.mark.parametrize("name", RACES)
def test_the_report_reads_as_pinned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Paths are told relative to the working directory.
    monkeypatch.chdir(Path(races.__file__).parent)
    text = normal(report_of(name))
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("SIMLOOP_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", RACES)
def test_everything_is_shown_on_demand_and_nothing_internal_ever(name: str) -> None:
    text = report_of(name, whole=True)
    assert "..." not in text.replace("...'", "")
    for internal in ("TaskStepMethWrapper", "task_wakeup", "SimTask", "SimLoop", "_run_once", "poll.", "net.", "~"):
        assert internal not in text, internal
