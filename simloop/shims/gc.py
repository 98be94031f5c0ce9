"""Shim of `gc`: a run may collect, and finds what it has left behind itself; not what earlier runs have."""

from __future__ import annotations

import gc

from simloop.world import active

_real_collect = gc.collect

#: True once a run has called `collect`, until the next one begins.
asked = False


def collect(generation: int = 2) -> int:
    global asked
    if active.world() is not None:
        asked = True
    return _real_collect(generation)


def collect_leftovers() -> None:
    """Collect what the last run, which did so itself, has left: its finalisers are not to run in the next one, where
    they would be the second run's only."""
    global asked
    asked = False
    _real_collect()


REPLACEMENTS: list[tuple[object, str, object]] = [(gc, "collect", collect)]
