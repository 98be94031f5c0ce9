"""Coroutines that were suspended when their process was killed or lost power.

When the last reference to a suspended coroutine is dropped, it is closed, which runs its ``finally`` blocks; a power
failure does not. So coroutines are kept here. Once they are many, those of earlier worlds are closed, in a world in
which every call fails, so that their ``finally`` blocks have no effect.
"""

from __future__ import annotations

import atexit
import sys
import warnings
from collections import deque
from collections.abc import Collection
from typing import Any

from simloop.choices.choices import Choices
from simloop.loop.tasks import close_coroutine
from simloop.world import active
from simloop.world.world import World

# Each keeps objects of its world alive, so that every garbage collection takes longer.
KEPT_MAX = 100

_kept: deque[Any] = deque()


def keep(coroutines: Collection[Any]) -> None:
    """Keep references to coroutines that will never be resumed, so that they are not closed now. To be called at the
    end of the world that they belong to."""
    if not _kept:
        atexit.register(close, 0)
    _kept.extend(coroutines)
    if len(_kept) > KEPT_MAX:
        close(len(coroutines))


def close(left: int) -> None:
    """Close the oldest of the kept coroutines until only `left` remain."""
    if len(_kept) <= left:
        return
    nowhere = World(Choices())
    nowhere.root.lose_power()
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        # What was left open is no news.
        with active.world_entered(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            while len(_kept) > left:
                close_coroutine(_kept.popleft())
    finally:
        sys.unraisablehook = hook
        nowhere.close()
    if not left:
        atexit.unregister(close)
