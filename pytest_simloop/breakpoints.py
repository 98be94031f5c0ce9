"""Breakpoints in simulated tests: ignored in the many runs that explore, active in the one run that is reported."""

from __future__ import annotations

import contextlib
import os
import pdb
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from simloop.world.world import World


class Breakpoints:
    """Context manager around all runs of a test, in which the entry points of debuggers, such as `breakpoint`, can be
    replaced."""

    def __init__(self) -> None:
        #: True once a run has reached a breakpoint and ignored it.
        self.hit = False
        self._real: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Breakpoints:
        places: list[tuple[Any, str]] = [(pdb, "set_trace"), (pytest, "set_trace")]
        # With PYTHONBREAKPOINT=0 there is nothing to pass over.
        if sys.breakpointhook is not sys.__breakpointhook__ or os.environ.get("PYTHONBREAKPOINT") != "0":
            places.append((sys, "breakpointhook"))
        self._real = [(owner, name, getattr(owner, name)) for owner, name in places]
        self.mute()
        return self

    def __exit__(self, *exc: object) -> None:
        self.restore()

    def mute(self) -> None:
        """Make the program ignore breakpoints from now on."""
        for owner, name, _ in self._real:
            setattr(owner, name, self._pass_over)

    def restore(self) -> None:
        """Restore the real entry points of debuggers, so that breakpoints stop the program again."""
        for owner, name, real in self._real:
            setattr(owner, name, real)

    def _pass_over(self, *args: Any, **kwargs: Any) -> None:
        self.hit = True


def note_time(error: BaseException, world: World) -> None:
    """Store the current virtual time on `error`, which the test has raised, so that a debugger can be opened at that
    time."""
    if getattr(error, "_simloop_raised", (None,))[0] is world:
        return  # its way out of the test was noted before
    with contextlib.suppress(AttributeError, TypeError):  # of an exception that takes no attributes
        error._simloop_raised = (world, world.scheduler.clock.now)  # type: ignore[attr-defined]
