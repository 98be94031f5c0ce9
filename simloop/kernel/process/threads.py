"""Simulated threads, of which one runs at a time.

A simulated thread is a real one, since its code may use thread-local state and may block in the middle of a call. It
runs only while the scheduler waits for it, so there is no real concurrency, and all timing is simulated. Its start, and
the time at which the result of an executor's job becomes visible, are choice points.

A thread may block in whatever goes through the simulated world: sleeping, sockets, files, locks and all that is built
on them.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable, Collection
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from simloop.choices.choices import nth
from simloop.kernel.clock import MILLISECOND
from simloop.kernel.process.delays import CALLS_MAX, schedule_delayed, schedule_switch
from simloop.kernel.process.processors import bind_to_processor, unbind
from simloop.kernel.process.real_threads import real_acquire

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.kernel.scheduler import Scheduler


# Number of lines of the user's own code in a time slice, where threads are preempted between these, too.
_SLICE_LINES = 2000
# Number of visits of one line at which a thread may be preempted: later rounds of a loop are like the first ones.
_VISITS = 100


class Owner(Protocol):
    """Structural type of the world, with those attributes that its threads need."""

    scheduler: Scheduler
    current: Process
    #: Threads of the world by real thread identifier; the value None stands for the main thread.
    threads: dict[int, SimThread | None]

    def count_steps(self, number: int, who: str) -> None:
        """Add `number` to the run's number of steps. Beyond the limit, raise `StepLimitError`, which names `who`, a
        thread."""

    #: True while the simulation itself uses the real system, which is then not reported as an escape.
    reaching_out: bool
    #: Real processors that the world's own thread may use, while it is bound to one; None before it starts another.
    processors: Collection[int] | None


class ThreadKilled(BaseException):
    """Exception that unwinds a suspended thread whose process or world is over."""


class SimThread:
    """Simulated thread: a real thread that runs only while the caller of `resume` waits for it."""

    def __init__(self, world: Owner, process: Process, name: str) -> None:
        self.world = world
        self.process = process
        self.name = name
        #: Name in the choice points of its calls: its own, or that of the executor's job that it runs.
        self.who = name
        #: Function of that job.
        self.job: Callable[..., Any] | None = None
        #: Processor time in nanoseconds that it has spent on reading clocks.
        self.looked_ns = 0
        self.ident = 0
        process.threads_made += 1
        #: Thread id, as gettid(2) returns it, which no other thread or process has.
        self.native_id = process.pid + (process.threads_made << 23)
        #: Number of calls since it was last resumed.
        self._calls = 0
        self._lines = 0
        #: Number of times that each source line was reached, by the line's name at choice points.
        self._visits: dict[str, int] = {}
        self._go = _thread.allocate_lock()
        self._back = _thread.allocate_lock()
        real_acquire(self._go)
        real_acquire(self._back)
        #: True while it runs its own work, and not the code of the module `threading` before and after that.
        self.at_work = False
        #: True for a daemon thread, which is not joined at the end of its process.
        self.daemon = True
        #: True once it has to end, since its process or its world is over.
        self.killed = False
        #: True once it has ended.
        self.over = False
        #: True while it is preempted: it could continue, but others run first.
        self.preempted = False
        #: True if it is blocked on something outside of the simulation, and was abandoned.
        self.lost = False
        #: Function to be called if the world ends while it is `lost`.
        self.on_lost: Callable[[], None] | None = None
        #: Functions to be called when the thread is killed, before and after it unwinds.
        self.on_kill: Callable[[], None] | None = None
        self.after_kill: Callable[[], None] | None = None
        #: Function that joins the real thread, whose thread-local values are finalized after its work.
        self.join_real: Callable[[], None] | None = None

    def start(self, starter: Callable[[Callable[[], None]], Any], work: Callable[[], None]) -> Any:
        """Create the real thread by ``starter(main)``, and return the result of that call. The thread runs `work` from
        the first `resume` on."""

        def main() -> None:
            real_acquire(self._go)
            self.ident = _thread.get_ident()
            self.world.threads[self.ident] = self
            try:
                if not self.killed:
                    work()
            except ThreadKilled:
                pass
            finally:
                self.over = True
                self.world.threads.pop(self.ident, None)
                self._back.release()

        world = self.world
        world.reaching_out = True
        try:
            if world.processors is None:
                world.processors = bind_to_processor()
            made = starter(main)
        finally:
            world.reaching_out = False
        # Known before it runs, so that it ends with its world in any case.
        self.ident = made if isinstance(made, int) else made.ident
        self.world.threads[self.ident] = self
        return made

    def begin(self) -> None:
        """Delay the start of the thread for as long as the environment chooses. The default is no delay, since whoever
        starts a thread waits until it has started. To be called in the thread."""
        who = f"{self.process.name} thread"
        act = self.resume_when_running
        if schedule_delayed(self.process, self.world.scheduler, "thread.start", who, self, act, None):
            self._switch_back()

    def may_switch(self) -> None:
        """Preempt the thread before one of its calls, if the environment chooses so. The order of these calls is all
        that other threads and processes can see of it. To be called in the thread."""
        world = self.world
        if self.killed or world.reaching_out:
            return
        self._calls += 1
        if self._calls > CALLS_MAX:
            self._end_slice()
        elif self._is_preempted("thread.switch", self.who):
            self._yield()

    def may_switch_before(self, function: str, line: int) -> None:
        """Preempt the thread if the environment chooses so, before a source line of the user's code: the line numbered
        `line` in the function named `function`. To be called in the thread."""
        if self.killed or self.world.reaching_out:
            return
        self._lines += 1
        if self._lines > _SLICE_LINES:
            self._end_slice()
            return
        who = nth(f"{self.who}~{function}", line)
        visits = self._visits[who] = self._visits.get(who, 0) + 1
        if visits <= _VISITS and self._is_preempted("thread.line", who):
            self._yield()

    def _is_preempted(self, kind: str, who: str) -> bool:
        return schedule_switch(self.process, self.world.scheduler, kind, who, self, self.resume_when_running)

    def _end_slice(self) -> None:
        """Preempt a thread that has made many calls without blocking, since it may be spinning until another one has
        run."""
        world = self.world
        self._calls = self._lines = 0
        world.count_steps(CALLS_MAX, f"thread {self.name!r}")
        world.scheduler.at(world.scheduler.clock.now + MILLISECOND, self.resume_when_running)
        self._yield()

    def _yield(self) -> None:
        self.preempted = True
        try:
            self._switch_back()
        finally:
            self.preempted = False

    def delay(self, kind: str, who: str, subject: object) -> None:
        """Suspend the thread for the usual time, or for as much longer as the environment chooses, at a choice point of
        the kind `kind` named `who`. To be called in the thread."""
        schedule_delayed(self.process, self.world.scheduler, kind, who, subject, self.resume_when_running)
        self._switch_back()

    def _switch_back(self) -> None:
        self._check_killed()  # nobody resumes it again: an executor's thread has swallowed it with the job before
        self._back.release()
        real_acquire(self._go)
        self._calls = self._lines = 0
        self._check_killed()

    def resume(self) -> None:
        """Switch to the thread, and wait until it has ended or is suspended again."""
        previous, self.world.current = self.world.current, self.process
        self._go.release()
        try:
            real_acquire(self._back)  # for ever, were there no watchdog (simloop/simulation/watchdog.py)
            if self.over and self.join_real is not None:
                self.join_real()
                # Its owner, which knows it, is left to no collector.
                self.join_real = self.on_lost = None
                if not self.killed:
                    self.after_kill = None
        finally:
            self.world.current = previous

    def resume_when_running(self) -> None:
        """Resume the thread; if its process is stopped, after SIGCONT. If its process is gone, unwind it, so that it
        holds no lock that is shared with others in this interpreter."""
        process = self.process
        if process.stopped:
            self.world.scheduler.when(lambda: not process.stopped, self.resume_when_running)
        elif process.alive:
            self.resume()
        elif not self.over and not self.killed:
            self.kill()

    def park(
        self, done: Callable[[], bool], deadline_ns: int | None, is_blocked: Callable[[], bool] | None = None
    ) -> bool:
        """Block the calling thread until ``done()`` is True or the deadline is reached, while the world continues.
        Returns True unless the deadline came first. For `is_blocked` see `Scheduler.when`."""
        clock = self.world.scheduler.clock
        while not done():
            if deadline_ns is not None and clock.now >= deadline_ns:
                return False
            self._check_killed()  # it may have swallowed what ended its last wait
            self._sleep(done, deadline_ns, is_blocked)
        return True

    def pause(self) -> None:
        """Let other threads and processes run, then continue. To be called in the thread."""
        self._sleep(lambda: True, None)

    def _sleep(
        self, done: Callable[[], bool], deadline_ns: int | None, is_blocked: Callable[[], bool] | None = None
    ) -> None:
        """Suspend the thread until ``done()`` is True or the deadline is reached."""
        scheduler, process = self.world.scheduler, self.process
        ended = False

        def wake() -> None:
            nonlocal ended
            if not ended and not self.over:
                ended = True
                self.resume_when_running()

        def ready() -> bool:
            return ended or not process.alive or done()

        if deadline_ns is not None:
            scheduler.at(deadline_ns, wake)
        if deadline_ns is None and is_blocked is not None:
            scheduler.when(ready, wake, process, is_blocked)
        else:
            scheduler.when(ready, wake)
        self._switch_back()

    def _check_killed(self) -> None:
        if self.killed:
            raise ThreadKilled

    def kill(self) -> None:
        """Unwind the thread, at the end of its process or of the world."""
        self.killed = True
        if self.on_kill is not None:
            self.on_kill()
        if not self.lost:
            self.resume()
        elif self.on_lost is not None:
            self.on_lost()
        if self.after_kill is not None:
            self.after_kill()
            self.after_kill = None


def end_threads(world: Owner, processors: Collection[int]) -> None:
    """Unwind the threads of `world` that are still suspended, at its end. Its own thread is bound to one of
    `processors` no longer."""
    try:
        for thread in list(world.threads.values()):
            if thread is not None:
                thread.kill()
    finally:
        unbind(processors)


def is_parked(frame: FrameType) -> bool:
    """Return True if `frame`, the innermost frame of a thread, is that of a suspended simulated thread."""
    return frame.f_code.co_filename == __file__
