"""For pytest to find `sizes` and `fakes`: the directory of a conftest is on the path of imports."""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(optionalhook=True)  # type: ignore[untyped-decorator]
def pytest_xdist_auto_num_workers() -> int:
    """One more than the number of cores: some tests wait for child processes, or for the clock of stock asyncio."""
    return 1 + (os.cpu_count() or 1)
