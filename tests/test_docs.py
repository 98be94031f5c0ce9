"""docs/reference/simulated.md says what the code does."""

from __future__ import annotations

import _io
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import simloop
from simloop.loop import factory
from simloop.shims import SHIMS, changed_libraries, escapes, opened
from simloop.shims.late import LATE
from simloop.shims.sqlite3 import calls as sqlite_calls

DOCS = Path(__file__).parents[1] / "docs"
SIMULATING = (
    [shim for shim in SHIMS if shim not in (escapes, opened)] + [import_module(name) for name in LATE] + [factory]
)

#: Shims of Python 3.11 alone, whose originals later ones have as well.
OF_311 = {f"asyncio.unix_events._UnixDefaultEventLoopPolicy.{verb}_child_watcher" for verb in ("get", "set")}
#: Audit events that depend on their arguments.
OF_THEIR_OWN = {"sqlite3.connect", "open", "mmap.__new__", "ctypes.dlopen", "ctypes.dlsym"}


def qualified(owner: object, name: str) -> str:
    if isinstance(owner, ModuleType):
        # Python 3.11 calls it io.
        return f"{'_io' if owner is _io else owner.__name__}.{name}"
    assert isinstance(owner, type)
    return f"{owner.__module__}.{owner.__qualname__}.{name}"


def calls_in(section: str) -> set[str]:
    """The names in code spans of the second column of the section's table."""
    text = (DOCS / "reference/simulated.md").read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")][2:]
    return {call for row in rows for call in re.findall(r"`([^`]+)`", row[2])}


def test_every_shim_is_in_the_table_of_what_is_simulated() -> None:
    shimmed = {qualified(owner, name) for module in SIMULATING for owner, name, _ in module.REPLACEMENTS}
    shimmed |= {f"sqlite3.{owner.__name__}" for owner in sqlite_calls.TYPES}
    known = calls_in("Simulated") - (OF_311 if sys.version_info >= (3, 12) else set())
    assert shimmed - known == set(), "missing from docs/reference/simulated.md"
    # Some calls exist in some Pythons only.
    assert {call for call in known if exists(call)} - shimmed == set(), (
        "in docs/reference/simulated.md, but not in the code"
    )


def test_every_escape_is_in_its_table() -> None:
    refused = {qualified(owner, name) for owner, name, _, _ in escapes.REFUSED if hasattr(owner, name)}
    refused |= {qualified(owner, name) for owner, name, _ in opened.REPLACEMENTS}
    known = calls_in("Escapes")
    assert refused | set(escapes.AUDITED) | set(escapes.CHANGING) | OF_THEIR_OWN <= known
    extra = known - refused - set(escapes.AUDITED) - set(escapes.CHANGING) - OF_THEIR_OWN
    assert not {call for call in extra if exists(call)}, "in docs/reference/simulated.md, but not in the code"


def test_every_library_is_in_its_table() -> None:
    calls = {f"{module}.{call}" for module, (names, _) in changed_libraries.REFUSED.items() for call in names}
    calls = {call.removesuffix(".__init__") for call in calls} | {"apsw.Connection"}
    assert calls_in("Libraries with input and output of their own") == calls


def exists(call: str) -> bool:
    import importlib

    parts = call.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("name", simloop.__all__)
def test_everything_public_is_documented(name: str) -> None:
    assert (getattr(simloop, name).__doc__ or "").strip()
