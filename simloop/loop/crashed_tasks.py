"""Coroutines that were suspended when their process was killed or lost power.

When the last reference to a suspended coroutine is dropped, it is closed, which runs its ``finally`` blocks; a power
failure does not. So a limited number of coroutines is kept here. The oldest ones beyond it are closed in a world in
which every call fails, so that their ``finally`` blocks have no effect.
"""

from __future__ import annotations

import atexit
import sys
import warnings
from collections import deque
from collections.abc import Iterable
from typing import Any

from simloop.choices.choices import Choices
from simloop.loop.tasks import close_coroutine
from simloop.world import active
from simloop.world.world import World

KEPT_MAX = 1000

_kept: deque[Any] = deque()


def keep(coroutines: Iterable[Any]) -> None:
    """Keep references to coroutines that will never be resumed, so that they are not closed now. To be called in or
    after the run that they belong to."""
    if not _kept:
        atexit.register(close, 0)
    _kept.extend(coroutines)
    close(KEPT_MAX)


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
