"""Shim of `asyncio.get_child_watcher` for Python 3.11: inside a world it returns stock asyncio's `PidfdChildWatcher`.

Python 3.12 uses that watcher itself wherever pidfds work; up to 3.11 the default starts a thread for each child
process. A watcher that the program has set by `set_child_watcher` stays (Lib/asyncio/unix_events.py). From 3.12 on this
module is not used.
"""

from __future__ import annotations

from asyncio import events, unix_events
from typing import Any

from simloop.world import active

# Python 3.14 has neither policies of its own nor watchers.
_Policy: Any = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
_real_get = getattr(_Policy, "get_child_watcher", None)
_real_set = getattr(_Policy, "set_child_watcher", None)
# The attributes under which a policy keeps that its watcher was chosen, and a loop its own watcher.
_CHOSEN = "_simloop_watcher_chosen"
_OF_LOOP = "_simloop_child_watcher"


def get_child_watcher(self: Any) -> Any:
    assert _real_get is not None
    loop = events._get_running_loop()
    if not active.is_inside() or loop is None or getattr(self, _CHOSEN, False):
        return _real_get(self)
    watcher = loop.__dict__.get(_OF_LOOP)
    if watcher is None:
        watcher = loop.__dict__[_OF_LOOP] = unix_events.PidfdChildWatcher()
        watcher.attach_loop(loop)
    return watcher


def set_child_watcher(self: Any, watcher: Any) -> None:
    assert _real_set is not None
    _real_set(self, watcher)
    setattr(self, _CHOSEN, watcher is not None)


REPLACEMENTS: list[tuple[object, str, object]] = [
    (_Policy, "get_child_watcher", get_child_watcher),
    (_Policy, "set_child_watcher", set_child_watcher),
]
