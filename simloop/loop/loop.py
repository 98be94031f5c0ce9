"""Event loop of a simulated process: stock asyncio with the simulated selector.

The private parts of asyncio that it uses or copies are those of CPython 3.11.7, 3.12.1, 3.13.0 and 3.14.5
(Lib/asyncio/base_events.py, selector_events.py, unix_events.py), and `tests/test_asyncio_private.py` fails when one of
them changes.

A turn (iteration of the loop) is that of stock asyncio: poll, append the callbacks of ready I/O, append due timers, run
exactly the callbacks that are queued then. Events from outside enter nowhere else. The environment may choose which
arrivals a poll sees, their order, and how time passes. The profile ``portable`` adds orders that asyncio's
documentation leaves open, and with ``hostile`` any ready task step may run next.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import sys
import warnings
import weakref
from _thread import get_ident
from asyncio import base_events, events, format_helpers, futures, tasks
from collections.abc import Callable, Coroutine, Iterable, Sized
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from simloop.kernel.clock import READ_NS, SECOND, STEP_CPU_NS
from simloop.loop.polls import MAXIMUM_SELECT_TIMEOUT, PolledLoop, racing
from simloop.loop.registry import ResourceRegistry
from simloop.loop.stock_state import CLOCK_RESOLUTION, LateSelector, set_up_stock
from simloop.loop.tasks import OrderedWeakSet, Siblings, SimFuture, SimHandle, SimTask, SimTimerHandle, task_of
from simloop.world import active

if TYPE_CHECKING:
    from simloop.kernel.epoll import SimSelector
    from simloop.kernel.process.process import Process
    from simloop.loop.cancellation import Cancellable, OwnTasks
    from simloop.world.observer import Observer
    from simloop.world.outside import PendingSignal
    from simloop.world.world import World

_new_task = SimTask.__new__
_copy_context = contextvars.copy_context
_weakref = weakref.ref
# Lib/asyncio/base_events.py: when cancelled timers are swept out of the heap.
_MIN_SCHEDULED_TIMER_HANDLES = 100
_MIN_CANCELLED_TIMER_HANDLES_FRACTION = 0.5
#: Number of successive turns (iterations) that do not wait, after which a loop counts as spinning. Such a loop usually
#: waits for time to pass, so from then on each turn takes as much time as on a real machine.
SPINS = 100
_eager_task_factory: Callable[..., Any] | None = getattr(asyncio, "eager_task_factory", None)


class SimLoop(PolledLoop):
    """Event loop of one simulated process: asyncio's selector loop, but with tasks and an implementation of
    ``_run_once`` of its own."""

    # What `SimLoop.__init__` sets: each turn finds it faster in slots, and the dictionary of a new loop is smaller.
    __slots__ = (
        "_cancellable", "_candidates", "_clock", "_lagging", "_may_be_late", "_orphans", "_polls_until_ns",
        "_prefix", "_scheduler", "_selector", "_shuffles", "_sim_numbers", "_task_count", "busy_turns", "last_turn",
        "may_cancel_new", "observer", "process", "resources", "stepped", "thread", "timers", "world",
    )  # fmt: skip

    # What the base classes set and the stubs do not know.
    _ready: Any
    _scheduled: list[Any]
    timers: Sized
    _stopping: bool
    _closed: bool
    _debug: bool
    _timer_cancelled_count: int
    _default_executor: Any
    _task_factory: Any
    _thread_id: int | None
    _coroutine_origin_tracking_enabled: bool
    _signal_handlers: dict[int, Any]

    def __init__(self, world: World, process: Process) -> None:
        set_up_stock(self)
        self.world = world
        self.process = process
        self.last_turn = 0
        self.stepped = False
        self.busy_turns = 0
        self._polls_until_ns = None
        self._may_be_late = True
        self.thread = None  # read in each turn: an attribute of its class would be slower to find
        self.observer: Observer | None = world.observer
        self.timers = self._scheduled
        self._clock = world.scheduler.clock
        self._sim_numbers = 0
        self.resources = ResourceRegistry()
        self._task_count = 0
        # The functions of the tasks that no task has created.
        self._orphans = Siblings()
        self._cancellable: list[Cancellable | PendingSignal] = []
        self._prefix = "" if process is world.root else f"{process.name}/"
        #: Predicate that selects the new tasks which the environment may cancel, in addition to those passed to
        #: `may_cancel`; None for no others.
        self.may_cancel_new = _own_tasks() if world.cancel_own else None
        #: The module `simloop.loop.run_order`, if the profile adds orders to those of stock asyncio; otherwise None.
        self._shuffles: Any = None if world.profile == "cpython" else _run_orders()
        if self._shuffles is not None:
            self._lagging: dict[Any, int] = {}
        self._scheduler = world.scheduler
        self._selector: Any = LateSelector(self)
        self._candidates = {}
        if self.observer is not None:
            # Only a watched loop pays for being watched.
            self.call_soon = self._call_soon_watched  # type: ignore[method-assign]
        process.loop = self
        world.scheduler.add(self)
        for outside in world.outside_signals:
            if outside.matches(process):
                self.let_cancel(outside.at_polls_of(process))

    # --- below asyncio --------------------------------------------------------------------------------

    def make_selector(self) -> SimSelector:
        """Return the selector of the loop, which is made if the loop has none yet."""
        if type(self._selector) is LateSelector:
            from simloop.kernel.epoll import SimSelector

            self._selector = selector = SimSelector(self._scheduler, self.process)
            selector.loop = self
            selector.candidates = self._candidates
        made: SimSelector = self._selector
        return made

    def time(self) -> float:
        """Return the virtual seconds since the simulated machine was booted."""
        return self._clock.read() / SECOND

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def close(self) -> None:
        if not self._closed and self._thread_id is None:
            self.world.scheduler.remove(self)
            self._selector.loop = None
            self.resources.tasks.clear()
            self.main_task = None
            if self._default_executor is None and not self._signal_handlers and not self._debug:
                # What the stock close() does, through three classes, where it finds nothing else to do.
                self._closed = self._executor_shutdown_called = True
                self._ready.clear()
                self._scheduled.clear()
                self._selector.close()
                self._selector = None
                return
        super().close()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        if self._debug or self._closed:
            debugged = super().call_soon(callback, *args, context=context)
            if debugged._source_traceback:  # type: ignore[attr-defined]
                del debugged._source_traceback[-1]  # type: ignore[attr-defined]
            return debugged
        handle: SimHandle = SimHandle()
        handle._context = _copy_context() if context is None else context
        handle._loop = self
        handle._callback = callback
        handle._args = args
        handle._cancelled = False
        handle._repr = handle._source_traceback = None
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        thread = self.world.threads.get(get_ident())
        # The end of an executor's job is a choice already.
        if thread is not None and sys._getframe(1).f_globals is not vars(futures):
            thread.may_switch()
        if not self._debug:
            # Nobody waits in a real poll, to be woken.
            return SimLoop.call_soon(self, callback, *args, context=context)
        debugged = super().call_soon_threadsafe(callback, *args, context=context)
        if debugged._source_traceback:  # type: ignore[attr-defined]
            del debugged._source_traceback[-1]  # type: ignore[attr-defined]
        return debugged

    def _call_soon_watched(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        handle = SimLoop.call_soon(self, callback, *args, context=context)
        if self.observer is not None:
            self.observer.queued(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> events.TimerHandle:
        if self._debug or self._closed or when is None:
            debugged_timer = super().call_at(when, callback, *args, context=context)
            if debugged_timer._source_traceback:  # type: ignore[attr-defined]
                del debugged_timer._source_traceback[-1]  # type: ignore[attr-defined]
            return debugged_timer
        timer = SimTimerHandle(when, callback, args, self, context)
        timer.sim_who = None
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    # --- tasks and futures ----------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return SimFuture(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[Any]:
        factory = self._task_factory
        if factory is not None:
            if factory is not _eager_task_factory:
                # Only what was given: since Python 3.14 the factory gets it as it is.
                if name is not None:
                    kwargs["name"] = name
                if context is not None:
                    kwargs["context"] = context
                return super().create_task(coro, **kwargs)
            kwargs["eager_start"] = True
        if self._closed:
            self._check_closed()  # type: ignore[attr-defined]
        self._task_count = number = self._task_count + 1
        task = _new_task(SimTask)
        task.sim_number = number
        task.sim_children = None
        parent = tasks.current_task(self)
        if type(parent) is SimTask:
            siblings = parent.sim_children
            if siblings is None:
                siblings = parent.sim_children = Siblings()
            task.sim_origin = (parent.sim_origin, siblings, len(siblings), self._prefix)
        else:
            siblings = self._orphans
            task.sim_origin = (None, siblings, len(siblings), self._prefix)
        siblings.append(getattr(coro, "__name__", "?"))
        if name is None:
            # Named per run: asyncio's own counter goes on from run to run.
            name = f"Task-{number}"
        if kwargs:
            task.__init__(coro, loop=self, name=name, context=context, **kwargs)  # type: ignore[misc]
        else:
            task.__init__(coro, loop=self, name=name, context=context)  # type: ignore[misc]
        if self._debug and task._source_traceback:  # type: ignore[attr-defined]
            # As in stock asyncio: it ends with the line that called here.
            del task._source_traceback[-1]  # type: ignore[attr-defined]
        if self.observer is not None:
            self.observer.created(task)
        if self.may_cancel_new is not None and self.may_cancel_new(task):
            self.may_cancel(task)
        resources = self.resources
        references = resources.tasks
        references.append(_weakref(task))
        if len(references) >= resources.limit:
            resources.forget_finished()
        return task

    def create_main(self, coro: Coroutine[Any, Any, Any], context: contextvars.Context) -> asyncio.Task[Any]:
        """Create the main task, whose path in the tree of tasks is ``0``."""
        task = self.create_task(coro, context=context)
        assert isinstance(task, SimTask)
        self._orphans.pop()
        task.sim_origin = (None, self._orphans, -1, self._prefix)
        self.main_task = task
        if self.may_cancel_new is not None:
            self.may_cancel_new.main_is(coro)
        return task

    # --- transports and async generators --------------------------------------------------------------

    @cached_property
    def _asyncgens(self) -> OrderedWeakSet:
        self.resources.asyncgens = found = OrderedWeakSet()
        return found

    @cached_property
    def _transports(self) -> weakref.WeakValueDictionary[int, Any]:
        # As in selector_events.py, but made by the runs that have any.
        found: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.resources.transports = found
        return found

    def _make_read_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self.resources.add_transport(super()._make_read_pipe_transport(*args, **kwargs))  # type: ignore[misc]

    def _make_write_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self.resources.add_transport(super()._make_write_pipe_transport(*args, **kwargs))  # type: ignore[misc]

    def make_write_pipe(self, pipe: IO[bytes], protocol: asyncio.BaseProtocol) -> asyncio.WriteTransport:
        """Return the transport that `connect_write_pipe` creates, without waiting until it is connected."""
        transport: asyncio.WriteTransport = self._make_write_pipe_transport(pipe, protocol)
        return transport

    def forget_pipe(self, fd: int) -> None:
        """Stop watching a descriptor whose pipe transport is closed. A transport that is closed in the turn in which it
        was made begins to watch its descriptor after that, and never stops (`_UnixWritePipeTransport` in
        Lib/asyncio/unix_events.py)."""
        self._remove_reader(fd)  # type: ignore[attr-defined]

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self.resources.add_transport(
            await super()._make_subprocess_transport(*args, **kwargs)  # type: ignore[misc]
        )

    @cached_property
    def _guests(self) -> dict[int, SimLoop]:
        """Loops to which async generators belong that were started while the hooks of this loop were set, but in a turn
        of another one, by the ``id()`` of the generator."""
        return {}

    # The interpreter has one pair of these hooks. A generator keeps the one for its end from when it was begun.

    def _set_asyncgen_hooks(self) -> None:
        # By position: keywords would double the price, which is high enough, since audit hooks are told of it.
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)

    def _asyncgen_firstiter_hook(self, generator: Any) -> None:
        # It may be another process's turn, in the middle of one of this loop.
        loop: Any = events._get_running_loop()
        if isinstance(loop, SimLoop) and loop is not self:
            self._guests[id(generator)] = loop
        else:
            loop = self
            if "_guests" in self.__dict__:
                self._guests.pop(id(generator), None)  # of one that had this address
        asyncio.BaseEventLoop._asyncgen_firstiter_hook(loop, generator)  # type: ignore[attr-defined]

    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        loop: Any = self
        if "_guests" in self.__dict__:
            loop = self._guests.pop(id(generator), self)
        asyncio.BaseEventLoop._asyncgen_finalizer_hook(loop, generator)  # type: ignore[attr-defined]

    async def shutdown_asyncgens(self) -> None:
        self.resources.has_asyncgens()
        await super().shutdown_asyncgens()

    def call_exception_handler(self, context: Any) -> None:
        # What the collector finds of an earlier run is no news of the one that goes on.
        if self.process.alive and (active.entered is None or active.entered is self.world):
            super().call_exception_handler(context)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads of the default executor. Unlike the stock version, this needs no additional thread for
        it."""
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        executor.shutdown(wait=False)

        def over() -> bool:
            return not any(thread.is_alive() for thread in executor._threads)

        if over():
            return
        idle = self.create_future()
        self.world.scheduler.when(over, lambda: None if idle.done() else idle.set_result(None))
        try:
            async with asyncio.timeout(timeout):
                await idle
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )

    # --- the end --------------------------------------------------------------------------------------

    def stop_running(self) -> None:
        """Mark the loop as not running."""
        self._thread_id = None

    def discard(self) -> None:
        """Close the loop of a process that was killed or lost power, without reporting anything."""
        self.main_task = None
        self._ready.clear()
        self.make_selector().loop = None
        self._closed = True

    # --- cancellations from outside -------------------------------------------------------------------

    def may_cancel(self, task: asyncio.Task[Any]) -> None:
        """Declare that the environment may cancel `task`, once, at any poll of the loop from now on."""
        from simloop.loop.cancellation import Cancellable

        if not any(isinstance(entry, Cancellable) and entry.task is task for entry in self._cancellable):
            self.let_cancel(Cancellable(task))

    def let_cancel(self, entry: Cancellable | PendingSignal) -> None:
        self._cancellable.append(entry)
        self.world.scheduler.idle_arrivals = True

    # --- the turn -------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        # The hot path of every run: measure before you change it (benchmarks/), and see that the oracle
        # still agrees (tests/oracle/).
        scheduled = self._scheduled
        if scheduled and self._timer_cancelled_count:
            self._drop_cancelled_timers()
        ready = self._ready
        queued = len(ready)
        # A turn costs one look at the clock, however often it looks: a loop that spins must see time pass.
        clock = self._clock
        clock.now += READ_NS
        timeout: float | None
        if queued or self._stopping:
            timeout = 0
            self.busy_turns = busy = self.busy_turns + 1
            if busy > SPINS:
                clock.now += STEP_CPU_NS
            if scheduled:
                self._maybe_stall()
        elif scheduled:
            self.busy_turns = 0
            timeout = scheduled[0]._when - clock.now / SECOND
            timeout = 0 if timeout < 0 else min(timeout, MAXIMUM_SELECT_TIMEOUT)
        else:
            self.busy_turns = 0
            timeout = None
        world = self.world
        process = self.process
        choices = world.choices
        marks = 0
        scheduler = self._scheduler
        arrivals = scheduler.arrivals
        if self.thread is not None:
            self._poll_in_thread(self.thread, timeout)
        elif (
            timeout == 0
            and not (arrivals and arrivals[0][0] <= clock.now)
            and not scheduler.held
            and not scheduler.parked
            and len(scheduler.loops) == 1
        ):
            # All that poll() would do: in most turns of most runs nothing arrives, and there is nobody else.
            scheduler.turn = self.last_turn = scheduler.turn + 1
        else:
            scheduler.poll(self, timeout)
        if process.signals and self.thread is None:
            world.userland.handle(world, process, at_poll=True)
        if self._candidates and (found := self._selector.collect()):
            if self._shuffles is not None:
                for event in found:
                    before = len(ready)
                    self._process_events([event])  # type: ignore[attr-defined]
                    self._shuffles.swap_handlers(ready, before, self.process.name, choices.order)
            else:
                self._process_events(found)  # type: ignore[attr-defined]
            for key, mask in found:
                marks = hash((marks, key.fd, mask))
        if self._cancellable:
            marks += self._cancel_from_outside()
        if scheduled:
            self._collect_due_timers()
        ntodo = len(ready)
        if ntodo > queued:
            # Between arrivals a loop decides nothing: what arrived after how many steps is its whole order.
            process.order = hash((process.order, process.steps + queued, ntodo - queued, marks))
            choices.step_digest += clock.now
        if self._shuffles is not None:
            ask = choices.order
            ntodo -= self._shuffles.shuffle_batch(ready, queued, world.profile, process.name, ask, self._lagging)
        process.steps += ntodo
        world.steps = steps = world.steps + ntodo
        choices.step_digest += steps
        if steps > world.last_step:
            raise world.error_at_end(scheduler.activity())
        if self._debug or self.observer is not None:
            self._run_batch_watched(ntodo)
            return
        while ntodo:
            ntodo -= 1
            handle = ready.popleft()
            if not handle._cancelled:
                # Handle._run(), without the call.
                args = handle._args
                try:
                    # Most have none, or one: to unpack them costs as much as all else here.
                    if not args:
                        handle._context.run(handle._callback)
                    elif len(args) == 1:
                        handle._context.run(handle._callback, args[0])
                    else:
                        handle._context.run(handle._callback, *args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._callback_failed(handle, error)
        # As in stock asyncio: no reference to the last handle outlives the turn.
        handle = args = None

    def _callback_failed(self, handle: Any, error: BaseException) -> None:
        """Pass an exception of a callback to the exception handler, as Handle._run() does (Lib/asyncio/events.py)."""
        callback = format_helpers._format_callback_source(handle._callback, handle._args)
        message = f"Exception in callback {callback}"
        self.call_exception_handler({"message": message, "exception": error, "handle": handle})

    def run_to_end(self, futures: Iterable[asyncio.Future[Any]]) -> Any:
        """Run the loop until each of `futures` is done, one after another, and return the result of the last one, or
        raise the first exception. As with a call of ``run_until_complete`` for each, the loop makes one more turn
        (iteration) after each future is done: the one in which the stock loop stops."""
        result = None
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
        try:
            for future in futures:
                if self._debug:
                    self._set_coroutine_origin_tracking(True)  # type: ignore[attr-defined]
                self._thread_id = get_ident()
                events._set_running_loop(self)
                try:
                    done, turn = future.done, self._run_once
                    while not done():
                        turn()
                        if self._stopping:
                            break
                    if not done():
                        raise RuntimeError("Event loop stopped before Future completed.")
                    self._stopping = True  # so that the poll of the last turn does not wait
                    turn()
                finally:
                    self._stopping = False
                    self._thread_id = None
                    events._set_running_loop(None)
                    if self._coroutine_origin_tracking_enabled:
                        self._set_coroutine_origin_tracking(False)  # type: ignore[attr-defined]
                result = future.result()
        finally:
            sys.set_asyncgen_hooks(*hooks)
        return result

    def _collect_due_timers(self) -> None:
        scheduled = self._scheduled
        end_time = self._clock.now / SECOND + CLOCK_RESOLUTION
        if not scheduled or scheduled[0]._when >= end_time:
            return
        due = []
        while scheduled and scheduled[0]._when < end_time:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            due.append(handle)
        if len(due) > 1:
            due = racing().order_timers(due, self.world.profile, self._timer_names, self.world.choices.order)
        self._ready.extend(due)

    def _drop_cancelled_timers(self) -> None:
        scheduled = self._scheduled
        size = len(scheduled)
        if (
            size > _MIN_SCHEDULED_TIMER_HANDLES
            and self._timer_cancelled_count / size > _MIN_CANCELLED_TIMER_HANDLES_FRACTION
        ):
            kept = []
            for handle in scheduled:
                if handle._cancelled:
                    handle._scheduled = False
                else:
                    kept.append(handle)
            heapq.heapify(kept)
            # In place: the turn holds on to the list.
            scheduled[:] = kept
            self._timer_cancelled_count = 0
        else:
            while scheduled and scheduled[0]._cancelled:
                self._timer_cancelled_count -= 1
                heapq.heappop(scheduled)._scheduled = False

    def _maybe_stall(self) -> None:
        """Let time pass while callbacks are ready, if the environment chooses so: until one of the next timers is due,
        as if a step had been slow."""
        scheduler = self.world.scheduler
        timer = self._scheduled[0]
        try:
            gap = int(timer._when * SECOND) + 1 - self._clock.now
        except (OverflowError, ValueError):
            return  # sleep(math.inf), which is never due
        if 0 < gap <= scheduler.max_stall_ns:
            now = self._clock.now
            contenders_ns = racing().deadlines_between(self._scheduled, now, now + scheduler.max_stall_ns)
            answer = self.world.choices.choose(self._timer_names(timer), "cpu.stall", 1 + len(contenders_ns), self)
            if answer:
                self._clock.now = contenders_ns[answer - 1] + 1

    def _cancel_from_outside(self) -> int:
        """Ask, at choice points, which tasks are cancelled and which signals are sent from outside during this poll.
        The call of ``task.cancel()`` is put into the ready queue, as the callback of a ready file is. Returns a number
        that identifies the cancellations and signals, for the run's fingerprint: 0 if there were none."""
        marks = 0
        for entry in list(self._cancellable):
            if entry.done():
                self._cancellable.remove(entry)
            elif entry.ask(self.world.choices):
                self._cancellable.remove(entry)
                entry.arrive(self)
                marks += 1 + entry.stable_id()
        return marks

    def _run_batch_watched(self, ntodo: int) -> None:
        """Run the first `ntodo` queued callbacks in debug mode, or with an observer."""
        observer = self.observer
        for _ in range(ntodo):
            handle = self._ready.popleft()
            if handle._cancelled:
                continue
            if observer is not None:
                observer.before(self, handle)
            try:
                self._current_handle = handle
                if self._debug:
                    began = self.time()
                    handle._run()
                    self._warn_of_slow(handle, self.time() - began)
                else:  # a watched run must not look at the clock, which would move it
                    handle._run()
            finally:
                self._current_handle = None
            if observer is not None:
                observer.after(self, handle)
        # As in stock asyncio: a traceback may keep this frame, and must not keep the handle with it.
        handle = None

    def _warn_of_slow(self, handle: Any, took: float) -> None:
        """Log asyncio's warning if a callback blocked its loop for too long; `took` is virtual seconds."""
        if took >= self.slow_callback_duration:
            task = task_of(handle)
            what = repr(task) if task is not None else str(handle)
            # The module's own name for it, which is what tests replace.
            base_events.logger.warning("Executing %s took %.3f seconds", what, took)  # type: ignore[attr-defined]

    def ready_handles(self) -> Iterable[events.Handle]:
        """Return the handles of the queued callbacks, in the order in which they run."""
        ready: Iterable[events.Handle] = self._ready
        return ready


def _run_orders() -> Any:
    # Most runs are of the profile `cpython`.
    from simloop.loop import run_order

    return run_order


def _own_tasks() -> OwnTasks:
    # Few runs let the environment cancel anything.
    from simloop.loop.cancellation import OwnTasks

    return OwnTasks()
