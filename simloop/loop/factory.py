"""Replacements for asyncio's functions and classes that create event loops. Inside a world they create loops of that
world."""

from __future__ import annotations

import asyncio
import functools
from asyncio import events, unix_events
from typing import TYPE_CHECKING, Any

from simloop.world import active

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.loop.loop import SimLoop
    from simloop.world.world import World

_real_new_event_loop = events.new_event_loop
_RealLoop = asyncio.SelectorEventLoop
_real_run_forever = asyncio.BaseEventLoop.run_forever
#: Number of real loops created while shims were installed, but outside of a world.
made_outside = 0


def make_loop(world: World, process: Process) -> SimLoop:
    """Return a new event loop for a simulated process."""
    return _loop_class(world.choices.stock is not None)(world, process)


@functools.cache
def _loop_class(is_stock: bool) -> type[SimLoop]:
    """Return the class of new loops. It is imported late, since a test session may have no run."""
    if is_stock:
        from simloop.loop.stock_loop import StockLoop

        return StockLoop
    from simloop.loop.loop import SimLoop

    return SimLoop


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop: inside a world one of that world, unless the program has set its own event loop
    policy."""
    world = active.world()
    return _real_new_event_loop() if world is None or _has_own_policy() else make_loop(world, world.current)


def _has_own_policy() -> bool:
    # Policies go away with Python 3.16: nothing here needs them. uvloop's would reach for the real world.
    policy = getattr(events, "_event_loop_policy", None)
    return policy is not None and type(policy).__module__.partition(".")[0] not in ("asyncio", "uvloop")


class _Chooses(type):
    """Metaclass by which calling ``asyncio.SelectorEventLoop()`` creates a simulated loop inside a world, and a real
    one outside."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        world = active.world()
        if cls is not SelectorEventLoop:
            return super().__call__(*args, **kwargs)
        if world is not None:
            return make_loop(world, world.current)
        global made_outside
        made_outside += 1
        return _RealLoop(*args, **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _RealLoop)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _RealLoop)


class SelectorEventLoop(_RealLoop, metaclass=_Chooses):
    """Replacement for `asyncio.SelectorEventLoop` while shims are installed: a call returns a simulated loop inside a
    world, and a real one elsewhere."""


def run_forever(self: asyncio.BaseEventLoop) -> None:
    """Run a loop, as `asyncio.BaseEventLoop.run_forever` does. Inside a world, raise `EscapedSimulationError` for a
    real loop."""
    if isinstance(self, _RealLoop) and type(self).__module__.partition(".")[0] == "asyncio" and active.world():
        raise active.escape(
            "an event loop that was made outside of this run",
            "make it in the run: by asyncio.run, in a fixture of function scope, or in an async one of any scope",
        )
    _real_run_forever(self)


def _replacements() -> list[tuple[object, str, object]]:
    found: list[tuple[object, str, object]] = [
        (asyncio, "new_event_loop", new_event_loop),
        (events, "new_event_loop", new_event_loop),
        (asyncio, "SelectorEventLoop", SelectorEventLoop),
        (unix_events, "SelectorEventLoop", SelectorEventLoop),
        (asyncio.BaseEventLoop, "run_forever", run_forever),
    ]
    if hasattr(asyncio, "EventLoop"):  # 3.13
        found += [(asyncio, "EventLoop", SelectorEventLoop), (unix_events, "EventLoop", SelectorEventLoop)]
    policy = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)  # gone in 3.16, deprecated in 3.14
    if policy is not None:
        found.append((policy, "_loop_factory", SelectorEventLoop))
    return found


#: Replacements for functions and classes of asyncio, as (owner, name, replacement) like those of `simloop.shims`.
REPLACEMENTS = _replacements()
