"""Pytest items that another plugin runs (pytest-asyncio, anyio, aiohttp, tornado, a runner of the suite's own),
simulated.

The plugin goes on running them, in a world for each run: every event loop that it makes there is simulated already. An
item keeps its class and gets the one of ours in front of it, so that what the plugin does by its class, and what it
does by hooks around the test function and fixtures, both happen as ever.

Whatever is tied to a loop (async fixtures, runners, and all that depends on them) of any scope is built in each run and
finalized in it; other fixtures that outlive the test are made once, in the real world.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import pytest

from pytest_simloop import internals
from pytest_simloop.item import SimulatedItem
from pytest_simloop.tied import is_asyncio

if TYPE_CHECKING:
    from simloop.world.world import World


class ForeignItem(SimulatedItem):
    """Base of the classes of such items."""

    #: False if it turns out that the test does not run on asyncio: then it is run as if we were not there.
    on_asyncio = True
    #: True for a sync test, of which one run is made unless it asks for more.
    once = False

    def setup(self) -> None:
        self.prepare()
        self.make_wide_fixtures()
        backend = self._request.getfixturevalue("anyio_backend") if "anyio_backend" in self.fixturenames else "asyncio"
        self.on_asyncio = is_asyncio(backend)
        if not self.on_asyncio:
            super(SimulatedItem, self).setup()

    def runtest(self) -> None:
        if self.on_asyncio:
            super().runtest()
        else:
            super(SimulatedItem, self).runtest()

    def run_once(self, world: World) -> None:
        with self.finalizing(world), self._untimed():
            internals.renew_request(self)
            super(SimulatedItem, self).setup()
            super(SimulatedItem, self).runtest()

    def _untimed(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context manager in which Hypothesis, if the test is one of its, minds no time: what it would look
        at is the world's, in which a sleep takes none, and a run must not depend on what earlier ones have saved."""
        if not hasattr(self.function, "hypothesis"):
            return contextlib.nullcontext()
        return internals.changed_settings(self.function, deadline=None, database=None)


@functools.cache
def _class_for(base: type[pytest.Function]) -> type[ForeignItem]:
    return type(base.__name__, (ForeignItem, base), {"__module__": base.__module__})


def simulate_as_is(function: pytest.Function, *, once: bool = False) -> pytest.Function:
    """Makes an item a simulated one of its own kind, and returns it."""
    function.__class__ = _class_for(type(function))
    function.once = once  # type: ignore[attr-defined]
    return function
