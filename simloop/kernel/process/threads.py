"""Simulated threads, of which one runs at a time.

A simulated thread is a real one, because what it runs may look at thread-local state and may block in the middle; but
it only ever runs while the scheduler waits for it, so there is no real concurrency and no timing but the simulated one.
When it starts, and when the result of an executor's job is seen, are choices.

A thread may block on whatever goes through the world: sleeping, sockets, files, locks and all that is made of them.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from simloop.choices.choices import nth
from simloop.kernel.clock import MILLISECOND
from simloop.kernel.process.delays import CALLS_MAX, schedule_delayed, schedule_switch
from simloop.kernel.process.real_threads import real_acquire

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.kernel.scheduler import Scheduler


# Number of lines of the user's own code in a time slice, where threads are preempted between these, too.
_SLICE_LINES = 2000
# Number of visits of one line at which a thread may be preempted: later rounds of a loop are like the first ones.
_VISITS = 100


class Owner(Protocol):
    """Protocol of the world, as its threads see it."""

    scheduler: Scheduler
    current: Process
    #: Threads of the world by real thread identifier; None stands for its main thread.
    threads: dict[int, SimThread | None]

    def count_steps(self, number: int, who: str) -> None:
        """Add to the run's number of steps. Raises `StepLimitError` beyond the limit."""

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
        #: What the choice points of its next calls are called by: the thread, or the job that it runs.
        self.who = name
        #: Nanoseconds of processor time that it has spent on looking at clocks.
        self.looked_ns = 0
        self.ident = 0
        process.threads_made += 1
        #: Id as gettid(2) gives it, of no other thread or process.
        self.native_id = process.pid + (process.threads_made << 23)
        #: Number of calls since it was last resumed.
        self._calls = 0
        self._lines = 0
        #: Number of visits of each line, by its name at choice points.
        self._visits: dict[str, int] = {}
        self._go = _thread.allocate_lock()
        self._back = _thread.allocate_lock()
        real_acquire(self._go)
        real_acquire(self._back)
        #: True while it runs what it was started for, and not what the module `threading` does before and after.
        self.at_work = False
        #: True for one that Python does not wait for at the end of its process.
        self.daemon = True
        #: True once its process or its world is over, and it has to end.
        self.killed = False
        #: True once it has ended.
        self.over = False
        #: True while others go first although it could go on.
        self.preempted = False
        #: True if it waits for something outside of the world, and was given up.
        self.lost = False
        #: Called when the world ends without it.
        self.on_lost: Callable[[], None] | None = None
        #: Called when the thread is killed, before it unwinds, and after that.
        self.on_kill: Callable[[], None] | None = None
        self.after_kill: Callable[[], None] | None = None
        #: Waits for the real thread, which clears up after its work: values local to the thread are finalized.
        self.join_real: Callable[[], None] | None = None

    def start(self, starter: Callable[[Callable[[], None]], Any], work: Callable[[], None]) -> Any:
        """Make the real thread, by ``starter(main)``, which runs `work` from the first `resume` on. Returns what
        `starter` returns."""

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

        self.world.reaching_out = True
        try:
            made = starter(main)
        finally:
            self.world.reaching_out = False
        # Known before it runs, so that it ends with its world in any case.
        self.ident = made if isinstance(made, int) else made.ident
        self.world.threads[self.ident] = self
        return made

    def begin(self) -> None:
        """Delay the start of the thread for as long as the environment chooses: whoever starts a thread waits for it,
        so it mostly runs at once. Called in the thread."""
        who = f"{self.process.name} thread"
        act = self.resume_when_running
        if schedule_delayed(self.process, self.world.scheduler, "thread.start", who, self, act, None):
            self._switch_back()

    def may_switch(self) -> None:
        """Preempt the thread if the environment chooses so: it may take the processor away at any time, and what others
        see of it is the order of calls. Called in the thread, before each of its calls."""
        world = self.world
        if self.killed or world.reaching_out:
            return
        self._calls += 1
        if self._calls > CALLS_MAX:
            self._end_slice()
        elif self._is_preempted("thread.switch", self.who):
            self._yield()

    def may_switch_before(self, function: str, line: int) -> None:
        """Preempt the thread if the environment chooses so, before a line of the user's own code, which is given by its
        number in its function. Called in the thread."""
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
        """Preempt a thread that has made many calls without blocking: it may spin until others have run."""
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
        """Park for the usual time, or as much longer as the environment chooses. Called in the thread."""
        schedule_delayed(self.process, self.world.scheduler, kind, who, subject, self.resume_when_running)
        self._switch_back()

    def _switch_back(self) -> None:
        self._check_killed()  # nobody resumes it again: an executor's thread has swallowed it with the job before
        self._back.release()
        real_acquire(self._go)
        self._calls = self._lines = 0
        self._check_killed()

    def resume(self) -> None:
        """Switch to the thread, and wait until it has ended or parks again."""
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
        """Resume the thread, unless its process is stopped: then it stays parked, until SIGCONT. If its process is
        gone, it is unwound, so that it holds no lock that others share in this interpreter."""
        process = self.process
        if process.stopped:
            self.world.scheduler.when(lambda: not process.stopped, self.resume_when_running)
        elif process.alive:
            self.resume()
        elif not self.over and not self.killed:
            self.kill()

    def park(self, done: Callable[[], bool], deadline_ns: int | None) -> bool:
        """Block the calling thread until ``done()`` or the deadline, while the world runs on. Returns ``done()``."""
        clock = self.world.scheduler.clock
        while not done():
            if deadline_ns is not None and clock.now >= deadline_ns:
                return False
            self._check_killed()  # it may have swallowed what ended its last wait
            self._sleep(done, deadline_ns)
        return True

    def pause(self) -> None:
        """Yield: let other threads and processes run. Called in the thread."""
        self._sleep(lambda: True, None)

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


def is_parked(frame: FrameType) -> bool:
    """Return True if a simulated thread is parked, by its innermost frame."""
    return frame.f_code.co_filename == __file__
