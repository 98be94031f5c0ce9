"""Base class of event loops that the scheduler runs by single turns, nested in other processes' waits."""

from __future__ import annotations

import asyncio
import sys
from _thread import get_ident
from asyncio import events, tasks, unix_events
from collections import deque
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING, Any

from simloop.errors import SimulationError
from simloop.kernel.clock import SECOND, STEP_CPU_NS, Clock
from simloop.kernel.process.process import ProcessGone
from simloop.kernel.scheduler import CONTENDERS_MAX, LATE_MAX_NS, TimerRace
from simloop.loop.timers import deadlines_between, timer_due

if TYPE_CHECKING:
    from simloop.kernel.epoll import SimSelector
    from simloop.kernel.process.process import Process
    from simloop.kernel.process.threads import SimThread
    from simloop.kernel.scheduler import Scheduler
    from simloop.loop.registry import ResourceRegistry
    from simloop.world.world import World

# Since Python 3.14 the running task is kept by thread, no longer by loop: whoever runs another loop in the middle of a
# step, or none, sets it aside (swap_current_task in Modules/_asynciomodule.c).
_swap_task: Any = tasks._swap_current_task if sys.version_info >= (3, 14) else None  # type: ignore[attr-defined]


# Not `asyncio.SelectorEventLoop`, in whose place a shim may be.
class SteppedLoop(unix_events._UnixSelectorEventLoop):
    """Selector loop that the scheduler can step, nested in the test's waits. It handles Ctrl-C as `asyncio.run`
    does."""

    world: World
    process: Process
    resources: ResourceRegistry
    #: Task that `asyncio.run` would run in this loop.
    main_task: asyncio.Task[Any] | None = None
    _ready: Any
    _selector: SimSelector
    _default_executor: Any
    _scheduled: list[Any]
    _cancellable: list[Any]
    _closed: bool
    _debug: bool
    _stopping: bool
    _thread_id: int | None
    _candidates: Any
    _clock: Clock
    _scheduler: Scheduler
    last_turn: int
    #: True once it runs by single turns.
    stepped: bool
    timers: Sized
    # What was current when the turn that goes on began: process, running loop, its task, and its hooks.
    _outside: tuple[Process, Any, Any, Any]
    # Task in the middle of which it blocks.
    _suspended: Any = None
    _timer_names: Callable[[Any], str]
    #: When the poll in which it waits times out; None if it has no timer, or that was not asked since its last turn.
    _polls_until_ns: int | None
    #: False once the environment has been asked how late that poll returns.
    _may_be_late: bool
    #: Called as ``on_stop(quiet)`` after a turn that stopped this loop; set for loops that run by single turns, and not
    #: in run_forever. `quiet` is True if the loop is known to be quiet.
    on_stop: Callable[[bool], None] | None = None
    #: Future for which such a loop runs: it stops once that is done.
    until: asyncio.Future[Any] | None = None
    #: Called with what breaks out of a turn of such a loop: a signal handler's exception, or `SystemExit`.
    on_break: Callable[[BaseException], None] | None = None
    #: The simulated thread that runs it, if it is not the process's main one.
    thread: SimThread | None
    #: Number of times that Ctrl-C has come while there was a main task.
    interrupts = 0

    def run_forever(self) -> None:
        self.thread = self.world.threads.get(get_ident())
        try:
            super().run_forever()
        finally:
            self.thread = None

    def _poll_in_thread(self, thread: SimThread, timeout: float | None) -> None:
        """Poll in a loop that a simulated thread runs: the thread is parked, and all others run meanwhile."""
        self.poll_until(self._scheduler.poll_deadline(timeout))
        thread.pause()
        while not thread.park(self.has_work, self.deadline_ns()):
            pass  # it is late

    def stop(self) -> None:
        super().stop()
        self._scheduler.run_queue.look_at(self)

    def tell(self, notice: Callable[[], None] | None) -> bool:
        from simloop.kernel.run_queue import NoticedDict, NoticedQueue

        ready, candidates = self._ready, self._candidates
        if notice is not None and type(ready) is deque and not ready and not self._selector.get_map():
            self._ready = ready = NoticedQueue()
            self._candidates = self._selector.candidates = candidates = NoticedDict()
        if type(ready) is not NoticedQueue:
            return False
        ready.notice = candidates.notice = notice
        return True

    def queues(self) -> tuple[Sized, Sized]:
        return self._ready, self._candidates

    def takes_turns(self) -> bool:
        return self._thread_id is not None and self.thread is None

    def has_work(self) -> bool:
        if self._ready or self._stopping or (self._candidates and self._selector.has_ready()):
            return True
        if self.process.signals:
            return True
        if not self._scheduled:
            return False
        due = self._polls_until_ns or self.deadline_ns()
        return due is not None and due <= self._clock.now and not (self._may_be_late and self._is_late())

    def poll_until(self, deadline_ns: int | None) -> None:
        self._polls_until_ns = deadline_ns
        self._may_be_late = True

    def deadline_ns(self) -> int | None:
        if self._polls_until_ns is None and self._scheduled:
            # It has polled since its last turn, which another loop's wait has run.
            self._drop_cancelled_timers()
            if self._scheduled:
                timeout = self._scheduled[0]._when - self._clock.now / SECOND
                self.poll_until(self._scheduler.poll_deadline(timeout))
        return self._polls_until_ns

    def _is_late(self) -> bool:
        """Let the environment delay the return of a poll that has timed out until another timer is due. True if so."""
        self._may_be_late = False
        scheduled = self._scheduled
        scheduler = self._scheduler
        if len(scheduled) == 1 and len(scheduler.loops) == 1:
            return False
        now, slack_ns = self._clock.now, min(LATE_MAX_NS, scheduler.max_stall_ns)
        times = deadlines_between(scheduled, now, now + slack_ns) if self._has_second(slack_ns) else []
        if len(scheduler.loops) > 1 and (others := scheduler.others_done(self, now + slack_ns)):
            times = sorted({*times, *others})[:CONTENDERS_MAX]
        if not times:
            return False
        subject = TimerRace(scheduler, self, times)
        answer = scheduler.choices.choose(self._timer_names(scheduled[0]), "poll.late", 1 + len(times), subject)
        if answer:
            self._polls_until_ns = times[answer - 1] + 1
        return answer != 0

    def deadlines_between(self, start_ns: int, end_ns: int) -> list[int]:
        return deadlines_between(self._scheduled, start_ns, end_ns) if self._scheduled else []

    def _has_second(self, slack_ns: int) -> bool:
        """Return True if a second timer of this loop is due within `slack_ns`: mostly there is none, which is soon
        seen."""
        scheduled = self._scheduled
        size = len(scheduled)
        limit = (self._clock.now + slack_ns) / SECOND
        return size > 1 and (scheduled[1]._when <= limit or (size > 2 and scheduled[2]._when <= limit))

    def next_timer(self) -> Any:
        return self._scheduled[0]

    def timer_due(self, due_ns: int) -> Any:
        """Return a timer of this loop that is due at exactly `due_ns`, or None."""
        return timer_due(self._scheduled, due_ns)

    def is_kept(self) -> bool:
        if not self.takes_turns():
            return False
        # A program may be a synchronous one, which has a loop only because the simulation gives it one.
        return not self.stepped or bool(self._scheduled) or len(self.resources.pending_tasks()) > 1

    def idle_arrival(self) -> bool:
        return bool(self._cancellable) and self._cancel_from_outside() != 0

    def _cancel_from_outside(self) -> int:
        raise NotImplementedError

    def _set_asyncgen_hooks(self) -> None:
        raise NotImplementedError

    def _drop_cancelled_timers(self) -> None:
        raise NotImplementedError

    def is_quiet(self) -> bool:
        """Return True when the loop is idle, without resources that a few more turns could end, and has nothing to
        report."""
        if self._ready or self._default_executor is not None or self._selector.get_map():
            return False
        return self.resources.is_empty()

    def lose_power(self) -> None:
        self.resources.stop()
        # The turn that may be going on, further down the stack, still takes its batch from the queue.
        for handle in self._ready:
            handle._cancelled = True
        self._scheduled.clear()
        self._cancellable.clear()
        self.resources.forget_transports()
        self.world.scheduler.remove(self)

    def run_turn(self) -> None:
        """Run one turn of the loop, nested in another process's wait."""
        self._begin_turn()
        try:
            process = self.process
            steps = process.steps
            self._run_once()  # type: ignore[attr-defined]
            if process.host.slowness != 1 and (steps := process.steps - steps):
                # What its steps take longer than elsewhere: it is as busy as in a call that blocks.
                more_ns = steps * STEP_CPU_NS * (process.host.slowness - 1)
                try:
                    self.world.block(lambda: False, more_ns / SECOND, warn=False)
                except ProcessGone:
                    return
            if self._stopping:
                if self.on_stop is not None:
                    self._stopping = False
                    self.on_stop(False)
            elif self.until is not None and self.until.done():
                if not self.until.cancelled():
                    self.until.exception()  # it is raised where the result is asked for: nobody need be told of it
                self.until = None
                # As run_until_complete() of Lib/asyncio/base_events.py, the loop stops with its next turn, in which
                # what is queued by now still runs.
                self._stopping = True
                if self.on_stop is not None and self.is_quiet():
                    self._stopping = False
                    self.on_stop(True)
        except BaseException as error:
            if self.on_break is None or not self._is_its_own(error):
                raise
            self.on_break(error)
        finally:
            self._end_turn()
            self._polls_until_ns = None

    def _begin_turn(self) -> None:
        """Make the loop the running one, and its process the current one."""
        world = self.world
        running = events._get_running_loop()
        task = _swap_task(running, None) if _swap_task is not None and running is not None else None
        # The hooks of the loop whose turn this one is in the middle of find this one. To set them has its price: the
        # interpreter announces it to audit hooks.
        hooks = None if type(running) is type(self) else sys.get_asyncgen_hooks()
        self._outside = world.current, running, task, hooks
        world.current = self.process
        events._set_running_loop(self)
        if hooks is not None:
            self._set_asyncgen_hooks()
        if self._debug:
            self._thread_id = get_ident()  # a stack may be a thread

    def _end_turn(self) -> None:
        self.world.current, running, task, hooks = self._outside
        if hooks is not None:
            sys.set_asyncgen_hooks(*hooks)
        events._set_running_loop(running)
        if task is not None:
            _swap_task(running, task)

    def suspend(self) -> None:
        self._suspended = None if _swap_task is None else _swap_task(self, None)
        self._end_turn()

    def resume(self) -> None:
        self._begin_turn()
        if self._suspended is not None:
            _swap_task(self, self._suspended)
            self._suspended = None

    def _is_its_own(self, error: BaseException) -> bool:
        """Return True if `error` ends this process alone, and neither the whole run nor, by Ctrl-C, the session."""
        if isinstance(error, KeyboardInterrupt):
            return error is self.process.broken_by
        return not isinstance(error, SimulationError)

    def run_by_turns(self, on_stop: Callable[[bool], None], on_break: Callable[[BaseException], None]) -> None:
        """Mark the loop as running from now on, by calls of `run_turn` alone."""
        self._thread_id = get_ident()
        self.stepped = True
        self._scheduler.step(self)
        self.on_stop, self.on_break = on_stop, on_break

    def end_turns(self) -> None:
        self._thread_id = None
        self.on_stop = self.on_break = self.until = None
        self.close()

    def interrupt(self, *_: object) -> None:
        """Handle SIGINT if the program has no handler for it, as Runner._on_sigint() does (Lib/asyncio/runners.py)."""
        self.interrupts += 1
        task = self.main_task
        if self.interrupts > 1 or task is None or task.done():
            raise KeyboardInterrupt
        task.cancel()

    def was_interrupted(self, task: asyncio.Task[Any]) -> bool:
        """Return True if the main task was cancelled by Ctrl-C, and by nothing else."""
        return self.interrupts > 0 and task.cancelled() and task.uncancel() == 0
