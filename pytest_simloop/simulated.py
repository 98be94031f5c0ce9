"""Interface (`typing.Protocol`) of a simulated test, for the code that explores it and confirms and describes its
failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from simloop.simulation.limits import Limits
    from simloop.simulation.run import Execute


class Simulated(Protocol):
    """Structural type of a simulated test: the part of `pytest_simloop.item.SimulatedItem` that does not depend on how
    the test is run."""

    #: Text of the report of a failure; None if there is none.
    section: str | None
    #: Sections that plugins add to the report of a failure, as pairs of title and text.
    extra_sections: Sequence[tuple[str, str]]
    #: True if runs begin at the real time, since the test fails on the usual date.
    from_now: bool

    @property
    def config(self) -> pytest.Config: ...

    @property
    def nodeid(self) -> str: ...

    @property
    def location(self) -> tuple[str, int | None, str]: ...

    @property
    def path(self) -> Path: ...

    def use(self, limits: Limits) -> None:
        """Set the limits and options of later runs."""

    @property
    def execute(self) -> Execute:
        """Function that makes one run of the test in a fresh world."""
