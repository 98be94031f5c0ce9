"""For pytest to find `sizes` and `fakes`: the directory of a conftest is on the path of imports."""

from __future__ import annotations

import gc
import os

import pytest


@pytest.hookimpl(optionalhook=True)  # type: ignore[untyped-decorator]
def pytest_xdist_auto_num_workers() -> int:
    """Twice the number of cores: many tests wait for child processes, or for the clock of stock asyncio."""
    return 2 * (os.cpu_count() or 1)


def pytest_runtest_setup() -> None:
    """What was imported and collected is searched for garbage once: many tests collect it, some after each run."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()
