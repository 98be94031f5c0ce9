"""Event loop factories: what makes every new loop inside a world a loop of that world."""

from __future__ import annotations

import asyncio
from asyncio import events, unix_events
from typing import Any

from simloop.loop.loop import SimLoop
from simloop.world import active

_real_new_event_loop = events.new_event_loop
_RealLoop = asyncio.SelectorEventLoop


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Every new loop inside a world is a loop of that world, unless the program's own policy makes another."""
    world = active.world()
    return _real_new_event_loop() if world is None or _has_own_policy() else SimLoop(world, world.current)


def _has_own_policy() -> bool:
    # Policies go away with Python 3.16: nothing here needs them. uvloop's would reach for the real world.
    policy = getattr(events, "_event_loop_policy", None)
    return policy is not None and type(policy).__module__.partition(".")[0] not in ("asyncio", "uvloop")


class _Chooses(type):
    """Makes ``asyncio.SelectorEventLoop()`` a loop of the world that is entered."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        world = active.world()
        if cls is not SelectorEventLoop:
            return super().__call__(*args, **kwargs)
        return _RealLoop(*args, **kwargs) if world is None else SimLoop(world, world.current)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _RealLoop)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _RealLoop)


class SelectorEventLoop(_RealLoop, metaclass=_Chooses):
    """What `asyncio.SelectorEventLoop` is while a world is entered."""


def _replacements() -> list[tuple[object, str, object]]:
    found: list[tuple[object, str, object]] = [
        (asyncio, "new_event_loop", new_event_loop),
        (events, "new_event_loop", new_event_loop),
        (asyncio, "SelectorEventLoop", SelectorEventLoop),
        (unix_events, "SelectorEventLoop", SelectorEventLoop),
    ]
    if hasattr(asyncio, "EventLoop"):  # 3.13
        found += [(asyncio, "EventLoop", SelectorEventLoop), (unix_events, "EventLoop", SelectorEventLoop)]
    policy = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)  # gone in 3.16, deprecated in 3.14
    if policy is not None:
        found.append((policy, "_loop_factory", SelectorEventLoop))
    return found


#: As those of a shim (`simloop.shims`).
REPLACEMENTS = _replacements()
