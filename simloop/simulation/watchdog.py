"""Watchdog: ends a run that makes no progress in real time, because a step never yields, or waits outside of the world.

One thread for the whole process looks at the entered world now and then. It decides nothing while a run proceeds: what
it raises ends the run.
"""

from __future__ import annotations

import _thread
import itertools
import os
import signal
import sys
import time
from _thread import get_ident
from types import FrameType
from typing import TYPE_CHECKING

from simloop.errors import HangError
from simloop.kernel.process.process import ProcessGone
from simloop.kernel.process.real_threads import outsiders, raise_in, real_acquire, real_start
from simloop.sources import is_users
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

#: Real seconds for which a run may stand still.
DEFAULT_MAX_HANG = 30.0
# Real seconds between two looks.
_INTERVAL = 0.5
# It interrupts calls in C, too. Programs seldom want one of these for themselves, and valgrind has the last one.
_SIGNAL = signal.SIGRTMAX - 1
_DEBUGGERS = ("bdb", "pdb", "pydevd", "debugpy")

_signal = signal.signal
_pthread_kill = signal.pthread_kill


#: World that is watched, the thread that has entered it, its limit, and the number of worlds by then.
_watched: tuple[World, int, float, int] | None = None
_numbers = itertools.count()
#: True in a process in which the watchdog runs, or is to be left out: a fork has none.
_started = False
_pending: tuple[World, tuple[int, ...], HangError] | None = None


def watch(world: World, max_hang: float) -> None:
    """Begin to watch a world, in place of the one before."""
    global _watched
    _watched = world, get_ident(), max_hang, next(_numbers)
    if not _started:
        _start()


def _start() -> None:
    global _started
    _started = True
    real_start(_main, ())
    if get_ident() == _main_thread():
        _signal(_SIGNAL, _raise)


def leave_out() -> None:
    """Disable the watchdog in this process: its thread allocates memory at times that no seed covers."""
    global _started
    _started = True


def _forked() -> None:
    global _started
    _started = False


os.register_at_fork(after_in_child=_forked)


def rest() -> None:
    """Stop watching: no world is entered."""
    global _watched, _pending
    _watched = _pending = None


def _main_thread() -> int:
    import threading

    return threading.main_thread().ident or 0


def _progress(world: World) -> tuple[int, ...]:
    return world.steps, world.scheduler.turn, world.scheduler.clock.now


def _main() -> None:
    """Check the watched world at intervals, for as long as the process lives: the function of the watchdog's thread."""
    outsiders.add(get_ident())
    never = _thread.allocate_lock()
    real_acquire(never)
    # No world is kept from one look to the next.
    seen: tuple[int, ...] | None = None
    since = cpu_since = 0.0
    while True:
        real_acquire(never, True, _INTERVAL)
        now = _look()
        if now is None or now != seen:
            seen, since, cpu_since = now, time.monotonic(), time.process_time()
            continue
        _end_if_due(now, time.monotonic() - since, time.process_time() - cpu_since)


def _look() -> tuple[int, ...] | None:
    """Return a snapshot of the watched world's progress, which changes while the world runs; None if none is
    watched."""
    watched = _watched  # once: the main thread may end the world meanwhile
    if watched is None:
        return None
    world, _, _, number = watched
    return number, *_progress(world)


def _end_if_due(seen: tuple[int, ...], elapsed: float, cpu: float) -> None:
    """End the run if it has made no progress for too long, in real seconds and seconds of processor time."""
    watched = _watched
    if watched is None or watched[3] != seen[0]:
        return
    world, entered_by, max_hang, _ = watched
    # On a busy machine a step takes long that computes little. One that waits computes nothing.
    waits = cpu <= elapsed / 10
    if elapsed >= max_hang and (waits or cpu >= max_hang):
        _end(world, entered_by, max_hang, seen[1:], waits=waits)


def _end(world: World, entered_by: int, max_hang: float, progress: tuple[int, ...], *, waits: bool) -> None:
    """End the run with `HangError`, unless it is in a debugger."""
    global _pending
    frames = sys._current_frames()
    running = {ident: frames[ident] for ident in world.threads if ident in frames and not _is_parked(frames[ident])}
    ident, frame = next(iter(running.items()), (entered_by, frames.get(entered_by)))
    if _is_debugged(frame):
        return
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
    _pending = world, progress, error
    if entered_by == _main_thread():
        _pthread_kill(entered_by, _SIGNAL)
    else:
        world.escaped(error)
        raise_in(entered_by, HangError)


def _is_parked(frame: FrameType) -> bool:
    # Not imported here: the main thread may have stopped in an import.
    threads, stacks = map(sys.modules.get, ("simloop.kernel.process.threads", "simloop.kernel.stacks"))
    parked = threads is not None and threads.is_parked(frame)
    return bool(parked or (stacks is not None and stacks.is_suspended(frame)))


def _raise(number: int, frame: FrameType | None) -> None:
    """Handle the watchdog's signal in the main thread: raise the error, unless the run has made progress meanwhile."""
    pending = _pending
    if pending is not None:
        world, progress, error = pending
        if active.entered is world and _progress(world) == progress:
            raise world.escaped(error)


def _is_debugged(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False


def _place(frame: FrameType | None) -> str:
    """Return the innermost line of the user's code on a stack, or else of any, for the error."""
    innermost = frame
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    frame = frame or innermost
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
