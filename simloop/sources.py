"""Ownership of source lines: the user's own, an installed library's, the standard library's, or simloop's.

Whoever has to name a line (warnings, escapes, reports, point ids) or to pass over frames that say nothing to the user
asks here. The module imports nothing of the project.
"""

from __future__ import annotations

import linecache
import os
import posix
import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
PLUGIN = os.path.join(os.path.dirname(PACKAGE.rstrip(os.sep)), "pytest_simloop") + os.sep
STDLIB = os.path.dirname(os.__file__) + os.sep
_SITE_PACKAGES = f"{os.sep}site-packages{os.sep}"
# The real one, which no shim replaces.
_getcwd = posix.getcwd


@dataclass(frozen=True)
class Place:
    """A line of source."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{shown_path(self.file)}:{self.line}"


def source_of(place: Place) -> str:
    """The text of the line; empty where the source is not to be had."""
    return linecache.getline(place.file, place.line).strip()


def shown_path(file: str) -> str:
    """A path for people: from ``site-packages``, the standard library or the working directory on."""
    if is_library(file):
        return file.rpartition(_SITE_PACKAGES)[2]
    if file.startswith(STDLIB):
        return file[len(STDLIB) :]
    try:
        return file.removeprefix(_getcwd() + os.sep)
    except FileNotFoundError:  # the directory was removed meanwhile
        return file


def is_ours(file: str) -> bool:
    """True for files of simloop and of its plugin."""
    return file.startswith((PACKAGE, PLUGIN))


def is_stdlib(file: str) -> bool:
    """True for files of Python itself."""
    return file.startswith(STDLIB) and _SITE_PACKAGES not in file


def is_library(file: str) -> bool:
    """True for files of an installed package."""
    return _SITE_PACKAGES in file and not is_ours(file)


def is_users(file: str) -> bool:
    """True for the user's own files: neither ours, nor the standard library's, nor an installed package's."""
    return not file.startswith((STDLIB, PACKAGE, PLUGIN, "<")) and _SITE_PACKAGES not in file


def is_inner(place: Place) -> bool:
    """True where a task begins that is simloop's own, or one that asyncio runs for itself."""
    private = place.function.rpartition(".")[2].startswith("_")
    return is_ours(place.file) or (private and is_stdlib(place.file))


# The method of a watched loop that runs a batch (`SimLoop`): frames outside of it belong to whoever runs the loop.
_BATCH = "_run_batch_watched"


def users_caller() -> Place | None:
    """The innermost line of the user's code in the callback that a watched loop is running, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != _BATCH:
        if is_users(frame.f_code.co_filename):
            return Place(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_qualname)
        frame = frame.f_back
    return None


def calling_frame() -> FrameType | None:
    """The innermost frame that is not ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame


def call_site(above: FrameType | None = None) -> str:
    """The innermost line that is neither ours nor the standard library's, as ``file:line``, among all calls or those
    from the frame `above` outwards."""
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


#: By file: True where `call_site` passes over its frames.
_skipped: dict[Any, bool] = {}


def _is_skipped(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    skipped = name.startswith((PACKAGE, "<frozen")) or is_stdlib(name)
    file = frame.f_globals.get("__file__")
    # Generated code has the globals of one file and the name of another, or of none: it says nothing of the file.
    if isinstance(file, str) and (skipped or name == file):
        _skipped[file] = skipped
    return skipped
