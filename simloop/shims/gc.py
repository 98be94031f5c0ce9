"""Shim of `gc`: a run that calls `gc.collect` finds its own garbage only, not that of earlier runs."""

from __future__ import annotations

import gc

from simloop.world import active

_real_collect = gc.collect

#: True once a run has called `collect`, until the next one begins.
asked = False


def collect(generation: int = 2) -> int:
    global asked
    if active.is_inside():
        asked = True
    return _real_collect(generation)


def collect_leftovers() -> None:
    """Collect the garbage of earlier runs, if the last one called `gc.collect`: else its finalisers would run in the
    next run, and only there."""
    global asked
    asked = False
    _real_collect()


REPLACEMENTS: list[tuple[object, str, object]] = [(gc, "collect", collect)]
