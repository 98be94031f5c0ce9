"""Watchdog: ends a run that makes no progress in real time, because a callback does not return or waits outside of the
simulation.

One thread for the whole process checks the entered world at intervals. It has no influence on a run that makes
progress.
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

#: Default of `max_hang`: real seconds for which a run may make no progress.
DEFAULT_MAX_HANG = 30.0
# Real seconds between two looks.
_INTERVAL = 0.5
# It interrupts calls in C, too. Programs seldom want one of these for themselves, and valgrind has the last one.
_SIGNAL = signal.SIGRTMAX - 1

# A test may replace these meanwhile, by a mock that counts its calls.
_monotonic = time.monotonic
_process_time = time.process_time
_signal = signal.signal
_pthread_kill = signal.pthread_kill


#: The watched world, the thread that has entered it, its limit in real seconds, and a number of its own.
_watched: tuple[World, int, float, int] | None = None
_numbers = itertools.count()
#: True if the watchdog's thread was started in this process, or must not be. A fork begins without it.
_started = False
_pending: tuple[World, tuple[int, ...], HangError] | None = None


def watch(world: World, max_hang: float) -> None:
    """Begin to watch a world, in place of the previous one. `max_hang` is in real seconds."""
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
    """Disable the watchdog in this process, because its thread allocates memory at times that no seed determines."""
    global _started
    _started = True


def _forked() -> None:
    global _started
    _started = False


os.register_at_fork(after_in_child=_forked)


def rest() -> None:
    """Stop watching, as the world has been left."""
    global _watched, _pending
    _watched = _pending = None


def _main_thread() -> int:
    import threading

    return threading.main_thread().ident or 0


def _progress(world: World) -> tuple[int, ...]:
    return world.steps, world.scheduler.turn, world.scheduler.clock.now


def _main() -> None:
    """Main function of the watchdog's thread: check the watched world at intervals, as long as the process lives."""
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
            seen, since, cpu_since = now, _monotonic(), _process_time()
            continue
        _end_if_due(now, _monotonic() - since, _process_time() - cpu_since)


def _look() -> tuple[int, ...] | None:
    """Return a snapshot of the watched world's progress, to be compared with later ones: it changes while the run makes
    progress. None if no world is watched."""
    watched = _watched  # once: the main thread may end the world meanwhile
    if watched is None:
        return None
    world, _, _, number = watched
    return number, *_progress(world)


def _end_if_due(seen: tuple[int, ...], elapsed: float, cpu: float) -> None:
    """End the run if it has made no progress for too long: `elapsed` real seconds, and `cpu` seconds of processor time.
    `seen` is the last snapshot of its progress."""
    watched = _watched
    if watched is None or watched[3] != seen[0]:
        return
    world, entered_by, max_hang, _ = watched
    # On a busy machine a step takes long that computes little. One that waits computes nothing.
    waits = cpu <= elapsed / 10
    if elapsed >= max_hang and (waits or cpu >= max_hang):
        _end(world, entered_by, max_hang, seen[1:], waits=waits)


def _end(world: World, entered_by: int, max_hang: float, progress: tuple[int, ...], *, waits: bool) -> None:
    """End the run with `HangError`, unless it is in a debugger. `waits` is True if it uses no processor time."""
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
    """Handle the signal that the watchdog sends to the main thread: raise the error, unless the run has made progress
    meanwhile."""
    pending = _pending
    if pending is not None:
        world, progress, error = pending
        if active.entered is world and _progress(world) == progress:
            raise world.escaped(error)
