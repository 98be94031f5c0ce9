"""Shims of executors, which run on simulated threads, and of `threading.Thread`, if the world simulates such
threads."""

from __future__ import annotations

import _thread
import functools
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.thread import ThreadPoolExecutor
from typing import Any

from simloop.kernel.process.threads import SimThread
from simloop.world import active

_real_submit = ThreadPoolExecutor.submit
_real_shutdown = ThreadPoolExecutor.shutdown
_real_wait = threading.Condition.wait
_real_start: Callable[..., Any] = _thread.start_new_thread
_real_start_joinable: Callable[..., Any] | None = getattr(_thread, "start_joinable_thread", None)  # 3.13
_real_thread_number: Callable[[], int] = threading._counter  # type: ignore[attr-defined]
_real_executor_number: Callable[[], int] = ThreadPoolExecutor._counter  # type: ignore[attr-defined]
_real_join = threading.Thread.join
_real_is_alive = threading.Thread.is_alive


def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    world = active.world()
    if world is None:
        return _real_submit(self, fn, *args, **kwargs)
    workers = world.workers(self, self._max_workers, self._thread_name_prefix or "executor")
    return workers.submit(functools.partial(fn, *args, **kwargs))


def shutdown(self: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
    world = active.world()
    if world is None:
        _real_shutdown(self, wait, cancel_futures=cancel_futures)
        return
    workers = world.workers(self, self._max_workers, self._thread_name_prefix or "executor")
    workers.shut = True
    if cancel_futures:
        workers.cancel_pending()
    if wait:
        world.block(lambda: not workers.active)


def condition_wait(self: threading.Condition, timeout: float | None = None) -> bool:
    """Wait on a condition, as Events, Queues, Semaphores and `Future.result` do: like Lib/threading.py in CPython,
    except that the world goes on while the thread waits for the waiter's lock."""
    world = active.world()
    if world is None:
        return _real_wait(self, timeout)
    if not self._is_owned():  # type: ignore[attr-defined]
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = _thread.allocate_lock()
    waiter.acquire()
    waiters = self._waiters  # type: ignore[attr-defined]
    waiters.append(waiter)
    saved = self._release_save()  # type: ignore[attr-defined]
    notified = False
    # Thread.start() waits until the thread runs: no call that could be awaited instead.
    starts = sys._getframe(2).f_code is threading.Thread.start.__code__
    try:
        notified = world.block(lambda: not waiter.locked(), timeout, warn=not starts)
        return notified
    finally:
        self._acquire_restore(saved)  # type: ignore[attr-defined]
        if not notified and waiter in waiters:
            waiters.remove(waiter)


def start_new_thread(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any = None, /) -> int:
    work = functools.partial(function, *args, **(kwargs or {}))
    ident: int = _begin(function, work, lambda main: _real_start(main, ()))
    return ident


def start_joinable_thread(function: Callable[[], Any], handle: Any = None, daemon: bool = True) -> Any:
    assert _real_start_joinable is not None
    return _begin(function, function, functools.partial(_real_start_joinable, handle=handle, daemon=daemon))


def _begin(function: Callable[..., Any], work: Callable[[], Any], start: Callable[[Callable[[], Any]], Any]) -> Any:
    world = active.world()
    if world is None:
        return start(work)
    owner = getattr(function, "__self__", None)
    if not world.own_threads and not _waits_for_child(function):
        raise active.escape(
            "a thread of its own", "use loop.run_in_executor or asyncio.to_thread, or allow it with threads=True"
        )
    thread = SimThread(world, world.current, "thread")
    if isinstance(owner, threading.Thread):  # which starts a method of its own
        owner._sim_thread = thread  # type: ignore[attr-defined]
        report = owner._invoke_excepthook  # type: ignore[attr-defined]
        # What a thread raises while its world takes it down is nobody's concern.
        owner._invoke_excepthook = lambda self: None if thread.killed else report(self)  # type: ignore[attr-defined]
    return thread.start(start, work)


def _waits_for_child(function: Any) -> bool:
    """Return True if asyncio itself starts the thread, to wait for a subprocess (ThreadedChildWatcher in
    unix_events.py)."""
    target = getattr(getattr(function, "__self__", None), "_target", None)
    return getattr(target, "__module__", "") == "asyncio.unix_events"


def thread_number() -> int:
    """Return the number for the name of a new thread. Each run counts from one, as a new process does."""
    world = active.world()
    if world is None:
        return _real_thread_number()
    world.threads_named += 1
    return world.threads_named


def executor_number(self: ThreadPoolExecutor) -> int:
    """Return the number for the names of a new executor's threads. Each run counts from zero, as a new process does."""
    world = active.world()
    if world is None:
        return _real_executor_number()
    world.executors_named += 1
    return world.executors_named - 1


def join(self: threading.Thread, timeout: float | None = None) -> None:
    world = active.world()
    thread: SimThread | None = getattr(self, "_sim_thread", None)
    if world is not None and thread is not None and self is not threading.current_thread():
        if not world.block(lambda: thread.over, None if timeout is None else max(timeout, 0)):
            return
        # What is left of it is the interpreter's own clearing up, in real time.
        timeout = None
    _real_join(self, timeout)


def is_alive(self: threading.Thread) -> bool:
    thread: SimThread | None = getattr(self, "_sim_thread", None)
    return _real_is_alive(self) and (thread is None or not thread.over)


REPLACEMENTS: list[tuple[object, str, object]] = [
    (ThreadPoolExecutor, "submit", submit),
    (ThreadPoolExecutor, "shutdown", shutdown),
    (ThreadPoolExecutor, "_counter", executor_number),
    (threading, "_counter", thread_number),
    (threading.Condition, "wait", condition_wait),
    (threading.Thread, "join", join),
    (threading.Thread, "is_alive", is_alive),
    (_thread, "start_new_thread", start_new_thread),
]
# threading.Thread.start() goes through the first up to 3.12, through the second since 3.13.
if hasattr(threading, "_start_new_thread"):
    REPLACEMENTS.append((threading, "_start_new_thread", start_new_thread))
if _real_start_joinable is not None:
    REPLACEMENTS.append((_thread, "start_joinable_thread", start_joinable_thread))
    REPLACEMENTS.append((threading, "_start_joinable_thread", start_joinable_thread))
