"""A pytest plugin for the sessions that `upstream` starts: plays the Pythons that anyio's tests of processes start, and
stands in for what its own plugin has."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import simloop

sys.path.append(str(Path(__file__).parents[1] / "conformance"))

import players


@pytest.fixture(autouse=True)
def played(sim: simloop.Sim) -> None:
    players.register(sim)


@pytest.fixture
def anyio_backend_name() -> str:
    return "asyncio"


@pytest.fixture
def anyio_backend_options() -> dict[str, Any]:
    return {}
