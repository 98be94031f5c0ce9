"""Exemption of our packages from pytest's rewriting of `assert` statements.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys


def leave_as_written(*packages: str) -> None:
    """Stop pytest from rewriting the `assert` statements of some packages when they are imported.

    Pytest rewrites all packages of a distribution that has an entry point for pytest. That helps with users'
    assertions; for our packages it only makes imports slow, and keeps the bytecode compiled at installation from being
    used. This is a private part of pytest as those in `pytest_simloop.internals`, which would be rewritten itself.
    """
    for finder in sys.meta_path:
        marked: set[str] = getattr(finder, "_must_rewrite", set())  # pytest's, which is absent under --assert=plain
        marked.difference_update(packages)
