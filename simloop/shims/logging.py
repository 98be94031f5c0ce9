"""Shim of logging to files: in a run, a handler that has a real file open writes to the file of the same name on the
simulated disk instead."""

from __future__ import annotations

import logging
import posix
import weakref
from typing import Any

from simloop.shims import opened
from simloop.shims.late import real
from simloop.shims.time import time
from simloop.world import active

_real_handle = real("simloop.shims.logging", logging.Handler)["handle"]


def handle(self: logging.Handler, record: logging.LogRecord) -> Any:
    if active.entered is None or not isinstance(self, logging.FileHandler):
        return _real_handle(self, record)
    world = active.here()
    if world is None or world.reaching_out:
        return _real_handle(self, record)
    if type(self).__module__.startswith("_pytest."):
        return _handled_by_pytest(self, record)
    files: Any = world.current.log_files
    if files is None:
        files = world.current.log_files = weakref.WeakKeyDictionary()
    # Most processes share the handlers, which modules have made, but none its files.
    own = files.get(self)
    if own is None:
        own = files[self] = _begun(self)
    self.acquire()
    kept = {name: vars(self).get(name) for name in own}
    vars(self).update(own)
    try:
        return _real_handle(self, record)
    finally:
        files[self] = {name: vars(self).get(name) for name in own}
        vars(self).update(kept)
        self.release()


def _begun(handler: Any) -> dict[str, Any]:
    """Return the attributes of a handler that concern its file, as they are before the file is opened in the current
    process. For a file that was opened in the run they stay as they are."""
    stream = handler.stream
    if stream is not None and _is_simulated(stream):
        return {}
    own: dict[str, Any] = {"stream": None}
    # Of logging.handlers.
    if hasattr(handler, "rolloverAt"):
        own["rolloverAt"] = handler.computeRollover(int(time()))
    if hasattr(handler, "ino"):
        own |= {"dev": -1, "ino": -1}
    return own


def _is_simulated(stream: Any) -> bool:
    from simloop.kernel.descriptors import FIRST_FD

    try:
        return stream.fileno() >= FIRST_FD  # type: ignore[no-any-return]
    except (AttributeError, OSError, ValueError):
        return False


def _handled_by_pytest(handler: Any, record: logging.LogRecord) -> Any:
    """Make pytest's own log handler write to its real file, such as that of `--log-file`."""
    if handler.stream is not None:
        found = posix.fstat(handler.stream.fileno())
        opened.exempt.add((found.st_dev, found.st_ino))
    return _real_handle(handler, record)


REPLACEMENTS: list[tuple[object, str, object]] = [(logging.Handler, "handle", handle)]
