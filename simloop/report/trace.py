"""Trace of one run, for reports: every step of every task, with its source lines and time, and the event that woke the
task.

Runs that explore are not traced, which would make them slower: a failing schedule is run again with a `Trace`.
"""

from __future__ import annotations

import asyncio
import traceback
import weakref
from asyncio import events
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from simloop.checks.touches import Touches
from simloop.checks.waiting import inner_library, name_of, stack_of, users_place, wakes
from simloop.kernel.files.inodes import Inode
from simloop.loop.cancellation import Cancellable
from simloop.loop.tasks import SimTask, coroutine_of, path_of, task_of
from simloop.loop.timers import is_timeout, waiting_for
from simloop.report.losses import lost
from simloop.report.sentences import tell, tell_cancelled
from simloop.sources import Place, is_inner, is_users, users_caller

if TYPE_CHECKING:
    from simloop.choices.choices import Answer
    from simloop.kernel.files.journal import Change
    from simloop.loop.loop import SimLoop

#: Maximum number of steps of a run that are recorded.
MAX_STEPS = 100_000


@dataclass(frozen=True)
class Actor:
    """Task in a report: the path that identifies it, and the name that is shown."""

    path: str
    name: str


@dataclass
class Step:
    """Step of a task: from where it was resumed to where it waited again or ended."""

    actor: Actor
    #: Number of the step within its task, counted from 1.
    number: int
    #: Virtual seconds since the run began.
    time: float
    #: Event that resumed the task, in a few words.
    woken_by: str
    start: Place | None
    #: Line of code that woke the task, and the task that executed it; None if not known.
    waker: Place | None = None
    waker_actor: Actor | None = None
    #: Innermost line of an installed package that the line `start` had called, directly or not; None if there is none.
    inside: Place | None = None
    #: Line at which the task waited again or raised, or else the last one that it is known to have reached.
    end: Place | None = None
    #: Way in which the task ended, such as "cancelled"; empty if it waited again.
    ending: str = ""
    #: Event that the task waits for after the step, in words; and the line of an installed package in which it waits,
    #: if any.
    waits_for: str = ""
    waits_inside: Place | None = None
    #: True if the task was resumed with a CancelledError; `from_outside` if the environment had cancelled it.
    cancelled: bool = False
    from_outside: bool = False

    def same_as(self, other: Step) -> bool:
        """Return True if both are steps of the same task that began and ended at the same lines in the same way; the
        times may differ."""
        return (
            self.actor.path == other.actor.path
            and self.start == other.start
            and self.end == other.end
            and self.ending == other.ending
            and self.cancelled == other.cancelled
        )


@dataclass(frozen=True)
class Deviation:
    """Deviation (a choice other than the default) in a trace, with the sentence that describes it."""

    answer: Answer
    sentence: str
    #: Number of steps that had begun before the deviation.
    at: int
    #: Task that the deviation is about; None if there is none.
    actor: Actor | None


@dataclass
class _Cause:
    """Reason why a callback was queued: in words, or by the step of a task that queued it."""

    words: str
    #: Step that queued the callback, and the line that did so.
    step: Step | None = None
    place: Place | None = None

    def told(self) -> str:
        if self.step is None:
            return self.words
        if self.place is None:
            return f"by {'the end of ' if self.step.ending else ''}{self.step.actor.name}"
        return f"by {self.step.actor.name} at :{self.place.line}"


@dataclass(repr=False)
class Trace:
    """Observer that records every step of a run (`simloop.world.observer.Observer`)."""

    steps: list[Step] = field(default_factory=list)
    deviations: list[Deviation] = field(default_factory=list)
    touches: Touches = field(default_factory=Touches)
    over: bool = False
    #: Durations, in virtual nanoseconds, for which blocking calls stopped the event loop of each process, by source
    #: line.
    stalls: dict[str, dict[Place | None, list[int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # No task is kept alive: what a program tells of those that end must not depend on who watches.
        self._made_at: weakref.WeakKeyDictionary[SimTask, Place] = weakref.WeakKeyDictionary()
        self._actors: dict[str, Actor] = {}
        self._counts: dict[str, int] = {}
        # Where files were last written (by inode number) and names last changed, by host.
        self._changed_at: dict[tuple[str, int | str], Place] = {}
        # By id, with the handle kept alive: handles compare by value.
        self._causes: dict[int, tuple[events.Handle, _Cause]] = {}
        self._cancelled: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        # What runs now: why, and which step it is if it is one. More than one while a blocking call lets other
        # processes run.
        self._running: list[tuple[_Cause, Step | None]] = []

    def changed(self, what: Inode | Change) -> None:
        place = users_caller()
        if place is not None:
            self._changed_at[what.fs.name, what.ino if isinstance(what, Inode) else what.subject] = place

    def blocked(self, process: str, took_ns: int) -> None:
        if not self.over:
            self.stalls.setdefault(process, {}).setdefault(users_caller(), []).append(took_ns)

    @property
    def sentences(self) -> list[str]:
        return [deviation.sentence for deviation in self.deviations]

    def beyond_stock(self, profile: str) -> str:
        """Return the verdict on a run that needs an order of events that stock asyncio never has. `profile` is the
        run's profile."""
        beyond = [deviation for deviation in self.deviations if deviation.answer.point.kind.startswith("order.")]
        steps = [
            d.sentence.partition(", which")[0] for d in beyond if d.answer.point.kind in ("order.task", "order.lag")
        ]
        if steps:
            needs = " and ".join(s.replace(" overtook ", " to overtake ").replace(" was ", " to be ") for s in steps)
            return f"impossible on stock asyncio today: needs {needs}"
        needs = " and ".join(deviation.sentence for deviation in beyond) or f"profile {profile}"
        return f"impossible on CPython's event loop, possible on a conforming one: needs this: {needs}"

    def deviated(self, answer: Answer, subject: object) -> None:
        task = subject if isinstance(subject, asyncio.Task) else _task_behind(subject)
        actor = self.actor(task) if task is not None else None
        sentence = tell(answer, subject, self.task_name, self._made_at)
        if answer.point.kind in ("disk.crash", "disk.journal"):
            place = self._changed_at.get(lost(answer, subject))
            written = "written at " if answer.point.kind == "disk.crash" else ""
            sentence += f" ({written}{place})" if place is not None else ""
        self.deviations.append(Deviation(answer, sentence, len(self.steps), actor))

    def queued(self, handle: events.Handle) -> None:
        """Record by which step and which line a callback was queued. A callback queued outside of any step comes from
        outside of the program."""
        if self._running:
            cause, step = self._running[-1]
            if step is not None:
                place = users_caller()
                cause = _Cause("", step, place)
                # Until the step ends, this is the furthest that it is known to have come.
                step.end = place or step.end
            self._causes[id(handle)] = (handle, cause)

    def created(self, task: SimTask) -> None:
        place = users_caller()
        if place is not None:
            self._made_at[task] = place

    def actor(self, task: asyncio.Task[Any]) -> Actor:
        path = path_of(task)
        found = self._actors.get(path)
        if found is None:
            name = short_name(task) if path.rpartition("/")[2] != "0" else _main_name(task)
            taken = sum(actor.name.partition(" #")[0] == name for actor in self._actors.values())
            found = self._actors[path] = Actor(path, f"{name} #{taken + 1}" if taken else name)
        return found

    def task_name(self, task: asyncio.Task[Any]) -> str:
        """Return the name of a task for sentences: always the same for the same task."""
        return f"task {self.actor(task).name}"

    def before(self, loop: SimLoop, handle: events.Handle) -> None:
        known = self._causes.pop(id(handle), None)
        cause = known[1] if known is not None else _arrival(handle)
        task = task_of(handle)
        if not isinstance(task, SimTask):
            self._running.append((cause, None))
            entry = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
            if isinstance(entry, Cancellable):
                self._cancelled.add(entry.task)
            return
        actor = self.actor(task)
        self._counts[actor.path] = number = self._counts.get(actor.path, 0) + 1
        words = cause.told()
        own = cause.step is not None and cause.step.actor == actor
        if number == 1:
            words = f"started at :{cause.place.line}" if cause.place is not None else "started"
        elif own:
            words = "in its next turn"
        places = stack_of(task)
        step = Step(
            actor,
            number,
            loop.world.scheduler.clock.elapsed,
            words,
            users_place(places),
            None if own or number == 1 else cause.place,
            None if number == 1 or cause.step is None else cause.step.actor,
            inside=inner_library(places),
            cancelled=_is_cancelled(task),
        )
        if step.cancelled and task in self._cancelled:
            self._cancelled.discard(task)
            step.from_outside = True
            step.woken_by = "cancelled from outside"
            came = f"after it was woken {words}" if task._must_cancel and number > 1 and not own else ""  # type: ignore[attr-defined]
            self._cancellation_landed(step, tell_cancelled(self.task_name(task), places, self._made_at.get(task), came))
        elif step.cancelled and not own:  # what a library cancels in its own task is its own affair
            step.woken_by = f"cancelled {words}"
        if not self.over and len(self.steps) < MAX_STEPS and not (places and is_inner(places[0])):
            self.steps.append(step)
        self._running.append((cause, step))

    def _cancellation_landed(self, step: Step, sentence: str) -> None:
        """Complete the report of a task's cancellation from outside: its sentence becomes `sentence`, which says where
        the task was waiting. That is known only at `step`, in which CancelledError is raised, since the task may first
        run a step that was queued already."""
        for at, deviation in enumerate(self.deviations):
            if deviation.answer.point.kind == "cancel" and deviation.actor == step.actor:
                self.deviations[at] = replace(deviation, sentence=sentence)

    def after(self, loop: SimLoop, handle: events.Handle) -> None:
        _, step = self._running.pop()
        task = task_of(handle)
        if step is None or task is None:
            return
        if not task.done():
            places = stack_of(task)
            step.end = users_place(places)
            step.waits_for = wakes(task, places)
            step.waits_inside = inner_library(places)
        elif task.cancelled():
            step.ending = "cancelled"
        else:
            # Without marking it as retrieved: what nobody looks at must still be reported.
            error = task._exception
            if error is None:
                step.ending = "ends"  # after what it did last, if it did anything that shows
            else:
                step.ending = f"raises {type(error).__name__}"
                step.end = raised_at(error)


def raised_at(error: BaseException) -> Place | None:
    """Return the innermost line of the user's own code in the traceback of an exception; None if there is none."""
    found: Place | None = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if is_users(frame.f_code.co_filename):
            found = Place(frame.f_code.co_filename, line, frame.f_code.co_qualname)
    return found


def short_name(task: asyncio.Task[Any]) -> str:
    """Return the name that the program gave to a task, or else the name of its coroutine function, without the
    class."""
    name = name_of(task).removeprefix("task ").partition(" (")[0]
    return name if name.startswith("'") else name.rpartition(".")[2]


def _main_name(task: asyncio.Task[Any]) -> str:
    coro = coroutine_of(task)
    return f"{getattr(coro, '__name__', 'main')}()"


def _task_behind(subject: object) -> asyncio.Task[Any] | None:
    if isinstance(subject, tuple) and subject and isinstance(subject[0], events.Handle):
        return task_of(subject[0])
    return waiting_for(subject) if isinstance(subject, events.Handle) else None


# What the callbacks of asyncio's transports and timers mean, by name.
_ARRIVALS: dict[str, str] = {
    "_read_ready": "by data",
    "_write_ready": "by room to write",
    "_accept_connection": "by a connection",
    "_sock_connect_cb": "by its connection",
    "_set_result_unless_cancelled": "by its timer",
    "_on_timeout": "by its timeout",
    "_release_waiter": "by its timeout",
    "_cancel": "cancelled from outside",
    "_set_state": "by a thread that was done",
    "_call_set_state": "by a thread that was done",
    "_process_exited": "by the end of its process",
    "_handle_signal": "by a signal",
}


def _is_cancelled(task: Any) -> bool:
    """Return True if the next step of the task begins with a CancelledError."""
    return bool(task._must_cancel or (task._fut_waiter is not None and task._fut_waiter.cancelled()))


def _arrival(handle: Any) -> _Cause:
    """Return the cause of a callback that was not scheduled by code of the program, but by an event from outside, such
    as the arrival of data."""
    callback: Callable[..., Any] | None = handle._callback
    function = getattr(callback, "__func__", callback)
    name = getattr(function, "__name__", "")
    if name == "_call_soon_watched":  # call_soon_threadsafe(call_soon, ...), as up to Python 3.11 for ended processes
        name = getattr(handle._args[0], "__name__", "")
    if is_timeout(handle):
        return _Cause(_ARRIVALS["_on_timeout"])
    task = task_of(handle)
    if task is not None:
        if _is_cancelled(task):
            return _Cause("at the end of the run")  # asyncio.run() cancels what is left, in no step of the program
        return _Cause("by the end of a process")
    return _Cause(_ARRIVALS.get(name) or f"by {name}()" if name else "by a callback")
