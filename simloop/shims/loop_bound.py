"""Shim of asyncio's locks, queues and events that outlive a run, such as those in module globals: each run finds them
not bound to any loop.

They are bound to the loop in which they are first waited for (Lib/asyncio/mixins.py). On stock asyncio a test runs in
one loop, and must not notice that a campaign runs it in many.
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
