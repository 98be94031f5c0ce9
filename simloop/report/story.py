"""Puts a deviation into words, while its run goes on and its tasks can still be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from simloop.checks.waiting import Place, stack_of, users_place
from simloop.choices import Answer
from simloop.kernel.tcp import Direction
from simloop.kernel.threads import DELAYS
from simloop.network.links import DELIVERIES
from simloop.outside import is_timeout, rivals_of, waiting_for
from simloop.tasks import SimTask, coroutine_of, task_of


def tell(answer: Answer, subject: object, made_at: dict[SimTask, Place]) -> str:
    """One sentence for a deviation, at the moment at which it is taken."""
    sentence = _TELLERS.get(answer.point.kind, _anything)(answer, subject)
    if isinstance(subject, SimTask) and subject in made_at:
        name = name_of(subject)
        sentence = sentence.replace(name, f"{name}, created at {made_at[subject]},", 1)
    return sentence


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
    limit = subject.world.scheduler.max_stall_ns
    rivals = rivals_of(subject._scheduled, subject.world.scheduler.clock.now, limit)
    timer = subject.timer_due(rivals[answer.value - 1])
    return (
        f"a step took so long (up to {limit / 1e6:g} ms may pass) that {_timer(timer)} became due before the next one"
    )


def _timer(handle: Any) -> str:
    task = waiting_for(handle)
    if task is None:
        return f"the timer of {getattr(handle._callback, '__qualname__', 'a callback')}"
    what = "timeout" if is_timeout(handle) else "timer"
    return f"the {what} of {name_of(task)} at {users_place(stack_of(task))}"


def _raced(answer: Answer, subject: Any) -> str:
    which, after = divmod(answer.value - 1, 2)
    what = _packet(subject.subject) if isinstance(subject.subject, Direction) else f"job {answer.point.who}"
    due = subject.rivals_ns[which]
    timer = next((found for loop in subject.scheduler.loops if (found := loop.timer_due(due)) is not None), None)
    name = _timer(timer) if timer is not None else "a timer"
    return f"{what} arrived late: {'just after' if after else 'together with'} {name}"


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
    handle, later = subject
    overtaking = [_queued(other) for other in later[: answer.value]]
    shown = ", ".join(overtaking[:3]) + (f" and {len(overtaking) - 3} more" if len(overtaking) > 3 else "")
    return f"{shown} overtook {_queued(handle)}, which was ready earlier"


def _queued(handle: Any) -> str:
    task = task_of(handle)
    return name_of(task) if task is not None else f"callback {getattr(handle._callback, '__qualname__', '?')}()"


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
    "net.race": _raced,
    "thread.race": _raced,
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
