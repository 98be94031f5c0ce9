"""Protocol of a simulated test, for the code that explores, confirms and describes its failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from simloop.simulation.run import Execute


class Simulated(Protocol):
    """Protocol of a simulated test: the part of `pytest_simloop.item.SimulatedItem` that does not depend on how the
    test is run."""

    #: Text of the report of a failure.
    section: str | None
    #: Sections that plugins add to the report of a failure: titles and texts.
    extra_sections: Sequence[tuple[str, str]]

    @property
    def config(self) -> pytest.Config: ...

    @property
    def nodeid(self) -> str: ...

    @property
    def path(self) -> Path: ...

    @property
    def execute(self) -> Execute:
        """Make one run of the test in a fresh world."""
