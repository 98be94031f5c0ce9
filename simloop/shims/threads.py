"""Executors run on simulated threads; anything else that starts a thread escapes."""

from __future__ import annotations

import _thread
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.thread import ThreadPoolExecutor
from typing import Any

from simloop.shims import active

_real_submit = ThreadPoolExecutor.submit
_real_shutdown = ThreadPoolExecutor.shutdown
_real_wait = threading.Condition.wait


def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    world = active.world()
    if world is None:
        return _real_submit(self, fn, *args, **kwargs)
    workers = world.workers(self, self._max_workers, self._thread_name_prefix or "executor")  # type: ignore[attr-defined]
    return workers.submit(functools.partial(fn, *args, **kwargs))


def shutdown(self: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
    world = active.world()
    if world is None:
        _real_shutdown(self, wait, cancel_futures=cancel_futures)
        return
    workers = world.workers(self, self._max_workers, self._thread_name_prefix or "executor")  # type: ignore[attr-defined]
    workers.shut = True
    if cancel_futures:
        workers.cancel_pending()
    if wait:
        world.block(lambda: not workers.active)


def condition_wait(self: threading.Condition, timeout: float | None = None) -> bool:
    """`threading.Condition.wait`, under Events, Queues, Semaphores and `Future.result`: as in CPython's
    Lib/threading.py, except that waiting for the waiter's lock lets the world go on."""
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
    try:
        notified = world.block(lambda: not waiter.locked(), timeout)
        return notified
    finally:
        self._acquire_restore(saved)  # type: ignore[attr-defined]
        if not notified and waiter in waiters:
            waiters.remove(waiter)


def _refusing(real: Callable[..., Any]) -> Callable[..., Any]:
    def start_thread(*args: Any, **kwargs: Any) -> Any:
        if active.world() is not None:
            raise active.escape("a thread of its own", "use loop.run_in_executor or asyncio.to_thread")
        return real(*args, **kwargs)

    return start_thread


# threading.Thread.start() goes through `_start_new_thread` up to 3.12, `_start_joinable_thread` since 3.13.
_STARTERS = [
    (_thread, "start_new_thread"),
    (_thread, "start_joinable_thread"),
    (threading, "_start_new_thread"),
    (threading, "_start_joinable_thread"),
]

REPLACEMENTS: list[tuple[object, str, object]] = [
    (ThreadPoolExecutor, "submit", submit),
    (ThreadPoolExecutor, "shutdown", shutdown),
    (threading.Condition, "wait", condition_wait),
    *((owner, name, _refusing(getattr(owner, name))) for owner, name in _STARTERS if hasattr(owner, name)),
]
