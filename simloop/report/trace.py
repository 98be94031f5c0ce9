"""Watches one run: every step of every task, where it went from where to where, when, and what woke it.

Runs that explore are not watched, and pay nothing for this: a failing schedule is run again with a `Trace`.
"""

from __future__ import annotations

import asyncio
import traceback
from asyncio import events
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simloop.checks.waiting import Place, caller, is_users, stack_of, users_place, wakes
from simloop.choices import Answer
from simloop.loop import SimLoop
from simloop.outside import Cancellable, is_timeout, waiting_for
from simloop.report.story import name_of, tell
from simloop.tasks import SimTask, coroutine_of, path_of, task_of

#: After so many steps a run is no longer recorded: nobody reads that far.
MAX_STEPS = 100_000


@dataclass(frozen=True)
class Actor:
    """A task, as the report names it."""

    path: str
    name: str


@dataclass
class Step:
    """One step of a task: from where it was resumed to where it waited again, or ended."""

    actor: Actor
    #: The how-manieth step of its task.
    number: int
    #: Virtual seconds since the run began.
    time: float
    #: What let it go on, in a few words.
    woken_by: str
    start: Place | None
    end: Place | None = None
    #: How it ended, when it did not simply wait again.
    ending: str = ""
    #: What it waits for at its end, in words.
    waits_for: str = ""
    #: Whether it was resumed with a CancelledError.
    cancelled: bool = False

    def same_as(self, other: Step) -> bool:
        """Whether it went the same way, at whatever time."""
        return (
            self.actor.path == other.actor.path
            and self.start == other.start
            and self.end == other.end
            and self.ending == other.ending
            and self.cancelled == other.cancelled
        )


@dataclass(frozen=True)
class Deviation:
    """A deviation and where among the steps it was taken."""

    answer: Answer
    sentence: str
    #: How many steps had begun by then.
    at: int
    #: The task that it is about, if there is one.
    actor: Actor | None


@dataclass
class _Cause:
    """Why a callback was queued."""

    words: str
    actor: Actor | None = None


@dataclass
class Trace:
    """Observer and tracer of one run (`simloop.choices.Observer`, `simloop.loop.Tracer`)."""

    steps: list[Step] = field(default_factory=list)
    deviations: list[Deviation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._made_at: dict[SimTask, Place] = {}
        self._actors: dict[str, Actor] = {}
        self._counts: dict[str, int] = {}
        # By id, with the handle kept alive: handles compare by value.
        self._causes: dict[int, tuple[events.Handle, _Cause]] = {}
        self._cancelled: set[asyncio.Task[Any]] = set()
        self._current: _Cause | None = None
        self._step: Step | None = None

    @property
    def sentences(self) -> list[str]:
        return [deviation.sentence for deviation in self.deviations]

    def beyond_stock(self, profile: str) -> str:
        """The verdict on a run that needs an order which stock asyncio never has."""
        beyond = [deviation for deviation in self.deviations if deviation.answer.point.kind.startswith("order.")]
        overtaking = [d.sentence.partition(", which")[0] for d in beyond if d.answer.point.kind == "order.task"]
        if overtaking:
            needs = " and ".join(sentence.replace(" overtook ", " to overtake ") for sentence in overtaking)
            return f"impossible on stock asyncio today: needs {needs}"
        needs = " and ".join(deviation.sentence for deviation in beyond) or f"profile {profile}"
        return f"impossible on CPython's event loop, possible on a conforming one: needs this: {needs}"

    def deviated(self, answer: Answer, subject: object) -> None:
        task = subject if isinstance(subject, asyncio.Task) else _task_behind(subject)
        actor = self.actor(task) if task is not None else None
        self.deviations.append(Deviation(answer, tell(answer, subject, self._made_at), len(self.steps), actor))

    def created(self, task: SimTask) -> None:
        place = caller()
        if place is not None:
            self._made_at[task] = place

    def actor(self, task: asyncio.Task[Any]) -> Actor:
        path = path_of(task)
        found = self._actors.get(path)
        if found is None:
            name = short_name(task) if path.rpartition("/")[2] != "0" else _main_name(task)
            found = self._actors[path] = Actor(path, name)
        return found

    def before(self, loop: SimLoop, handle: events.Handle) -> None:
        self._note_new(loop, None)
        known = self._causes.pop(id(handle), None)
        cause = known[1] if known is not None else _arrival(handle)
        task = task_of(handle)
        if not isinstance(task, SimTask):
            self._current = cause
            entry = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
            if isinstance(entry, Cancellable):
                self._cancelled.add(entry.task)
            return
        actor = self.actor(task)
        self._counts[actor.path] = number = self._counts.get(actor.path, 0) + 1
        words = cause.words
        if number == 1:
            words = f"started by {cause.actor.name}" if cause.actor is not None else "started"
        elif cause.actor == actor:
            words = "went on in its next turn"
        waiter = task._fut_waiter  # type: ignore[attr-defined]
        self._step = Step(
            actor,
            number,
            loop.world.scheduler.clock.elapsed,
            words,
            users_place(stack_of(task)),
            cancelled=bool(task._must_cancel or (waiter is not None and waiter.cancelled())),  # type: ignore[attr-defined]
        )
        if self._step.cancelled:
            self._step.woken_by = "cancelled from outside" if task in self._cancelled else f"cancelled {words}"
        if len(self.steps) < MAX_STEPS:
            self.steps.append(self._step)
        self._current = _Cause(f"by {actor.name}", actor)

    def after(self, loop: SimLoop, handle: events.Handle) -> None:
        self._note_new(loop, self._current)
        step, self._step = self._step, None
        task = task_of(handle)
        if step is None or task is None:
            return
        if not task.done():
            places = stack_of(task)
            step.end = users_place(places)
            step.waits_for = wakes(task, places)
        elif task.cancelled():
            step.ending = "ends, cancelled"
        else:
            # Without marking it as retrieved: what nobody looks at must still be reported.
            error = task._exception
            if error is None:
                step.ending = "ends"
            else:
                step.ending = f"raises {type(error).__name__}"
                step.end = raised_at(error)

    def _note_new(self, loop: SimLoop, cause: _Cause | None) -> None:
        """Remember who queued what was queued since the last look; without a cause it arrived from outside."""
        for handle in reversed(loop.queued()):
            if id(handle) in self._causes:
                break
            self._causes[id(handle)] = (handle, cause or _arrival(handle))


def raised_at(error: BaseException) -> Place | None:
    """The innermost line of the user's own code that an exception has come through."""
    found: Place | None = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if is_users(frame.f_code.co_filename):
            found = Place(frame.f_code.co_filename, line, frame.f_code.co_qualname)
    return found


def short_name(task: asyncio.Task[Any]) -> str:
    """The name that its author gave to the task, or its function."""
    return name_of(task).removeprefix("task ").partition(" (")[0]


def _main_name(task: asyncio.Task[Any]) -> str:
    coro = coroutine_of(task)
    return f"{getattr(coro, '__name__', 'main')}()"


def _task_behind(subject: object) -> asyncio.Task[Any] | None:
    if isinstance(subject, tuple) and subject and isinstance(subject[0], events.Handle):
        return task_of(subject[0])
    return waiting_for(subject) if isinstance(subject, events.Handle) else None


# What the callbacks of asyncio's transports and timers mean, by name.
_ARRIVALS: dict[str, str] = {
    "_read_ready": "by data that arrived",
    "_write_ready": "by room to write",
    "_accept_connection": "by a connection that arrived",
    "_sock_connect_cb": "by a connection that was made",
    "_set_result_unless_cancelled": "by its timer",
    "_on_timeout": "by its timeout",
    "_release_waiter": "by its timeout",
    "_cancel": "cancelled from outside",
    "_set_state": "by a thread that was done",
    "_call_set_state": "by a thread that was done",
}


def _arrival(handle: Any) -> _Cause:
    """What a callback from outside stands for."""
    callback: Callable[..., Any] | None = handle._callback
    function = getattr(callback, "__func__", callback)
    name = getattr(function, "__name__", "")
    if is_timeout(handle):
        return _Cause(_ARRIVALS["_on_timeout"])
    return _Cause(_ARRIVALS.get(name) or f"by {name}()" if name else "by a callback")
