"""Shim of asyncio's locks, queues and events that a module holds: each run finds them bound to no loop, as a test does
that is the first to use them.

They bind themselves to the loop in which somebody first waits for them (Lib/asyncio/mixins.py). On stock asyncio a test
runs in one loop; that a campaign runs it in many must not be seen.
"""

from __future__ import annotations

from asyncio import mixins
from typing import Any

from simloop.shims.late import real
from simloop.world import active

_real_get_loop = real(__name__, mixins._LoopBoundMixin)["_get_loop"]


def _get_loop(self: Any) -> Any:
    if self._loop is not None:
        bound_to = getattr(self._loop, "world", None)
        if bound_to is not None and bound_to is not active.here():
            self._loop = None
    return _real_get_loop(self)


REPLACEMENTS: list[tuple[object, str, object]] = [(mixins._LoopBoundMixin, "_get_loop", _get_loop)]
