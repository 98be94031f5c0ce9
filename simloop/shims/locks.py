"""Shims of locks, simple queues and joins of threads: threads wait for them in virtual time.

These are methods of types written in C, and each acquisition of a lock calls one: there are no late shims for them.
Shims that only programs with threads need are in `simloop.shims.threading`.
"""

from __future__ import annotations

import _thread
import concurrent.futures.thread
import gc
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from simloop.errors import DeadlockError
from simloop.kernel.clock import SECOND
from simloop.kernel.process.real_threads import outsiders, real_acquire
from simloop.world import active

# Real seconds for which a thread of the real world may hold a lock before others of the world go on.
_GLANCE = 0.001
# And once nothing else can happen in the world.
_PATIENCE = 30.0

_get_ident = _thread.get_ident
_EXECUTORS = vars(concurrent.futures.thread)
_real_acquire_reentrant = _thread.RLock.acquire
_real_acquire_restore: Callable[..., None] = _thread.RLock._acquire_restore  # type: ignore[attr-defined]
_real_get = queue.SimpleQueue.get
_real_executor_number: Callable[[], int] = ThreadPoolExecutor._counter  # type: ignore[attr-defined]
_Handle: Any = getattr(_thread, "_ThreadHandle", None)  # 3.13
_real_join_handle: Any = getattr(_Handle, "join", None)


def acquire(self: Any, blocking: bool = True, timeout: float = -1) -> bool:
    """Acquire a lock, waiting in virtual time while another thread holds it."""
    _may_switch()
    return _acquire(real_acquire, self, blocking, timeout)


def enter(self: Any) -> bool:
    _may_switch()
    return real_acquire(self, False) or _acquire(real_acquire, self)  # most are free


def acquire_reentrant(self: Any, blocking: bool = True, timeout: float = -1) -> bool:
    _may_switch()
    return _acquire(_real_acquire_reentrant, self, blocking, timeout)


def enter_reentrant(self: Any) -> bool:
    _may_switch()
    return _real_acquire_reentrant(self, False) or _acquire(_real_acquire_reentrant, self)


def _may_switch() -> None:
    """Preempt the calling thread before it acquires a lock, if the environment chooses so."""
    world = active.entered
    if world is not None:
        thread = world.threads.get(_get_ident())
        if thread is not None and thread.at_work and _is_programs():
            thread.may_switch()


def _acquire(take: Callable[..., bool], lock: Any, blocking: bool = True, timeout: float = -1) -> bool:
    # What is wrong with the arguments, C says.
    if not blocking or (timeout < 0 and timeout != -1) or timeout > threading.TIMEOUT_MAX:
        return take(lock, blocking, timeout)
    if take(lock, False):
        return True
    world = active.here()
    if world is None:
        return take(lock, blocking, timeout)
    # Whoever holds it may be of the real world, such as a thread of pytest-xdist: the world stands still for that.
    others = not sys._current_frames().keys() <= world.threads.keys() | outsiders
    if others and take(lock, True, _GLANCE if timeout == -1 else min(timeout, _GLANCE)):
        return True
    clock = world.scheduler.clock
    deadline = None if timeout == -1 else clock.now + timeout * SECOND
    # A lock that is held for a moment only, such as that of a queue, is no blocking call of whoever has to wait since
    # its holder was preempted. (Locks of modules are shared by processes here, as they are by none.)
    warn = not any(thread is not None and thread.preempted for thread in world.threads.values()) and not any(
        process.preempted for process in world.processes
    )
    # It is looked at by whoever runs, and taken by the thread that waits.
    is_free, is_held = (_is_free, lock.locked) if take is real_acquire else (_is_free_reentrant, None)
    while not take(lock, False):
        try:
            left = None if deadline is None else (deadline - clock.now) / SECOND
            if not world.block(lambda: is_free(lock), left, warn=warn, is_blocked=is_held):
                return False
        except DeadlockError:
            if others and take(lock, True, _PATIENCE):
                return True
            raise
    return True


def _is_free(lock: Any) -> bool:
    return not lock.locked()


def _is_free_reentrant(lock: Any) -> bool:
    if not _real_acquire_reentrant(lock, False):
        return False
    # The thread that looks may be its owner.
    held = lock._release_save()
    if held[0] == 1:
        return True
    _real_acquire_restore(lock, held)
    lock.release()
    return False


# Modules whose locks are no calls of the program: what is imported or cached is so once in a process.
_OTHERS = ("concurrent.futures", "functools", "importlib", "simloop.")
_THREADING = vars(threading)


def _is_programs() -> bool:
    """Return True if the program, or a library on its behalf, acquires the lock; False for the internals of
    `threading`, when a thread begins or ends, and of executors, whose jobs have choice points of their own."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None and frame.f_globals is _THREADING:
        frame = frame.f_back
    return frame is not None and not str(frame.f_globals.get("__name__")).startswith(_OTHERS)


def acquire_restore(self: Any, state: Any) -> None:
    """Acquire a reentrant lock as many times as `state` says, after a condition's wait has released it."""
    _may_switch()
    _acquire(_real_acquire_reentrant, self)
    self.release()
    _real_acquire_restore(self, state)


def get(self: queue.SimpleQueue[Any], block: bool = True, timeout: float | None = None) -> Any:
    """Remove and return the next item of a simple queue, waiting in virtual time while it is empty."""
    pool = sys._getframe(1).f_globals is _EXECUTORS  # to look at its code would be announced to audit hooks, too
    world = active.here() if pool else active.world()
    if world is None or not block or (timeout is not None and timeout < 0):
        return _real_get(self, block, timeout)
    clock = world.scheduler.clock
    deadline = None if timeout is None else clock.now + timeout * SECOND
    while self.empty():
        left = None if deadline is None else (deadline - clock.now) / SECOND
        if not world.block(lambda: not self.empty(), left, is_blocked=self.empty):
            raise queue.Empty
    return _real_get(self, False)


# Here, since a late shim of a method would call what stood there, which takes no `self`, with one.
def executor_number(self: ThreadPoolExecutor) -> int:
    """Return the number that appears in the names of a new executor's threads. Each process of a run counts from
    zero."""
    world = active.here()
    if world is None:
        return _real_executor_number()
    process = world.current
    process.executors_named += 1
    return process.executors_named - 1


def join_handle(self: Any, timeout: float | None = None) -> None:
    """Wait in virtual time for the end of a thread that `_thread.start_joinable_thread` has started."""
    world = active.world()
    thread = None if world is None else world.threads.get(self.ident)
    if world is not None and thread is not None and self.ident != _thread.get_ident():
        limit = None if timeout is None or timeout < 0 else timeout
        if not world.block(lambda: thread.over, limit):
            return
        timeout = None
    _real_join_handle(self, timeout)


def rebind_conditions() -> None:
    """Make conditions that were created before the shims were installed wait in virtual time, too: each has stored the
    real methods of its lock."""
    for condition in gc.get_referrers(threading.Condition):
        if type(condition) is threading.Condition:
            lock = condition._lock  # type: ignore[attr-defined]
            for name in ("acquire", "_acquire_restore"):
                if name in vars(condition) and hasattr(lock, name):
                    setattr(condition, name, getattr(lock, name))


REPLACEMENTS: list[tuple[object, str, object]] = [
    (_thread.LockType, "acquire", acquire),
    (_thread.LockType, "acquire_lock", acquire),
    (_thread.LockType, "__enter__", enter),
    (_thread.RLock, "acquire", acquire_reentrant),
    (_thread.RLock, "__enter__", enter_reentrant),
    (_thread.RLock, "_acquire_restore", acquire_restore),
    (queue.SimpleQueue, "get", get),
    (ThreadPoolExecutor, "_counter", executor_number),
]
if _Handle is not None:
    REPLACEMENTS.append((_Handle, "join", join_handle))
