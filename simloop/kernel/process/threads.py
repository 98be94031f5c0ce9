"""Simulated threads, run one at a time: an executor's workers, and those that the program starts itself.

A function runs in a real thread, because it may look at thread-local state and may block in the middle; but
only ever while the scheduler waits for it, so there is no real concurrency and no timing but the simulated
one. When it starts and when a worker's result is seen are choices.

A thread may block on things of the simulated world: sleeping, sockets, Conditions and all that is made
of them (Event, Queue, Semaphore, join). A bare Lock that another parked thread holds blocks for real.
"""

from __future__ import annotations

import _thread
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from simloop.errors import EscapedSimulationError
from simloop.kernel.process.delays import schedule_delayed

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.kernel.scheduler import Scheduler

# A thread that does not come back for so long (real seconds) waits for something that will never be.
_REAL_PATIENCE = 30.0

_start_real_thread = _thread.start_new_thread


class Owner(Protocol):
    """Protocol of the world, as its threads see it."""

    scheduler: Scheduler
    current: Process
    #: Threads of the world by real thread identifier; None stands for its main thread.
    threads: dict[int, SimThread | None]
    #: True while the simulation itself uses the real world, which is no escape.
    reaching_out: bool


class ThreadKilled(BaseException):
    """Exception that unwinds a parked thread whose world is over."""


class SimThread:
    """Simulated thread: a real one that runs only while `resume` waits for it."""

    def __init__(self, world: Owner, process: Process, name: str) -> None:
        self.world = world
        self.process = process
        self.name = name
        self.ident = 0
        self._work: Callable[[], None] | None = None
        self._go = _thread.allocate_lock()
        self._back = _thread.allocate_lock()
        self._go.acquire()
        self._back.acquire()
        #: True once its world is over, and it has to end.
        self.killed = False
        self._started = False
        self._single = False
        #: True once it has ended.
        self.over = False

    def start(self, starter: Callable[[Callable[[], None]], Any], work: Callable[[], None]) -> Any:
        """Start as a thread that the program itself makes, by ``starter(main)``. `work` begins at the first `resume`,
        and the thread ends with it."""
        self._work = work
        self._single = self._started = True
        self.world.reaching_out = True
        try:
            made = starter(self._main)
        finally:
            self.world.reaching_out = False
        # Known before it runs, so that it ends with its world in any case.
        self.ident = made if isinstance(made, int) else made.ident
        self.world.threads[self.ident] = self
        who = f"{self.process.name} thread"

        def begin() -> None:
            if not self.over:
                self.resume_when_running()

        schedule_delayed(self.process, self.world.scheduler, "thread.start", who, self, begin)
        return made

    def run(self, work: Callable[[], None]) -> None:
        """Run `work` in the thread, until it ends or parks."""
        self._work = work
        if not self._started:
            self._started = True
            self.world.reaching_out = True
            try:
                _start_real_thread(self._main, ())
            finally:
                self.world.reaching_out = False
        self.resume()

    def _main(self) -> None:
        self._go.acquire()
        self.ident = _thread.get_ident()
        self.world.threads[self.ident] = self
        if not self._single:
            threading.current_thread().name = self.name
        try:
            while self._work is not None and not self.killed:
                work, self._work = self._work, None
                try:
                    work()
                except ThreadKilled:
                    break
                if self._single:
                    break
                self._back.release()
                self._go.acquire()
        finally:
            self.over = True
            self.world.threads.pop(self.ident, None)
            if not self._single:
                # The stand-in that threading made for a thread that it did not start.
                threading._active.pop(self.ident, None)  # type: ignore[attr-defined]
            self._back.release()

    def resume(self) -> None:
        """Switch to the thread, and wait until it ends its work or parks again."""
        previous, self.world.current = self.world.current, self.process
        self._go.release()
        came_back = self._back.acquire(timeout=_REAL_PATIENCE)
        self.world.current = previous
        if not came_back:
            raise EscapedSimulationError(
                f"{self.name} has not come back for {_REAL_PATIENCE:g} real seconds: its function blocks on "
                "something outside of the simulation; wait with time.sleep, a Condition, Event or Queue made in the run"
            )

    def resume_when_running(self) -> None:
        """Resume the thread, unless its process is gone, or stopped: then it stays parked, until SIGCONT."""
        process = self.process
        if process.stopped:
            self.world.scheduler.when(lambda: not process.stopped, self.resume_when_running)
        elif process.alive:
            self.resume()

    def park(self, done: Callable[[], bool], deadline_ns: int | None) -> bool:
        """Block the calling thread, and let the world go on until ``done()`` or the deadline. Returns ``done()``."""
        clock = self.world.scheduler.clock
        while not done():
            if deadline_ns is not None and clock.now >= deadline_ns:
                return False
            self._check_killed()  # it may have swallowed what ended its last wait
            self._sleep(done, deadline_ns)
            self._check_killed()
        return True

    def pause(self) -> None:
        """Yield: let other threads and processes run. Called in the thread."""
        self._sleep(lambda: True, None)
        self._check_killed()

    def _sleep(self, done: Callable[[], bool], deadline_ns: int | None) -> None:
        """Switch back to the thread's resumer, until the world resumes the thread: when ``done()`` holds, or at the
        deadline."""
        scheduler = self.world.scheduler
        ended = False

        def wake() -> None:
            nonlocal ended
            if not ended and not self.over:
                ended = True
                self.resume_when_running()

        if deadline_ns is not None:
            scheduler.at(deadline_ns, wake)
        scheduler.when(lambda: ended or not self.process.alive or done(), wake)
        self._back.release()
        self._go.acquire()

    def _check_killed(self) -> None:
        if self.killed:
            raise ThreadKilled

    def kill(self) -> None:
        """Unwind a parked or idle thread, at the end of the world."""
        if self._started:
            self.killed = True
            self.resume()


class Workers:
    """Simulated thread pool of one executor."""

    def __init__(self, world: Owner, process: Process, limit: int, name: str) -> None:
        self._world = world
        self._scheduler = world.scheduler
        self._process = process
        self._limit = limit
        self._name = name
        self._idle: list[SimThread] = []
        self._count = 0
        self._queue: deque[tuple[Future[Any], Callable[[], Any], int]] = deque()
        self._jobs = 0
        self.active = 0
        self.shut = False

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        """Queue `function` for a worker thread. Returns its future."""
        if self.shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._jobs += 1
        self.active += 1
        future: Future[Any] = Future()
        self._queue.append((future, function, self._jobs))
        self._start_next()
        return future

    def cancel_pending(self) -> None:
        """Cancel all work that no thread has begun."""
        while self._queue:
            future = self._queue.popleft()[0]
            self.active -= 1
            future.cancel()
            future.set_running_or_notify_cancel()

    def _start_next(self) -> None:
        if not self._queue:
            return
        if self._idle:
            thread = self._idle.pop()
        elif self._count < self._limit:
            thread = SimThread(self._world, self._process, f"{self._name}_{self._count}")
            self._count += 1
        else:
            return
        future, function, number = self._queue.popleft()
        who = f"{self._name}#{number}"
        schedule_delayed(
            self._process,
            self._scheduler,
            "thread.start",
            who,
            function,
            lambda: self._run(thread, who, future, function),
        )

    def _run(self, thread: SimThread, who: str, future: Future[Any], function: Callable[[], Any]) -> None:
        if not self._process.alive:
            return
        if not future.set_running_or_notify_cancel():
            self._finished(thread, lambda: None)
            return

        def work() -> None:
            try:
                result = function()
            except ThreadKilled:
                raise
            except BaseException as error:  # as concurrent.futures.thread._WorkItem.run does
                failure = error

                def settle() -> None:
                    future.set_exception(failure)
            else:

                def settle() -> None:
                    future.set_result(result)

            schedule_delayed(
                self._process, self._scheduler, "thread.finish", who, function, lambda: self._finished(thread, settle)
            )

        thread.run(work)

    def _finished(self, thread: SimThread, settle: Callable[[], None]) -> None:
        self._idle.append(thread)
        self.active -= 1
        settle()
        self._start_next()
