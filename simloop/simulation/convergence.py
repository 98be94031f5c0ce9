"""Implementation of `Sim.converges`: a condition must become true within some time after all faults have ended (like
the second phase of TigerBeetle's VOPR)."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from simloop.errors import ConfigurationError
from simloop.network import faults
from simloop.simulation.hosts import SimHost
from simloop.sources import call_site

if TYPE_CHECKING:
    from simloop.world.world import World

# How often the check is made within the time that there is.
_LOOKS = 100


async def converges(world: World, check: Callable[[], object], within: float) -> None:
    if isinstance(within, bool) or not isinstance(within, (int, float)) or not 0 < within < math.inf:
        raise ConfigurationError(f"{call_site()}: within must be a number of seconds above 0, not {within!r}")
    faults.heal(world.network.links())
    world.network.names.heal()
    for host in world.hosts.values():
        handle = SimHost(world, host)
        handle.resume()
        handle.restart()
        host.slowness = 1
    clock, last = world.scheduler.clock, ""
    end = clock.elapsed + within
    while True:
        try:
            found = check()
            if inspect.isawaitable(found):
                found = await found
        except Exception as error:
            found, last = False, f": {type(error).__name__}: {error}"
        else:
            last = ""
        if found:
            return
        if clock.elapsed >= end:
            name = getattr(check, "__qualname__", repr(check))
            raise AssertionError(f"{name}() did not come true within {within:g} virtual seconds without faults{last}")
        await asyncio.sleep(within / _LOOKS)
