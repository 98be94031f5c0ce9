"""Puts the deviations of a run into words, while it runs and its tasks can still be looked at."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable
from typing import Any

from simloop.checks.waiting import Place, caller, stack_of, users_place
from simloop.choices import Answer
from simloop.kernel.tcp import Direction
from simloop.kernel.threads import DELAYS
from simloop.loop import SimLoop
from simloop.network.links import DELIVERIES
from simloop.tasks import SimTask, coroutine_of, task_of


class Story:
    """One sentence for each deviation, in the order of their happening."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self._made_at: dict[SimTask, Place] = {}

    def created(self, task: SimTask) -> None:
        place = caller()
        if place is not None:
            self._made_at[task] = place

    def deviated(self, answer: Answer, subject: object) -> None:
        tell = _TELLERS.get(answer.point.kind, _anything)
        sentence = tell(answer, subject)
        if isinstance(subject, SimTask) and subject in self._made_at:
            name = name_of(subject)
            sentence = sentence.replace(name, f"{name}, created at {self._made_at[subject]},", 1)
        self.sentences.append(sentence)

    def before(self, loop: SimLoop, handle: events.Handle) -> None:
        pass

    def after(self, loop: SimLoop, handle: events.Handle) -> None:
        pass


def name_of(task: asyncio.Task[Any]) -> str:
    """The task as its author knows it: by the name it was given, or by its function."""
    name = task.get_name()
    coro = coroutine_of(task)
    function = getattr(coro, "__qualname__", "").rpartition("<locals>.")[2]
    if function and name.startswith("Task-") and name[5:].isdigit():
        return f"task {function}() ({name})"
    return f"task {name!r}"


def _cancelled(answer: Answer, subject: Any) -> str:
    places = stack_of(subject)
    place = users_place(places)
    sentence = f"{name_of(subject)} was cancelled from outside"
    if place is None:
        return sentence
    sentence += f" while it waited at {place}"
    if places[-1] != place:
        sentence += f" (inside {places[-1].function}, {places[-1]})"
    waiter = getattr(subject, "_fut_waiter", None)
    if waiter is not None and waiter.done():
        sentence += ", after what it waited for had come and before it could go on"
    return sentence


def _delivered(answer: Answer, subject: Any) -> str:
    return f"{_packet(subject)} arrived {_late(DELIVERIES[answer.value])}"


def _packet(subject: Any) -> str:
    if not isinstance(subject, Direction):
        return "a packet"
    ends, _, _ = subject.label[:-1].partition("#")
    way = "to" if subject.label.endswith(">") else "from"
    newest = subject.leaving
    if isinstance(newest, str):
        what = {"FIN": "the end of the data", "RST": "the reset"}.get(newest, "the answer to the connection attempt")
    else:
        what = f"{_preview(newest)}"
    return f"{what} on its way {way} {ends.rpartition('>')[2]}"


def _preview(data: bytes) -> str:
    shown = repr(data[:24])[1:]
    return f"{shown}{'...' if len(data) > 24 else ''} ({len(data)} bytes)"


def _late(how: str) -> str:
    return how.replace("its first byte", "with its first byte").replace("all but its", "with all but its")


def _connected(answer: Answer, subject: Any) -> str:
    label = subject.label if isinstance(subject, Direction) else answer.point.who
    return f"the connection attempt to {label.partition('#')[0].rpartition('>')[2]} arrived {DELIVERIES[answer.value]}"


def _stalled(answer: Answer, subject: Any) -> str:
    return f"a slow step on {answer.point.who}: time went on until {_timer(subject)} was due"


def _timer(handle: Any) -> str:
    owner = next((arg for arg in (handle._args or ()) if isinstance(arg, asyncio.Future)), None)
    if owner is not None:
        for callback, _ in owner._callbacks or ():
            task = getattr(callback, "__self__", None)
            if isinstance(task, asyncio.Task):
                place = users_place(stack_of(task))
                return f"the timer of {name_of(task)} at {place}"
    callback = handle._callback
    # asyncio.Timeout, behind asyncio.timeout() and wait_for(), knows whom it will cancel.
    task = getattr(getattr(callback, "__self__", None), "_task", None)
    if isinstance(task, asyncio.Task):
        return f"the timeout of {name_of(task)} at {users_place(stack_of(task))}"
    return f"the timer of {getattr(callback, '__qualname__', 'a callback')}"


def _ordered(answer: Answer, subject: Any) -> str:
    return f"{subject if subject is not None else answer.point.who} was seen ready after {answer.value} other(s)"


def _tied(answer: Answer, subject: Any) -> str:
    return f"{_timer(subject)} came after {answer.value} other(s) that were due with it"


def _thread(answer: Answer, subject: Any) -> str:
    what = "started" if answer.point.kind == "thread.start" else "was seen to have finished"
    return f"job {answer.point.who} {what} {DELAYS[answer.value]}"


def _turn(answer: Answer, subject: Any) -> str:
    names = [loop.process.name for loop in subject]
    return f"process {names[answer.value]} ran before {', '.join(names[: answer.value])}"


def _step(answer: Answer, subject: Any) -> str:
    task = task_of(subject)
    who = name_of(task) if task is not None else "a step"
    return f"{who} ran after {answer.value} other task(s) that were ready later"


def _arrived_first(answer: Answer, subject: Any) -> str:
    return f"what arrived at {answer.point.who} came before what was queued there"


def _written_first(answer: Answer, subject: Any) -> str:
    return f"on {answer.point.who} a descriptor's writer came before its reader"


def _anything(answer: Answer, subject: object) -> str:
    return f"{answer.point} was answered {answer.value} of {answer.n}"


_TELLERS: dict[str, Callable[[Answer, Any], str]] = {
    "cancel": _cancelled,
    "net.deliver": _delivered,
    "net.connect": _connected,
    "cpu.stall": _stalled,
    "timer.tie": _tied,
    "order.timer": _tied,
    "poll.order": _ordered,
    "thread.start": _thread,
    "thread.finish": _thread,
    "process.turn": _turn,
    "order.task": _step,
    "order.arrival": _arrived_first,
    "order.fd": _written_first,
}
