"""Shims: patches of the standard library by which unmodified Python calls the simulated kernel.

Each shim is named after the module that it patches, behaves exactly like that module, and calls the real function
outside of a world (a run's simulated machines). Functions that are not simulated raise `EscapedSimulationError`. Shims
and the loop do not import each other.

A shim is a module with `REPLACEMENTS`, a list of tuples: the owner of an attribute, its name, and the replacement that
it has while shims are installed. If that is not enough, it also has a function ``install``. A new shim is added to
`simloop.shims.late.LATE`, or to `SHIMS` if every run calls it or if it replaces more than functions.
"""

from __future__ import annotations

import sys
from types import ModuleType

from simloop.shims import (
    escapes,
    fileio,
    gc,
    importlib,
    linecache,
    locks,
    opened,
    time,
)

SHIMS: tuple[ModuleType, ...] = (
    time,
    fileio,
    locks,
    escapes,
    importlib,
    linecache,
    gc,
    opened,
)
if sys.version_info < (3, 12):
    from simloop.shims import child_watcher

    SHIMS += (child_watcher,)
