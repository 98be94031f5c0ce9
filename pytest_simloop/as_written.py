"""Exemption of simloop's packages from pytest's rewriting of `assert` statements.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any


class AsWritten:
    """Finder of modules (an entry of `sys.meta_path`) that imports some packages without rewriting their assertions.

    Pytest's finder rewrites all packages of a distribution that has an entry point for pytest. That helps with users'
    assertions; for simloop's packages it only makes imports slow, and keeps the bytecode compiled at installation from
    being used. Even to decline a module it takes as long as an import.
    """

    def __init__(self, *packages: str) -> None:
        self._packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, path, target) if name.partition(".")[0] in self._packages else None


def leave_as_written(*packages: str) -> None:
    """Have the given packages imported without pytest's finder from now on."""
    sys.meta_path.insert(0, AsWritten(*packages))
