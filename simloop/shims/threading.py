"""Shims of threads, of what they wait for, and of executors' jobs: they run on simulated threads, in virtual time."""

from __future__ import annotations

import _thread
import concurrent.futures.thread
import contextlib
import functools
import gc
import logging
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import TYPE_CHECKING, Any

from simloop.choices.who import nth
from simloop.errors import DeadlockError
from simloop.kernel.clock import SECOND
from simloop.kernel.process.threads import SimThread, ThreadKilled, outsiders, raise_in, real_acquire
from simloop.sources import wrapped_by
from simloop.world import active, lines

if TYPE_CHECKING:
    from simloop.world.world import World

# Real seconds for which a thread of the real world may hold a lock before others of the world go on.
_GLANCE = 0.001
# And once nothing else can happen in the world.
_PATIENCE = 30.0
# Real seconds for what a thread does after its work, which may wait for a lock that the thread that resumed it holds.
_CLEARING_UP = 1.0

_get_ident = _thread.get_ident
_worker = concurrent.futures.thread._worker
_real_acquire_reentrant = _thread.RLock.acquire
_real_acquire_restore: Callable[..., None] = _thread.RLock._acquire_restore  # type: ignore[attr-defined]
_real_get = queue.SimpleQueue.get
_real_run_job = concurrent.futures.thread._WorkItem.run
_real_start: Callable[..., Any] = _thread.start_new_thread
_real_start_joinable: Callable[..., Any] | None = getattr(_thread, "start_joinable_thread", None)  # 3.13
_real_thread_number: Callable[[], int] = threading._counter  # type: ignore[attr-defined]
_real_executor_number: Callable[[], int] = ThreadPoolExecutor._counter  # type: ignore[attr-defined]
_Handle: Any = getattr(_thread, "_ThreadHandle", None)  # 3.13
_real_join_handle: Any = getattr(_Handle, "join", None)
_real_join = threading.Thread.join
_real_is_alive = threading.Thread.is_alive
_real_enumerate = threading.enumerate
_real_active_count = threading.active_count
_real_count: Callable[[], int] = _thread._count


def acquire(self: Any, blocking: bool = True, timeout: float = -1) -> bool:
    """Acquire a lock: while somebody else holds it, the world goes on."""
    return _acquire(real_acquire, self, blocking, timeout)


def enter(self: Any) -> bool:
    return _acquire(real_acquire, self)


def acquire_reentrant(self: Any, blocking: bool = True, timeout: float = -1) -> bool:
    return _acquire(_real_acquire_reentrant, self, blocking, timeout)


def enter_reentrant(self: Any) -> bool:
    return _acquire(_real_acquire_reentrant, self)


def _acquire(take: Callable[..., bool], lock: Any, blocking: bool = True, timeout: float = -1) -> bool:
    world = active.entered
    if world is not None:
        thread = world.threads.get(_get_ident())
        if thread is not None and thread.at_work and _is_programs():
            thread.may_switch()
    if blocking is True and timeout == -1 and take(lock, False):
        return True
    # Most are free. What is wrong with the arguments, C says.
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
    is_free = _is_free if take is real_acquire else _is_free_reentrant
    while not take(lock, False):
        try:
            left = None if deadline is None else (deadline - clock.now) / SECOND
            if not world.block(lambda: is_free(lock), left, warn=warn):
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
    """Return True if the program itself asks for a lock, or a library on its behalf: neither a thread that begins or
    ends, nor an executor, whose jobs have choice points of their own."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None and frame.f_globals is _THREADING:
        frame = frame.f_back
    return frame is not None and not str(frame.f_globals.get("__name__")).startswith(_OTHERS)


def acquire_restore(self: Any, state: Any) -> None:
    """Acquire a reentrant lock again, as often as a condition's wait has released it."""
    _acquire(_real_acquire_reentrant, self)
    self.release()
    _real_acquire_restore(self, state)


def get(self: queue.SimpleQueue[Any], block: bool = True, timeout: float | None = None) -> Any:
    """Get the next item of a simple queue: while there is none, the world goes on."""
    pool = sys._getframe(1).f_code is _worker.__code__
    world = active.here() if pool else active.world()
    if world is None or not block or (timeout is not None and timeout < 0):
        return _real_get(self, block, timeout)
    clock = world.scheduler.clock
    deadline = None if timeout is None else clock.now + timeout * SECOND
    while self.empty():
        left = None if deadline is None else (deadline - clock.now) / SECOND
        if not world.block(lambda: not self.empty(), left):
            raise queue.Empty
    return _real_get(self, False)


def _name_of(function: Any) -> str:
    """Return the name of a job's function, which edits elsewhere do not change."""
    function = wrapped_by(function)
    return str(getattr(function, "__qualname__", type(function).__qualname__)).rpartition(".")[2]


def _scoped(world: World, name: str) -> str:
    """Return the name of a thread or job in the world: threads of several processes may have the same names."""
    return name if world.current is world.root else f"{world.current.name} {name}"


def run_job(self: Any, *context: Any) -> None:
    """Run a job of an executor: when it begins, and when its result is seen, the environment chooses."""
    world = active.here()
    thread = None if world is None else world.threads[_thread.get_ident()]
    if world is None or thread is None:
        _real_run_job(self, *context)
        return
    function = self.fn if hasattr(self, "fn") else self.task[0]
    name = _scoped(world, f"{threading.current_thread().name.rpartition('_')[0]} {_name_of(function)}")
    number = world.jobs_numbered[name] = world.jobs_numbered.get(name, 0) + 1
    thread.who = who = nth(name, number)
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
    thread.on_kill = None


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
    """Let the interpreter end without waiting for a thread, and the thread end as soon as Python code of it runs."""
    concurrent.futures.thread._threads_queues.pop(owner, None)  # type: ignore[attr-defined]
    if sys.version_info < (3, 13):
        threading._shutdown_locks.discard(owner._tstate_lock)  # type: ignore[attr-defined]
    raise_in(thread.ident, ThreadKilled)


def _forget_worker(reference: Callable[[], ThreadPoolExecutor | None], worker: threading.Thread) -> None:
    """Let an executor that outlives the run, such as a library's own, start workers anew in the next one."""
    executor: Any = reference()
    if executor is None:
        return
    executor._threads.discard(worker)
    executor._idle_semaphore = threading.Semaphore(0)
    with contextlib.suppress(queue.Empty):
        while True:
            executor._work_queue.get_nowait()


def thread_number() -> int:
    """Return the number for the name of a new thread. Each process of a run counts from one."""
    world = active.here()
    if world is None:
        return _real_thread_number()
    process = world.current
    process.threads_named += 1
    return process.threads_named


def executor_number(self: ThreadPoolExecutor) -> int:
    """Return the number for the names of a new executor's threads. Each process of a run counts from zero."""
    world = active.here()
    if world is None:
        return _real_executor_number()
    process = world.current
    process.executors_named += 1
    return process.executors_named - 1


def join_handle(self: Any, timeout: float | None = None) -> None:
    """Join a thread that `_thread.start_joinable_thread` has started."""
    world = active.world()
    thread = None if world is None else world.threads.get(self.ident)
    if world is not None and thread is not None and self.ident != _thread.get_ident():
        limit = None if timeout is None or timeout < 0 else timeout
        if not world.block(lambda: thread.over, limit):
            return
        timeout = None
    _real_join_handle(self, timeout)


def join(self: threading.Thread, timeout: float | None = None) -> None:
    world = active.world()
    thread: SimThread | None = getattr(self, "_sim_thread", None)
    if world is not None and thread is not None and self is not threading.current_thread():
        ended = world.block(lambda: thread.over, None if timeout is None else max(timeout, 0))
        if not ended:
            return
    _join_for_real(self, timeout)


def _await_end(thread: threading.Thread) -> None:
    """Wait until the interpreter has cleared up after a thread whose work is over, without a trace of it."""
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


@functools.wraps(threading.enumerate)
def enumerate_threads() -> list[threading.Thread]:
    """Return the threads of the current process that are alive."""
    world, found = active.here(), _real_enumerate()
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


@functools.wraps(threading.active_count)
def active_count() -> int:
    return _real_active_count() if active.here() is None else len(enumerate_threads())


def count_threads() -> int:
    """Return the number of threads of the current process, but for the main one. The interpreter counts a thread until
    its real end, which is later by real time."""
    world = active.here()
    if world is None:
        return _real_count()
    process = world.current
    return sum(thread is not None and thread.process is process for thread in world.threads.values())


def end_threads(world: World) -> None:
    """Wait for the threads of the current process at its end, as threading._shutdown() does: all that are no daemons.
    Executors do the jobs that they have, and take no more (_python_exit() in Lib/concurrent/futures/thread.py)."""
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
    """Filter for what the threads of executors report when their world takes them down."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and record.exc_info[0] is ThreadKilled)


def install() -> None:
    logging.getLogger("concurrent.futures").addFilter(_NotOfKilledThreads())


def rebind_conditions() -> None:
    """Let the conditions that were made before the shims were in place wait for their locks as later ones do: each
    holds methods of its lock."""
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
    (concurrent.futures.thread._WorkItem, "run", run_job),
    (threading, "_counter", thread_number),
    (threading.Thread, "join", join),
    (threading.Thread, "is_alive", is_alive),
    (threading, "enumerate", enumerate_threads),
    (threading, "active_count", active_count),
    (_thread, "start_new_thread", start_new_thread),
    (_thread, "_count", count_threads),
]
# threading.Thread.start() goes through the first up to 3.12, through the second since 3.13.
if hasattr(threading, "_start_new_thread"):
    REPLACEMENTS.append((threading, "_start_new_thread", start_new_thread))
if _real_start_joinable is not None:
    REPLACEMENTS.append((_thread, "start_joinable_thread", start_joinable_thread))
    REPLACEMENTS.append((threading, "_start_joinable_thread", start_joinable_thread))
    REPLACEMENTS.append((_Handle, "join", join_handle))
