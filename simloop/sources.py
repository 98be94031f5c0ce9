"""Classification of source files: the user's own, an installed library's, the standard library's, or simloop's.

Used wherever a line of code is named to the user (in warnings, errors, reports and names of choice points), and to skip
stack frames that mean nothing to the user. The module imports nothing of the project.
"""

from __future__ import annotations

import functools
import linecache
import os
import posix
import sys
from types import FrameType
from typing import Any, NamedTuple

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
PLUGIN = os.path.join(os.path.dirname(PACKAGE.rstrip(os.sep)), "pytest_simloop") + os.sep
STDLIB = os.path.dirname(os.__file__) + os.sep
_SITE_PACKAGES = f"{os.sep}site-packages{os.sep}"
# The real one, which no shim replaces.
_getcwd = posix.getcwd


class Place(NamedTuple):
    """Position in source code: file, line and function."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{shown_path(self.file)}:{self.line}"


def source_of(place: Place) -> str:
    """Return the text of the source line at a place; empty if the source is not available."""
    return linecache.getline(place.file, place.line).strip()


def shown_path(file: str) -> str:
    """Return the path of a source file as reports show it: relative to ``site-packages``, the standard library or the
    current directory."""
    if is_library(file):
        return file.rpartition(_SITE_PACKAGES)[2]
    if file.startswith(STDLIB):
        return file[len(STDLIB) :]
    try:
        return file.removeprefix(_getcwd() + os.sep)
    except FileNotFoundError:  # the directory was removed meanwhile
        return file


def is_ours(file: str) -> bool:
    """Return True for files of simloop and of its plugin."""
    return file.startswith((PACKAGE, PLUGIN))


def is_stdlib(file: str) -> bool:
    """Return True for files of Python's standard library."""
    return file.startswith(STDLIB) and _SITE_PACKAGES not in file


def is_library(file: str) -> bool:
    """Return True for files of an installed package."""
    return _SITE_PACKAGES in file and not is_ours(file)


def is_users(file: str) -> bool:
    """Return True for the user's own files: not simloop's, nor the standard library's, nor an installed package's."""
    return not file.startswith((STDLIB, PACKAGE, PLUGIN, "<")) and _SITE_PACKAGES not in file


def is_inner(place: Place) -> bool:
    """Return True if a task that begins at this place is an internal one, which simloop or asyncio runs for its own
    purposes."""
    private = place.function.rpartition(".")[2].startswith("_")
    return is_ours(place.file) or (private and is_stdlib(place.file))


# The method of a watched loop that runs a batch (`SimLoop`): frames outside of it belong to whoever runs the loop.
_BATCH = "_run_batch_watched"


def users_caller() -> Place | None:
    """Return the innermost line of the user's code in the callback that the event loop is running now; None if there is
    none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != _BATCH:
        if is_users(frame.f_code.co_filename):
            return Place(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_qualname)
        frame = frame.f_back
    return None


def calling_frame() -> FrameType | None:
    """Return the innermost stack frame that is not of simloop's code, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame


def level_of_caller() -> int:
    """Return the `stacklevel` for a `warnings.warn` in the calling function that makes the warning name the innermost
    line outside of simloop."""
    level, frame = 1, sys._getframe(1).f_back
    while frame is not None:
        level += 1
        if not frame.f_code.co_filename.startswith(PACKAGE):
            break
        frame = frame.f_back
    return level


def wrapped_by(function: Any) -> Any:
    """Return the innermost function of nested `functools.partial` objects, such as the one that a program has submitted
    to an executor."""
    while isinstance(function, functools.partial):
        # asyncio.to_thread() runs it in a copy of its context.
        into_context = getattr(function.func, "__name__", "") == "run" and function.args
        function = function.args[0] if into_context else function.func
    return function


def call_site(above: FrameType | None = None) -> str:
    """Return the innermost line on the stack that is neither in simloop nor in the standard library, as ``file:line``.
    With `above`, the search starts at that frame; else at the caller's."""
    frame: FrameType | None = above or sys._getframe(1)
    known = _skipped.get
    # Every process that is started asks for its line. The code of a frame would tell its file, too, but to look at it
    # is announced to audit hooks, each time.
    while frame is not None:
        skipped = known(frame.f_globals.get("__file__"))
        if skipped is None:
            skipped = _is_skipped(frame)
        if not skipped:
            break
        frame = frame.f_back
    if frame is None:
        frame = calling_frame()  # of the standard library
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"


#: For each source file: True if `call_site` skips its frames.
_skipped: dict[Any, bool] = {}


def _is_skipped(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    skipped = name.startswith((PACKAGE, "<frozen")) or is_stdlib(name)
    file = frame.f_globals.get("__file__")
    # Generated code has the globals of one file and the name of another, or of none: it says nothing of the file.
    if isinstance(file, str) and (skipped or name == file):
        _skipped[file] = skipped
    return skipped
