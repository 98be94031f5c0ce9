"""Shim of `gc.collect`: in a run it finds only the garbage of that run, not that of earlier ones."""

from __future__ import annotations

import gc

from simloop.world import active

_real_collect = gc.collect

#: True once a run has called `collect`; False again when the next run begins.
asked = False


def collect(generation: int = 2) -> int:
    global asked
    if active.is_inside():
        asked = True
    return _real_collect(generation)


def collect_leftovers() -> None:
    """Collect the garbage of earlier runs, if the last one called `gc.collect`: otherwise finalizers of that garbage
    would run in the next run."""
    global asked
    asked = False
    _real_collect()


REPLACEMENTS: list[tuple[object, str, object]] = [(gc, "collect", collect)]
