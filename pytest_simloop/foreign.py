"""Simulated pytest items that another plugin runs (pytest-asyncio, anyio, aiohttp, tornado, a runner of the suite's
own).

That plugin still runs them, in a world for each run: every event loop that it creates there is a simulated one. The
class of an item becomes a subclass of its own class and of `ForeignItem`, so that the other plugin works as before,
both through its class and through its hooks around the test function and fixtures.

Everything that is tied to a loop (async fixtures, runners, and all that depends on them), of any scope, is set up and
torn down in each run; other fixtures that outlive the test are set up once, in the real world.
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
    """Base class of simulated pytest items that another plugin runs."""

    #: False once the test is known not to run on asyncio: then it is run without simulation.
    on_asyncio = True
    #: True for a sync test, which gets a single run unless its marker asks for more.
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
        self.finalized(world, self._run_protocol)

    def _run_protocol(self) -> None:
        with self._untimed():
            internals.renew_request(self)
            self.setting_up = True
            super(SimulatedItem, self).setup()
            self.setting_up = False
            super(SimulatedItem, self).runtest()

    def _untimed(self) -> contextlib.AbstractContextManager[None]:
        """Return a context manager that switches off the deadline and the database of Hypothesis, if the test uses it.
        A deadline would be measured in virtual time, in which a sleep counts in full, and a run must not depend on
        saved examples."""
        if not hasattr(self.function, "hypothesis"):
            return contextlib.nullcontext()
        from pytest_simloop.hypothesis_internals import changed_settings

        return changed_settings(self.function, deadline=None, database=None)


@functools.cache
def _class_for(base: type[pytest.Function]) -> type[ForeignItem]:
    return type(base.__name__, (ForeignItem, base), {"__module__": base.__module__})


def simulate_as_is(function: pytest.Function, *, once: bool = False) -> pytest.Function:
    """Turn a pytest item that another plugin runs into a simulated item, in place, by making its class a subclass of
    its own class and `ForeignItem`. Returns the item. `once` is True if one run is enough."""
    function.__class__ = _class_for(type(function))
    function.once = once  # type: ignore[attr-defined]
    return function
