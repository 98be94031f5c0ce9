"""Deterministic hashes for objects of libraries: sets of objects that hash by address iterate in an order that no seed
decides.

Tasks and futures have numbers as hashes (see `simloop.loop.loop`). Here the same is done for the few classes of
libraries whose instances are known to be in sets whose order matters in a run.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import weakref
from typing import Any

from simloop.world import active

# anyio tells the scopes within a cancelled one in the order of a set (CancelScope._deliver_cancellation).
_KNOWN = (("anyio._backends._asyncio", "CancelScope"),)
_seen: set[str] = set()
_world: object = None
_count = 0


def number_hashes(cls: type) -> None:
    """Make instances of `cls`, which compares by identity, hash by a number: in order of first use, per world."""
    # Beside the objects, whose slots may leave no room for it; by id, until the object dies and its id is free.
    numbers: dict[int, tuple[weakref.ref[Any], int]] = {}

    def __hash__(self: Any) -> int:
        global _world, _count
        key = id(self)
        found = numbers.get(key)
        if found is None:
            if active.entered is not _world:
                _world, _count = active.entered, 0
            _count += 1
            found = numbers[key] = (weakref.ref(self, lambda _: numbers.pop(key, None)), _count)
        return found[1]

    cls.__hash__ = __hash__  # type: ignore[method-assign, assignment]


def refresh() -> None:
    """Call `number_hashes` for the known classes that were imported since the last time. Call this outside of a
    world."""
    for name, cls in _KNOWN:
        if name not in _seen and name.partition(".")[0] in sys.modules:
            _seen.add(name)
            # Imported here if need be: else the first run would import it, and take another way than the rest.
            with contextlib.suppress(ImportError, AttributeError):
                number_hashes(getattr(importlib.import_module(name), cls))
