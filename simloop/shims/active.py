"""Which world is active, and for whom."""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from types import FrameType
from typing import TYPE_CHECKING, Any

from simloop.errors import EscapedSimulationError

if TYPE_CHECKING:
    from simloop.network.world import World

#: The world that is entered, if any. Entering a run is one assignment to this.
entered: World | None = None

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STDLIB = os.path.dirname(os.__file__) + os.sep
_SITE = os.path.join(_STDLIB, "site-packages") + os.sep


def world() -> World | None:
    """The world that the calling thread is inside of."""
    if entered is not None and get_ident() in entered.threads:
        return entered
    return None


def calling_frame() -> FrameType | None:
    """The innermost frame that is not ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    return frame


def call_site(above: FrameType | None = None) -> str:
    """The innermost line that is neither ours nor the standard library's, as ``file:line``, of all calls or of that one
    and those above it."""
    frame: FrameType | None = above or sys._getframe(1)
    # Every process that is started asks for its line. The code of a frame would tell its file, too, but to look at it
    # is announced to audit hooks, each time.
    while frame is not None:
        skipped = _skipped.get(frame.f_globals.get("__file__"))
        if not (_is_skipped(frame) if skipped is None else skipped):
            break
        frame = frame.f_back
    if frame is None:
        frame = calling_frame()  # of the standard library
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"


#: Whether a file is ours, or of the standard library.
_skipped: dict[Any, bool] = {}


def _is_skipped(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    skipped = name.startswith((_OURS, "<frozen")) or (name.startswith(_STDLIB) and not name.startswith(_SITE))
    file = frame.f_globals.get("__file__")
    # Generated code has the globals of one file and the name of another, or of none: it says nothing of the file.
    if isinstance(file, str) and (skipped or name == file):
        _skipped[file] = skipped
    return skipped


def escape(what: str, remedy: str) -> EscapedSimulationError:
    """The error for code that reaches for the real world. The run is marked, whoever swallows it."""
    error = EscapedSimulationError(f"{call_site()}: {what} is outside of the simulation: {remedy}")
    if entered is not None:
        entered.escaped(error)
    return error
