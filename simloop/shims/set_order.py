"""Deterministic hashes for objects that would hash by address, so that sets of them have the same order in each run.

Tasks and futures hash by number (see `simloop.loop.loop`). Here the same is done for the few classes of libraries whose
instances are known to be in sets whose order matters; and, while `number_objects` is on, for all classes whose
instances hash by address (`simloop.shims.numbered`).
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from importlib import import_module
from typing import Any

from simloop.shims import late
from simloop.world import active

# anyio tells the scopes within a cancelled one in the order of a set (CancelScope._deliver_cancellation).
_KNOWN = (("anyio._backends._asyncio", "CancelScope"),)
_seen: set[str] = set()
_world: object = None
_count = 0


def next_number() -> int:
    """Return the next hash of the current world, for an object that is hashed for the first time."""
    global _world, _count
    if active.entered is not _world:
        _world, _count = active.entered, 0
    _count += 1
    return _count


def number_hashes(cls: type) -> None:
    """Make the hash of each instance of `cls` a serial number, given when it is first hashed in a world, in place of
    its address. The class must compare by identity."""
    # Beside the objects, whose slots may leave no room for it; by id, until the object dies and its id is free.
    numbers: dict[int, tuple[weakref.ref[Any], int]] = {}

    def __hash__(self: Any) -> int:
        key = id(self)
        found = numbers.get(key)
        if found is None:
            found = numbers[key] = (weakref.ref(self, lambda _: numbers.pop(key, None)), next_number())
        return found[1]

    cls.__hash__ = __hash__  # type: ignore[method-assign, assignment]


def refresh() -> None:
    """Call `number_hashes` for the known classes that were imported since the last call. To be called outside of a
    world."""
    for name, cls in _KNOWN:
        if name not in _seen and name.partition(".")[0] in sys.modules:
            _seen.add(name)
            # Imported here if need be: else the first run would import it, and take another way than the rest.
            with contextlib.suppress(ImportError, AttributeError):
                number_hashes(getattr(import_module(name), cls))


#: The module `simloop.shims.numbered`; None in most sessions, which have no test that needs it.
_numbered: Any = None


def number_objects(on: bool) -> None:
    """Make all objects that would hash by address hash by number (`on`), or by address again. To be called outside of a
    world."""
    global _numbered
    if on and _numbered is None:
        _numbered = late.load("simloop.shims.numbered")
    if _numbered is not None:
        _numbered.number_objects(on)
