"""No probe leaks: what it does is simulated, escapes with its line, or is told by one warning."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = Path(__file__).parents[2] / "docs/reference/simulated.md"
TABLES = {"Simulated", "Escapes"}


def test_nothing_leaks() -> None:
    # In a process of its own: the probes change what they can, and real things are there before the first run.
    run = subprocess.run(
        [sys.executable, "probes.py"], cwd=HERE, capture_output=True, text=True, timeout=240, check=False
    )
    told = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    silent = [probe for probe in told if probe["wrong"]]
    assert not silent, "\n".join(f"{probe['name']}: {probe['wrong']}" for probe in silent)
    assert run.returncode == 0, run.stderr
    assert told


def probed() -> list[str]:
    """Returns the row to which each probe belongs."""
    found: list[str] = []
    for path in HERE.glob("*.py"):
        text = path.read_text()
        found += re.findall(r"^ *@(?:simulated|escapes|warned)\(\"(.+)\"\)$", text, re.M)
        # Most probes of a file may belong to one row.
        found += re.findall(r"^_ROW = \"(.+)\"$", text, re.M)
    return found


def rows() -> set[str]:
    """Returns the first columns of the tables of what is simulated and of what escapes."""
    found = set()
    for section in PAGE.read_text().split("\n## ")[1:]:
        if section.partition("\n")[0] in TABLES:
            found |= {line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")}
    return found - {"what", "---", "library"}


def test_each_row_has_a_probe() -> None:
    assert rows() - set(probed()) == set()
    assert set(probed()) - rows() == set()
