"""Base class of event loops whose polls wait in the simulated scheduler, which asks if they have work."""

from __future__ import annotations

import asyncio
import functools
from _thread import get_ident
from asyncio import unix_events
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING, Any

from simloop.kernel.clock import SECOND, Clock
from simloop.kernel.scheduler import CONTENDERS_MAX, LATE_MAX_NS, TimerRace

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.kernel.process.threads import SimThread
    from simloop.kernel.scheduler import Scheduler
    from simloop.loop.registry import ResourceRegistry
    from simloop.world.world import World

#: As in Lib/asyncio/base_events.py.
MAXIMUM_SELECT_TIMEOUT = 24 * 3600


# Not `asyncio.SelectorEventLoop`, in whose place a shim may be.
class PolledLoop(unix_events._UnixSelectorEventLoop):
    """Selector event loop whose polls wait in the scheduler. Ctrl-C cancels its main task, as in `asyncio.run`."""

    world: World
    process: Process
    resources: ResourceRegistry
    #: Main task, as that of `asyncio.run`; None as long as the loop has none.
    main_task: asyncio.Task[Any] | None = None
    _ready: Any
    _selector: Any
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
    #: True once the scheduler runs the loop turn by turn (`simloop.loop.turns`), by the following methods.
    stepped: bool
    run_turn: Any
    suspend: Any
    resume: Any
    tell: Any
    queues: Any
    timers: Sized
    _prefix: str
    #: Time in nanoseconds at which the current poll times out; None if there is no timer, or if it was not computed
    #: since the last turn.
    _polls_until_ns: int | None
    #: True until the environment was asked how late that poll returns.
    _may_be_late: bool
    #: Simulated thread that runs the loop; None if that is the main thread of its process.
    thread: SimThread | None
    #: Number of times that SIGINT (Ctrl-C) was handled by `interrupt`.
    interrupts = 0

    def run_forever(self) -> None:
        self.thread = self.world.threads.get(get_ident())
        try:
            super().run_forever()
        finally:
            self.thread = None

    def _poll_in_thread(self, thread: SimThread, timeout: float | None) -> None:
        """Poll in a loop that runs in the simulated thread `thread`, which is suspended meanwhile, so that others
        run."""
        self.poll_until(self._scheduler.poll_deadline(timeout))
        thread.pause()
        while not thread.park(self.has_work, self.deadline_ns()):
            pass  # it is late

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

    @functools.cached_property
    def _timer_names(self) -> Callable[[Any], str]:
        """Names of the loop's timers for choice points."""
        names: Callable[[Any], str] = racing().TimerNames(self._prefix)
        return names

    def poll_until(self, deadline_ns: int | None) -> None:
        self._polls_until_ns = deadline_ns
        self._may_be_late = True

    def deadline_ns(self) -> int | None:
        if self._polls_until_ns is None and self._scheduled:
            # It has polled since its last turn, which another loop's wait has run.
            self._drop_cancelled_timers()
            if self._scheduled:
                timeout = self._scheduled[0]._when - self._clock.now / SECOND
                self.poll_until(self._scheduler.poll_deadline(min(timeout, MAXIMUM_SELECT_TIMEOUT)))
        return self._polls_until_ns

    def _is_late(self) -> bool:
        """Delay the return of a poll that has timed out until another timer is due, if the environment chooses so.
        Returns True if it does."""
        self._may_be_late = False
        scheduled = self._scheduled
        scheduler = self._scheduler
        if len(scheduled) == 1 and len(scheduler.loops) == 1:
            return False
        now, slack_ns = self._clock.now, min(LATE_MAX_NS, scheduler.max_stall_ns)
        times = racing().deadlines_between(scheduled, now, now + slack_ns) if self._has_second(slack_ns) else []
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
        if not self._scheduled:
            return []
        found: list[int] = racing().deadlines_between(self._scheduled, start_ns, end_ns)
        return found

    def _has_second(self, slack_ns: int) -> bool:
        """Return True if a second timer of this loop may be due within `slack_ns`: a cheap check that is mostly
        False."""
        scheduled = self._scheduled
        size = len(scheduled)
        limit = (self._clock.now + slack_ns) / SECOND
        return size > 1 and (scheduled[1]._when <= limit or (size > 2 and scheduled[2]._when <= limit))

    def next_timer(self) -> Any:
        return self._scheduled[0]

    def timer_due(self, due_ns: int) -> Any:
        """Return a timer of this loop that is due at exactly `due_ns`; None if there is none."""
        return racing().timer_due(self._scheduled, due_ns)

    def has_other_work(self) -> bool:
        if not self.takes_turns():
            return False
        # A program may be a synchronous one, which has a loop only because the simulation gives it one.
        return not self.stepped or bool(self._scheduled) or len(self.resources.pending_tasks()) > 1

    def idle_arrival(self) -> bool:
        return bool(self._cancellable) and self._cancel_from_outside() != 0

    def _cancel_from_outside(self) -> int:
        raise NotImplementedError

    def _drop_cancelled_timers(self) -> None:
        raise NotImplementedError

    def is_quiet(self) -> bool:
        """Return True if nothing is left to do at the end of a run: no callback is queued, no transport, server or
        generator takes further turns (iterations of the loop) to close, and no leak or lost exception is to be told."""
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

    def interrupt(self, *_: object) -> None:
        """Handle SIGINT by cancelling the main task, as Runner._on_sigint() does (Lib/asyncio/runners.py). Used if the
        program has not set a handler."""
        self.interrupts += 1
        task = self.main_task
        if self.interrupts > 1 or task is None or task.done():
            raise KeyboardInterrupt
        task.cancel()

    def was_interrupted(self, task: asyncio.Task[Any]) -> bool:
        """Return True if the main task was cancelled by Ctrl-C only."""
        return self.interrupts > 0 and task.cancelled() and task.uncancel() == 0


@functools.cache
def racing() -> Any:
    """Return the module `simloop.loop.timers`, imported when a timer may first race anything."""
    from simloop.loop import timers

    return timers
