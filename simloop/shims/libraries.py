"""Patches of modules that few programs import: applied once each is imported, and never removed, since outside of a
world they call the real functions. Most of them are in `simloop.shims.changed_libraries`."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from simloop.shims import late
from simloop.world import active

#: Names of the modules that are patched when they are imported.
CHANGED = {
    "aiohttp.connector", "apsw", "duckdb", "grpc", "grpc.aio", "ifaddr", "lmdb", "netifaces", "platform", "psutil",
    "psycopg", "psycopg2", "pycares", "syslog", "uvloop", "zmq",
}  # fmt: skip


def _change_platform(module: Any) -> None:
    """Patch `platform`, which caches its first results for the whole process."""
    real_uname, real_platform = module.uname, module.platform

    def uname() -> Any:
        return module.uname_result(*os.uname()) if active.is_inside() else real_uname()

    def platform(aliased: bool = False, terse: bool = False) -> str:
        cache = module._platform_cache
        kept = dict(cache)
        if active.is_inside():
            cache.clear()
        try:
            found: str = real_platform(aliased, terse)
        finally:
            if active.is_inside():
                cache.clear()
                cache.update(kept)
        return found

    module.uname, module.platform = uname, platform


# Modules that are changed already, by name: one that is imported anew is another module.
_changed: dict[str, ModuleType] = {}


# How many modules there were at the last look.
_count = 0


def refresh(*, imported: bool = False) -> None:
    """Patch the modules that were imported since the last call. To save time, modules are searched only if their number
    has changed, or if `imported` says that an import has just ended."""
    global _count
    if len(sys.modules) == _count and not imported:
        return
    _count = len(sys.modules)
    for name in CHANGED & sys.modules.keys():
        module = sys.modules[name]
        # One whose import has not ended yet comes later.
        if _changed.get(name) is not module and not getattr(getattr(module, "__spec__", None), "_initializing", False):
            _changed[name] = module
            if name == "platform":  # pytest imports it, and few programs one of the others
                _change_platform(module)
            else:
                late.load("simloop.shims.changed_libraries").CHANGES[name](module)
    _seed_numpy()


_NUMPYS = "numpy.random.mtrand"
# What puts things back at the end of the run that goes on.
_endings: list[Callable[[], None]] = []
_numpy_seeded = False


def begin() -> None:
    """Seed the random generator behind the functions of `numpy.random` for the run that begins; if numpy is not
    imported yet, it is seeded once it is."""
    if _NUMPYS in sys.modules:
        _seed_numpy()


def at_end(put_back: Callable[[], None]) -> None:
    """Register a function that, at the end of the current run, restores state of a library that the run has changed."""
    _endings.append(put_back)


def end() -> None:
    """Restore the state that libraries had before the run, by the functions given to `at_end`."""
    global _numpy_seeded
    _numpy_seeded = False
    while _endings:
        _endings.pop()()


def _seed_numpy() -> None:
    global _numpy_seeded
    generator = getattr(sys.modules.get(_NUMPYS), "_rand", None)
    if generator is not None and not _numpy_seeded and active.entered is not None:
        _numpy_seeded = True
        at_end(functools.partial(generator.set_state, generator.get_state()))
        generator.seed(active.entered.choices.seed & 0xFFFF_FFFF)
