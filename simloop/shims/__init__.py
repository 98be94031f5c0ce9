"""Shims: replacements of functions of the standard library, which turn calls of unmodified Python into calls of the
kernel.

Each shim is named after the module that it mirrors, keeps that module's behaviour to the letter, and calls the real
function outside of a world. What the simulation does not cover escapes with an error. Shims and the loop do not import
each other.

A shim is a module with `REPLACEMENTS`: entries of the owner of an attribute, its name, and the replacement that stands
there while shims are installed. If that is not enough, it also has a function ``install``. A new shim is added to
`simloop.shims.late.LATE`, or to `SHIMS` if every run calls it or more than a function is replaced.
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
