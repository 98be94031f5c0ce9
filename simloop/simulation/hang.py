"""Diagnosis of a run that makes no progress in real time: its error, and the thread to stop. Called by the watchdog's
thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from simloop.errors import HangError
from simloop.kernel.process.process import ProcessGone
from simloop.kernel.process.real_threads import raise_in
from simloop.sources import is_users

if TYPE_CHECKING:
    from types import FrameType

    from simloop.world.world import World

_DEBUGGERS = ("bdb", "pdb", "pydevd", "debugpy")


def stop(world: World, entered_by: int, max_hang: float, *, waits: bool) -> HangError | None:
    """Return the error for a run that makes no progress; None if it is in a debugger. If a thread of the program is to
    blame, that one is stopped or given up first. `entered_by` is the thread that entered the world, `max_hang` the
    limit in real seconds, and `waits` True for a run that uses no processor time."""
    frames = sys._current_frames()
    running = {ident: frames[ident] for ident in world.threads if ident in frames and not _is_parked(frames[ident])}
    ident, frame = next(iter(running.items()), (entered_by, frames.get(entered_by)))
    if _is_debugged(frame):
        return None
    thread = world.threads.get(ident)
    who = "the program" if thread is None else f"thread {thread.name!r}"
    does = "waits there for something outside of the simulation" if waits else "is in one step that does not yield"
    error = HangError(
        f"{_place(frame)}: {who} {does}, and nothing has gone on for {max_hang:g} real seconds (max_hang)"
    )
    if thread is not None:
        thread.lost = True
    elif ident != entered_by:
        raise_in(ident, ProcessGone)  # the stack of a process that is a thread
    return error


def _is_parked(frame: FrameType) -> bool:
    # Not imported here: the main thread may have stopped in an import.
    threads, stacks = map(sys.modules.get, ("simloop.kernel.process.threads", "simloop.kernel.stacks"))
    parked = threads is not None and threads.is_parked(frame)
    return bool(parked or (stacks is not None and stacks.is_suspended(frame)))


def _is_debugged(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False


def _place(frame: FrameType | None) -> str:
    """Return the innermost line of the user's code among a frame and its callers, as ``file:line``; if there is none,
    the frame's own line."""
    innermost = frame
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    frame = frame or innermost
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
