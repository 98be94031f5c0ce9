"""The reference names all that there is, and what is written in two places is the same in both."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest
from pages import ROOT, run

import simloop
from simloop.choices.choices import KINDS
from simloop.explore import hookspecs

REFERENCE = ROOT / "docs" / "reference"


def documented(page: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (REFERENCE / page).read_text()))


def test_every_public_name_is_in_the_reference() -> None:
    directives = r"(?m)^\.\. (?:auto\w+|data):: (?:simloop\.)?(\w+)$"
    named = set.union(*(documented(page, directives) for page in ("api.md", "errors.md", "hooks.md")))
    assert named == {*simloop.__all__, "__version__"}


def test_every_hook_is_in_the_reference() -> None:
    hooks = {name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("simloop_")}
    assert documented("hooks.md", r"autofunction:: .*\.(simloop_\w+)") == hooks


def test_every_option_marker_and_key_is_in_the_reference(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    page = documented("options.md", r"\| `(--sim[\w-]*)|\| `(\w+)=`(?= \|)|\| `(sim\w*)`(?= \|)")
    named = {name for names in page for name in names if name}
    shown = run("pytest --help", tmp_path)
    options = set(re.findall(r"^ +(--sim[\w-]*)", shown, re.MULTILINE))
    keys = set(re.findall(r"^ +(sim\w*) \(", shown, re.MULTILINE))
    marker = next(line for line in pytestconfig.getini("markers") if line.startswith("simloop("))
    keywords = set(re.findall(r"\w+", marker.partition("(")[2].partition(")")[0]))
    assert options | keys | keywords == named


def test_every_kind_of_choice_point_is_in_the_reference() -> None:
    kinds = (REFERENCE / "choice-points.md").read_text()
    assert {kind for kind in KINDS if f"`{kind}`" not in kinds} == set()


def test_the_version_is_that_of_the_project() -> None:
    assert simloop.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_ruff_has_one_version() -> None:
    tox = re.search(r"ruff==(\S+)", (ROOT / "tox.ini").read_text())
    hook = re.search(r"rev: v(\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert tox is not None
    assert hook is not None
    assert tox[1] == hook[1]
