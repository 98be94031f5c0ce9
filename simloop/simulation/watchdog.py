"""Watchdog: ends a run that makes no progress in real time, because a step never yields, or waits outside of the world.

One thread for the whole process looks at the entered world now and then. It decides nothing while a run proceeds: what
it raises ends the run.
"""

from __future__ import annotations

import _thread
import itertools
import os
import signal
import time
from _thread import get_ident
from typing import TYPE_CHECKING

from simloop.kernel.process.real_threads import outsiders, raise_in, real_acquire, real_start
from simloop.world import active

if TYPE_CHECKING:
    from types import FrameType

    from simloop.errors import HangError
    from simloop.world.world import World

#: Real seconds for which a run may stand still.
DEFAULT_MAX_HANG = 30.0
# Real seconds between two looks.
_INTERVAL = 0.5
# It interrupts calls in C, too. Programs seldom want one of these for themselves, and valgrind has the last one.
_SIGNAL = signal.SIGRTMAX - 1

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
    # By this thread, for which imports are as outside of a world.
    from simloop.simulation.hang import stop

    error = stop(world, entered_by, max_hang, waits=waits)
    if error is None:
        return
    _pending = world, progress, error
    if entered_by == _main_thread():
        _pthread_kill(entered_by, _SIGNAL)
    else:
        world.escaped(error)
        raise_in(entered_by, type(error))


def _raise(number: int, frame: FrameType | None) -> None:
    """Handle the watchdog's signal in the main thread: raise the error, unless the run has made progress meanwhile."""
    pending = _pending
    if pending is not None:
        world, progress, error = pending
        if active.entered is world and _progress(world) == progress:
            raise world.escaped(error)
