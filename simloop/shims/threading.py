"""Shims of threads and executors: their functions run on simulated threads, in virtual time. Shims of locks are in
`simloop.shims.locks`."""

from __future__ import annotations

import _thread
import concurrent.futures.thread
import contextlib
import functools
import logging
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from simloop.choices.choices import nth
from simloop.kernel.process.real_threads import raise_in, real_acquire
from simloop.kernel.process.threads import SimThread, ThreadKilled
from simloop.shims.late import real
from simloop.sources import wrapped_by
from simloop.world import active, lines

if TYPE_CHECKING:
    from simloop.world.world import World

# Real seconds for what a thread does after its work, which may wait for a lock that the thread that resumed it holds.
_CLEARING_UP = 1.0

_worker = concurrent.futures.thread._worker
_real = real(__name__, threading)
_real_thread = real(__name__, threading.Thread)
_real_start_ones = real(__name__, _thread)
_real_run_job = real(__name__, concurrent.futures.thread._WorkItem)["run"]
_real_start: Callable[..., Any] = _real_start_ones["start_new_thread"]
_real_start_joinable: Callable[..., Any] | None = _real_start_ones.get("start_joinable_thread")  # 3.13
_real_count: Callable[[], int] = _real_start_ones["_count"]
_real_thread_number: Callable[[], int] = _real["_counter"]
_real_enumerate = _real["enumerate"]
_real_active_count = _real["active_count"]
_real_native_id: Callable[[], int] = _real["get_native_id"]
_real_join = _real_thread["join"]
_real_is_alive = _real_thread["is_alive"]


def _name_of(function: Any) -> str:
    """Return the name of an executor's job in choice points: that of its function, which stays the same when other code
    changes."""
    function = wrapped_by(function)
    return str(getattr(function, "__qualname__", type(function).__qualname__)).rpartition(".")[2]


def _scoped(world: World, name: str) -> str:
    """Return a name for a thread or job that is unique in the world: threads of several processes may have the same
    names."""
    return name if world.current is world.root else f"{world.current.name} {name}"


def run_job(self: Any, *context: Any) -> None:
    """Run a job of an executor. Choice points decide how late it begins, and how late its result is seen."""
    world = active.here()
    thread = None if world is None else world.threads[_thread.get_ident()]
    if world is None or thread is None:
        _real_run_job(self, *context)
        return
    function = self.fn if hasattr(self, "fn") else self.task[0]
    name = _scoped(world, f"{threading.current_thread().name.rpartition('_')[0]} {_name_of(function)}")
    number = world.jobs_numbered[name] = world.jobs_numbered.get(name, 0) + 1
    thread.who = who = nth(name, number)
    thread.job = function
    thread.delay("thread.start", who, function)

    def job(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            if not thread.killed:
                thread.delay("thread.finish", who, function)

    if hasattr(self, "fn"):
        self.fn = job
    else:  # 3.14
        self.task = (job, *self.task[1:])
    # Whoever waits for the job is gone with the world.
    thread.on_kill = self.future._done_callbacks.clear
    _real_run_job(self, *context)
    # An executor keeps nothing of a job that has ended, and neither does its thread.
    thread.on_kill = thread.job = None


def start_new_thread(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any = None, /) -> int:
    work = functools.partial(function, *args, **(kwargs or {}))
    ident: int = _begin(function, work, lambda main: _real_start(main, ()))
    return ident


def start_joinable_thread(function: Callable[[], Any], handle: Any = None, daemon: bool = True) -> Any:
    assert _real_start_joinable is not None
    # The interpreter waits for the others at its end: none of a world outlives that, but for those that hang.
    in_world = active.world() is not None
    start = functools.partial(_real_start_joinable, handle=handle, daemon=daemon or in_world)
    return _begin(function, function, start)


def _begin(function: Callable[..., Any], work: Callable[[], Any], start: Callable[[Callable[[], Any]], Any]) -> Any:
    world = active.world()
    if world is None:
        return start(work)
    owner = getattr(function, "__self__", None)
    if not isinstance(owner, threading.Thread):
        thread = SimThread(world, world.current, "thread")

        def delayed() -> None:
            thread.at_work = True
            thread.begin()
            lines.traced(work)()

        made = thread.start(start, delayed)
        thread.resume()
        return made
    # It starts a method of its own, which does what others may see of it before it runs.
    owner._sim_thread = thread = SimThread(world, world.current, _scoped(world, owner.name))  # type: ignore[attr-defined]
    thread.daemon = owner.daemon
    report = owner._invoke_excepthook  # type: ignore[attr-defined]
    # What a thread raises while its world takes it down is nobody's concern.
    owner._invoke_excepthook = lambda self: None if thread.killed else report(self)  # type: ignore[attr-defined]
    is_worker = getattr(owner, "_target", None) is _worker  # whose jobs have delays of their own
    run, own = owner.run, vars(owner).get("run")

    def run_later() -> None:
        if own is None:
            del owner.run
        else:
            owner.run = own  # type: ignore[method-assign]
        thread.at_work = True
        if not is_worker:
            thread.begin()
        lines.traced(run)()
        thread.at_work = False

    owner.run = run_later  # type: ignore[method-assign]
    thread.on_lost = functools.partial(_forget, owner, thread)
    thread.join_real = functools.partial(_await_end, owner)
    if is_worker:
        thread.after_kill = functools.partial(_forget_worker, owner._args[0], owner)  # type: ignore[attr-defined]
    made = thread.start(start, work)
    thread.resume()
    return made


def _forget(owner: threading.Thread, thread: SimThread) -> None:
    """Detach a thread that has not ended: the interpreter exits without waiting for it, and the thread ends at its next
    Python instruction."""
    concurrent.futures.thread._threads_queues.pop(owner, None)  # type: ignore[attr-defined]
    if sys.version_info < (3, 13):
        threading._shutdown_locks.discard(owner._tstate_lock)  # type: ignore[attr-defined]
    raise_in(thread.ident, ThreadKilled)


def _forget_worker(reference: Callable[[], ThreadPoolExecutor | None], worker: threading.Thread) -> None:
    """Remove a worker thread, and the pending jobs, from an executor that outlives the run, such as a library's own:
    the next run starts new workers."""
    executor: Any = reference()
    if executor is None:
        return
    executor._threads.discard(worker)
    executor._idle_semaphore = threading.Semaphore(0)
    with contextlib.suppress(queue.Empty):
        while True:
            executor._work_queue.get_nowait()


def thread_number() -> int:
    """Return the number that appears in the name of a new thread. Each process of a run counts from one."""
    world = active.here()
    if world is None:
        return _real_thread_number()
    process = world.current
    process.threads_named += 1
    return process.threads_named


def get_native_id() -> int:
    """Return the thread id of the calling thread; for the main thread of a process it equals the pid (gettid(2))."""
    world = active.here()
    if world is None:
        return _real_native_id()
    thread = world.threads.get(_thread.get_ident())
    return world.current.pid if thread is None else thread.native_id


def join(self: threading.Thread, timeout: float | None = None) -> None:
    world = active.world()
    thread: SimThread | None = getattr(self, "_sim_thread", None)
    if world is not None and thread is not None and self is not threading.current_thread():
        ended = world.block(lambda: thread.over, None if timeout is None else max(timeout, 0))
        if not ended:
            return
    _join_for_real(self, timeout)


def _await_end(thread: threading.Thread) -> None:
    """Wait in real time until the interpreter has cleaned up after a thread whose function has returned."""
    if sys.version_info >= (3, 13):
        _join_for_real(thread, _CLEARING_UP)
        return
    lock = thread._tstate_lock  # type: ignore[attr-defined]
    if lock is not None and real_acquire(lock, True, _CLEARING_UP):
        lock.release()


def _join_for_real(thread: threading.Thread, timeout: float | None) -> None:
    if not active.is_inside():
        # A thread of the real world must not take the world away from those that are inside.
        _real_join(thread, timeout)
        return
    with active.world_entered(None):
        _real_join(thread, timeout)


def is_alive(self: threading.Thread) -> bool:
    thread: SimThread | None = getattr(self, "_sim_thread", None)
    return _real_is_alive(self) and (thread is None or not thread.lost)


@functools.wraps(_real_enumerate)
def enumerate_threads() -> list[threading.Thread]:
    """Return the threads of the current process that are alive."""
    world = active.here()
    found: list[threading.Thread] = _real_enumerate()
    if world is None:
        return found
    process, main = world.current, threading.main_thread()
    threads = [main] if main in found else []
    for thread in found:
        simulated: SimThread | None = getattr(thread, "_sim_thread", None)
        # A real one, such as of pytest-xdist, is in the process of the test.
        owner = world.root if simulated is None else simulated.process
        if owner is process and thread is not main:
            threads.append(thread)
    return threads


@functools.wraps(_real_active_count)
def active_count() -> int:
    return _real_active_count() if active.here() is None else len(enumerate_threads())


def count_threads() -> int:
    """Return the number of threads of the current process, without the main one. (The interpreter's own count includes
    a thread until it has ended in real time.)"""
    world = active.here()
    if world is None:
        return _real_count()
    process = world.current
    return sum(thread is not None and thread.process is process for thread in world.threads.values())


def end_threads(world: World) -> None:
    """Wait for the non-daemon threads of the current process at its end, as threading._shutdown() does. Executors
    finish their jobs, and accept no new ones (_python_exit() in Lib/concurrent/futures/thread.py)."""
    process = world.current

    def left() -> bool:
        threads = world.threads.values()
        return any(thread is not None and thread.process is process and not thread.daemon for thread in threads)

    if not left():
        return
    for worker in list(concurrent.futures.thread._threads_queues):
        thread: SimThread | None = getattr(worker, "_sim_thread", None)
        if thread is not None and thread.process is process and hasattr(worker, "_args"):
            executor = worker._args[0]()
            if executor is not None:
                executor.shutdown(wait=False)
    world.block(lambda: not left(), warn=False)


class _NotOfKilledThreads(logging.Filter):
    """Logging filter that drops records about executor threads that were killed at the end of their world."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and record.exc_info[0] is ThreadKilled)


def install() -> None:
    logging.getLogger("concurrent.futures").addFilter(_NotOfKilledThreads())


REPLACEMENTS: list[tuple[object, str, object]] = [
    (concurrent.futures.thread._WorkItem, "run", run_job),
    (threading, "_counter", thread_number),
    (threading.Thread, "join", join),
    (threading.Thread, "is_alive", is_alive),
    (threading, "enumerate", enumerate_threads),
    (threading, "active_count", active_count),
    (threading, "get_native_id", get_native_id),
    (_thread, "start_new_thread", start_new_thread),
    (_thread, "_count", count_threads),
    (_thread, "get_native_id", get_native_id),
]
# threading.Thread.start() goes through the first up to 3.12, through the second since 3.13.
if "_start_new_thread" in _real:
    REPLACEMENTS.append((threading, "_start_new_thread", start_new_thread))
if _real_start_joinable is not None:
    REPLACEMENTS.append((_thread, "start_joinable_thread", start_joinable_thread))
    REPLACEMENTS.append((threading, "_start_joinable_thread", start_joinable_thread))
