"""Sentences that describe deviations (choices other than the default), made during the run, while its tasks can be
inspected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from simloop.checks.waiting import inner_library, stack_of, users_place
from simloop.choices.who import Who
from simloop.kernel.clock import STEP_CPU_NS
from simloop.kernel.net.stream import Direction
from simloop.kernel.net.udp import FATES, Flow
from simloop.kernel.process.delays import DELAYS, SEEN, STARTS, SWITCHES
from simloop.kernel.process.process import Process
from simloop.kernel.process.threads import SimThread
from simloop.kernel.turn_taking import TIME_SLICES
from simloop.loop.run_order import LAGS
from simloop.loop.tasks import SimTask, task_of
from simloop.loop.timers import deadlines_between, is_timeout, waiting_for
from simloop.network.faults import DURATIONS_S, Departure, partition_told
from simloop.network.links import DELIVERIES
from simloop.network.names import SLOW_S, failed_told
from simloop.report.losses import tell as tell_loss
from simloop.sources import Place, is_users, source_of, users_caller, wrapped_by

if TYPE_CHECKING:
    from simloop.choices.choices import Answer, Point

Name = Callable[[asyncio.Task[Any]], str]
"""How tasks are named."""


def tell(answer: Answer, subject: object, name: Name, made_at: WeakKeyDictionary[SimTask, Place]) -> str:
    """Return the sentence for the deviation `answer`. To be called when the choice is made. `subject` is the object
    that the choice is about, `name` returns the name of a task for sentences, and `made_at` holds the lines that
    created tasks."""
    sentence = _TELLERS.get(answer.point.kind, _anything)(answer, subject, name)
    if isinstance(subject, SimTask) and subject in made_at:
        sentence = sentence.replace(name(subject), f"{name(subject)}, created at {made_at[subject]},", 1)
    return sentence


def _cancelled(answer: Answer, subject: Any, name: Name) -> str:
    return tell_cancelled(name(subject), stack_of(subject), None, "")


def tell_cancelled(task: str, places: list[Place], made_at: Place | None, came: str) -> str:
    """Return the sentence on a cancellation of a task by the environment. `task` is its name, `places` are the lines of
    its stack, outermost first, `made_at` is the line that created it, if known, and `came` says which event had already
    woken it; empty if none had."""
    created = f", created at {made_at}," if made_at is not None else ""
    sentence = f"{task}{created} was cancelled from outside (as when its client hangs up)"
    place = users_place(places)
    if place is None:
        return sentence
    sentence += f" while it waited at {place}"
    inside = inner_library(places)
    if inside is not None:
        sentence += f" (inside {inside})"
    elif places[-1] != place:
        sentence += f" (inside {places[-1].function})"
    return f"{sentence}, {came} and before it could go on" if came else sentence


def _delivered(answer: Answer, subject: Any, name: Name) -> str:
    return f"{_packet(subject)} arrived {_late(DELIVERIES[answer.value])}"


def _packet(subject: Any) -> str:
    if not isinstance(subject, (Direction, Flow)):
        return "a packet"
    ends, _, _ = subject.label[:-1].partition("#")
    way = "to" if subject.label.endswith(">") else "from"
    newest = subject.leaving
    if isinstance(newest, str):
        what = {"FIN": "the end of the data", "RST": "the reset"}.get(newest, "the answer to the connection attempt")
    elif not newest:
        what = "the connection attempt" if isinstance(subject, Direction) else "an empty datagram"
    else:
        what = _preview(newest)
    return f"{what} on its way {way} {ends.rpartition('>')[2]}"


def _stood_still(answer: Answer, subject: Any, name: Name) -> str:
    then = "leave it" if subject.leaves else "arrive"
    still = f"host {subject.host} stood still for {DURATIONS_S[answer.value - 1]} s"
    return f"{still} as {_packet(subject.packet)} was about to {then}"


def _looked_up(subject: Any) -> str:
    return f"the look-up of {subject.name} on host {subject.host}"


# Content types of TLS records (RFC 8446, section 5.1), before the version, which is always 3.
_TLS = {b"\x14\x03": "a step of TLS", b"\x15\x03": "an alert of TLS", b"\x16\x03": "a handshake of TLS"}
_TLS[b"\x17\x03"] = "a record of TLS"


def _preview(data: bytes) -> str:
    if (what := _TLS.get(data[:2])) is not None:
        return f"{what} ({len(data)} bytes)"
    shown = repr(data[:24])[1:]
    return f"{shown}{'...' if len(data) > 24 else ''} ({len(data)} bytes)"


def _late(how: str) -> str:
    return how.replace("its first byte", "with its first byte").replace("all but its", "with all but its")


def _connected(answer: Answer, subject: Any, name: Name) -> str:
    label = subject.label if isinstance(subject, Direction) else answer.point.who
    return f"the connection attempt to {label.partition('#')[0].rpartition('>')[2]} arrived {DELIVERIES[answer.value]}"


def _stalled(answer: Answer, subject: Any, name: Name) -> str:
    scheduler = subject.world.scheduler
    now = scheduler.clock.now
    due = deadlines_between(subject._scheduled, now, now + scheduler.max_stall_ns)[answer.value - 1]
    took, allowed = (due - now) / 1e6, scheduler.max_stall_ns / 1e6
    timer = _timer(subject.timer_due(due), name)
    slow = f"the loop was busy for {took:.3g} ms (a slow step; {allowed:g} ms are allowed)"
    return f"{slow}, so {timer} came before what was next"


def _late_poll(answer: Answer, subject: Any, name: Name) -> str:
    loop, due = subject.subject, subject.contenders_ns[answer.value - 1]
    late = (due - subject.scheduler.clock.now) / 1e6
    poll = f"the poll that waited for {_timer(loop.next_timer(), name)} returned {late:.3g} ms late"
    met = loop.timer_due(due)
    if met is not None:
        return f"{poll}, so {_timer(met, name)} was due in the same turn"
    others = [other for other in subject.scheduler.loops if other is not loop]
    other = next(other for other in others if other.deadline_ns() == due - STEP_CPU_NS)
    return f"{poll}, after {_timer(other.next_timer(), name)} had fired in {_process(other.process.name)}"


def _timer(handle: Any, name: Name) -> str:
    task = waiting_for(handle)
    if task is None:
        return f"the timer of {getattr(handle._callback, '__qualname__', 'a callback')}"
    what = "timeout" if is_timeout(handle) else "timer"
    place = users_place(stack_of(task))
    process: Process = task.get_loop().process  # type: ignore[attr-defined]
    if process.environ is not None and (place is None or not is_users(place.file)):
        # A program in one line: none of its steps is the user's.
        return f"the {what} of {_started_process(process)}"
    return f"the {what} of {name(task)} at {place}"


def _raced(answer: Answer, subject: Any, name: Name) -> str:
    which, after = divmod(answer.value - 1, 2)
    due = subject.contenders_ns[which]
    timer = next((found for loop in subject.scheduler.loops if (found := loop.timer_due(due)) is not None), None)
    until = _timer(timer, name) if timer is not None else "a timer"
    when = f"{'just after ' if after else ''}{until} was due"
    if isinstance(subject.subject, Process):
        what = _event(subject.subject, answer.point.who)
    else:
        sent = isinstance(subject.subject, (Direction, Flow))
        what = _packet(subject.subject) if sent else _job(subject.subject)
    return f"{what} was delayed until {when}"


def _ordered(answer: Answer, subject: Any, name: Name) -> str:
    return (
        f"{_connection(answer.point.who)} was seen ready after {_others(answer.value)}, though they were ready together"
    )


def _connection(label: str) -> str:
    """Return a phrase for the connection with this `label`, such as 'connection 3'."""
    address, number_sign, number = label.partition("#")
    return f"connection {number} to {address}" if number_sign else f"socket {label}"


def _others(count: int) -> str:
    return "another one" if count == 1 else f"{count} others"


def _on_disk(answer: Answer, subject: Any, name: Name) -> str:
    return tell_loss(answer.point.who, answer.point.kind, answer.value, subject)


def _crashed(answer: Answer, subject: Any, name: Name) -> str:
    if isinstance(subject, Departure):
        return f"the power of {Who(answer.point.who).host} was cut right after {_packet(subject.packet)} had left"
    place = users_caller()
    where = f" ({place})" if place is not None else ""
    return f"the power of {Who(answer.point.who).host} was cut right {subject}{where}"


def _disk_fault(answer: Answer, subject: Any, name: Name) -> str:
    operation, path = Who(answer.point.who).operation
    place = users_caller()
    where = f" ({place})" if place is not None else ""
    return f"{operation} of {path}{where} {subject[answer.value - 1]}, which was injected"


def _tied(answer: Answer, subject: Any, name: Name) -> str:
    return f"{_timer(subject, name)} came after {_others(answer.value)} due at the same time"


def _thread(answer: Answer, subject: Any, name: Name) -> str:
    what = "was started" if answer.point.kind == "thread.start" else "was seen to have finished"
    return f"{_job(subject)} {what} {DELAYS[answer.value]}"


def _switched(answer: Answer, subject: Any, name: Name) -> str:
    where = users_caller()
    before = f" before the call in {where}" if where is not None else ""
    who = _job(subject) if answer.point.kind == "thread.switch" else _process(answer.point.who)
    return f"{who} let others go first {SWITCHES[answer.value]}{before}"


def _preempted(answer: Answer, subject: Any, name: Name) -> str:
    where = users_caller()
    before = f" before line {where}, `{source_of(where)}`" if where is not None else ""
    return f"{_job(subject)} let others go first {SWITCHES[answer.value]}{before}"


def _sent(answer: Answer, subject: Any, name: Name) -> str:
    where = users_caller()
    if where is not None:
        during = f" in the call in {where}"
    else:
        task = subject.loop.main_task
        where = users_place(stack_of(task)) if task is not None else None
        during = f" while it waited at {where}" if where is not None and is_users(where.file) else ""
    return _outside_signal(answer.point.who, "came") + during


def _outside_signal(who: str, comes: str) -> str:
    process, _, number = who.rpartition(" ")
    return f"{number} {comes} to {_process(process)} from outside"


def _stepped(answer: Answer, subject: Any, name: Name) -> str:
    where = users_caller()
    before = f" before it was read in {where}" if where is not None else ""
    way = "forward" if answer.value == 1 else "back"
    return f"the wall clock of {answer.point.who} was set {subject:g} s {way}{before}"


def _job(function: Any) -> str:
    """Return a phrase for the function that a thread runs, with the name that it has in the source code."""
    if isinstance(function, SimThread):
        if function.job is None:
            return f"thread {function.name!r}"
        function = function.job
    function = wrapped_by(function)
    code = getattr(function, "__code__", None)
    where = f" ({Place(code.co_filename, code.co_firstlineno, '')})" if code is not None else ""
    name = getattr(function, "__qualname__", "").rpartition("<locals>.")[2] or "a function"
    return f"the thread of {name}(){where}"


def _of_process(answer: Answer, subject: Any, name: Name) -> str:
    came = "was seen" if answer.point.kind == "process.exit" else "arrived"
    return f"{_event(subject, answer.point.who)} {came} {DELAYS[answer.value]}"


def _event(process: Process, who: str) -> str:
    """Return a phrase for an event of a process: its end, or the signal that the choice point's name `who` contains."""
    what = who.removeprefix(process.name).split()
    if what and what[0].startswith("SIG"):
        return f"{what[0]} to {_process(process.name)}"
    return f"the end of {_process(process.name)}"


def _process(name: str) -> str:
    """Return a phrase for a process, which names the program that it runs. `name` is the name of the process."""
    return "the test itself" if name == "localhost" else f"process {name.removeprefix('localhost:')}"


def _started_process(process: Process) -> str:
    file, _, line = process.started_at.rpartition(":")
    return f"{_process(process.name)}, started at {Place(file, int(line), '')},"


def _started(answer: Answer, subject: Any, name: Name) -> str:
    return f"{_started_process(subject)} began {STARTS[answer.value]}"


def _seen(answer: Answer, subject: Any, name: Name) -> str:
    turns = SEEN[answer.value]
    late = "one turn" if turns == 1 else f"{turns} turns"
    return f"{_event(subject, answer.point.who)} was seen by its loop {late} later"


def _merged(answer: Answer, subject: Any, name: Name) -> str:
    return f"{_event(subject, answer.point.who)} came again before the first was seen, and so only once"


def _reused(answer: Answer, subject: Any, name: Name) -> str:
    return f"{_process(answer.point.who)} got pid {subject[-answer.value]}, which one that is gone had before"


def _turn(answer: Answer, subject: Any, name: Name) -> str:
    names = [_process(loop.process.name) for loop in subject]
    which_slice, which = divmod(answer.value, len(names))
    others = " and ".join(name for at, name in enumerate(names) if at != which)
    how = f"for {TIME_SLICES[which_slice]} turns before" if which_slice else "before"
    return f"{names[which]} ran {how} {others}"


def _step(answer: Answer, subject: Any, name: Name) -> str:
    handle, later = subject
    overtaking = [_queued(other, name) for other in islice(later, answer.value)]
    shown = ", ".join(overtaking[:3]) + (f" and {len(overtaking) - 3} more" if len(overtaking) > 3 else "")
    return f"{shown} overtook {_queued(handle, name)}, which was ready earlier"


def _lagging(answer: Answer, subject: Any, name: Name) -> str:
    return f"{name(subject)} was {_steps(answer.value)} late"


def _steps(value: int) -> str:
    return "1 step" if LAGS[value] == 1 else f"{LAGS[value]} steps"


def _queued(handle: Any, name: Name) -> str:
    task = task_of(handle)
    return name(task) if task is not None else f"callback {getattr(handle._callback, '__qualname__', '?')}()"


def _arrived_first(answer: Answer, subject: Any, name: Name) -> str:
    return f"what arrived at {answer.point.who} came before what was queued there"


def _written_first(answer: Answer, subject: Any, name: Name) -> str:
    return f"on {answer.point.who} a descriptor's writer came before its reader"


def _anything(answer: Answer, subject: object, name: Name) -> str:
    return f"{answer.point} was answered {answer.value} of {answer.n}"


_TELLERS: dict[str, Callable[[Answer, Any, Name], str]] = {
    "cancel": _cancelled,
    "net.deliver": _delivered,
    "net.connect": _connected,
    "net.lose": lambda answer, subject, name: f"{_packet(subject)} {FATES[answer.value]}",
    "net.partition": lambda answer, subject, name: (
        f"{subject.told(answer.value)} as {_packet(subject.packet)} was about to arrive"
    ),
    "host.pause": _stood_still,
    "net.reset": lambda answer, subject, name: f"the connection was reset as {_packet(subject)} was about to arrive",
    "dns.fail": lambda answer, subject, name: f"{_looked_up(subject)} {failed_told(answer.value)}",
    "dns.slow": lambda answer, subject, name: f"{_looked_up(subject)} took {SLOW_S[answer.value - 1]} s",
    "net.race": _raced,
    "thread.race": _raced,
    "disk.crash": _on_disk,
    "disk.journal": _on_disk,
    "disk.fault": _disk_fault,
    "host.crash": _crashed,
    "cpu.stall": _stalled,
    "poll.late": _late_poll,
    "timer.tie": _tied,
    "order.timer": _tied,
    "poll.order": _ordered,
    "thread.start": _thread,
    "thread.finish": _thread,
    "thread.switch": _switched,
    "thread.line": _preempted,
    "process.switch": _switched,
    "clock.step": _stepped,
    "process.turn": _turn,
    "process.start": _started,
    "process.exit": _of_process,
    "process.pid": _reused,
    "signal": _of_process,
    "signal.seen": _seen,
    "signal.sent": _sent,
    "signal.merge": _merged,
    "order.task": _step,
    "order.lag": _lagging,
    "order.arrival": _arrived_first,
    "order.fd": _written_first,
}


def tell_point(point: Point, value: int) -> str:
    """Return the sentence for the answer `value` at a choice point, in less detail than `tell`, since there is no run
    to inspect."""
    words = _KINDS.get(point.kind)
    try:
        return words(point.who, value) if words is not None else f"answered {value}"
    except IndexError:  # of a release that had more answers
        return f"answered {value}"


def _outside_cancellation(who: str, value: int) -> str:
    asked = Who(who)
    where = f" while it waits in {asked.function}()" if asked.function else ""
    return f"task {asked.task} is cancelled from outside{where}"


def _before_line(who: str, value: int) -> str:
    asked = Who(who)
    return f"thread {asked.task} lets others go first {SWITCHES[value]} before line {asked.line} of {asked.function}()"


def _race(who: str, value: int) -> str:
    return f"what comes on {who} is delayed {_until_timer(value)}"


def _job_race(who: str, value: int) -> str:
    job, _, end = who.rpartition(" ")
    return f"{'the end of ' * (end == '1')}{job} is delayed {_until_timer(value)}"


def _until_timer(value: int) -> str:
    which, after = divmod(value - 1, 2)
    return f"until {'just after ' * after}{_nth_timer(which + 1)} is due"


def _nth_timer(number: int) -> str:
    return f"timer {number}" if number > 1 else "the next timer"


# How a point is told by its `who` and its value alone. `who` of a task is its name and what it waited in.
_KINDS: dict[str, Callable[[str, int], str]] = {
    "cancel": _outside_cancellation,
    "net.deliver": lambda who, value: f"data on {who} arrive {_late(DELIVERIES[value])}",
    "net.lose": lambda who, value: f"a packet on {who} {FATES[value]}",
    "net.partition": lambda who, value: f"the network is cut at a packet on {who}, {partition_told(value)}",
    "host.pause": lambda who, value: f"a host stands still for {DURATIONS_S[value - 1]} s at a packet on {who}",
    "dns.fail": lambda who, value: f"the look-up of {Who(who).place} on {Who(who).host} {failed_told(value)}",
    "dns.slow": lambda who, value: f"the look-up of {Who(who).place} on {Who(who).host} takes {SLOW_S[value - 1]} s",
    "net.reset": lambda who, value: f"the connection {who.rstrip('<>')} is reset",
    "net.connect": lambda who, value: f"the connection attempt {who} arrives {DELIVERIES[value]}",
    "net.race": _race,
    "thread.race": _job_race,
    "disk.crash": lambda who, value: f"a power cut loses or tears {who}",
    "disk.journal": lambda who, value: f"a power cut undoes changes of {who}",
    "disk.fault": lambda who, value: f"{who} fails, which is injected",
    "host.crash": lambda who, value: f"the power of {Who(who).host} is cut {Who(who).place}".rstrip(),
    "cpu.stall": lambda who, value: f"the loop is busy until timer {who} is due, or one of those after it",
    "poll.late": lambda who, value: f"the poll for timer {who} returns late, when {_nth_timer(value)} is due, too",
    "timer.tie": lambda who, value: f"timer {who} comes after {_others(value)} due at the same time",
    "order.timer": lambda who, value: f"timer {who} comes after {_others(value)} due at the same time",
    "poll.order": lambda who, value: f"{_connection(who)} is seen ready after {_others(value)}",
    "thread.start": lambda who, value: f"thread {who} is started {DELAYS[value]}",
    "thread.finish": lambda who, value: f"thread {who} is seen to have finished {DELAYS[value]}",
    "thread.switch": lambda who, value: f"thread {who} lets others go first {SWITCHES[value]}",
    "thread.line": _before_line,
    "signal.sent": lambda who, value: (
        f"{who.rpartition(' ')[2]} comes to {_process(who.rpartition(' ')[0])} from outside"
    ),
    "process.switch": lambda who, value: f"{_process(who)} lets others go first {SWITCHES[value]}",
    "clock.step": lambda who, value: f"the wall clock of {who} is set {'forward' if value == 1 else 'back'}",
    "process.turn": lambda who, value: "another process runs than the one that has waited longest",
    "process.start": lambda who, value: f"{_process(who)} begins {STARTS[value]}",
    "process.exit": lambda who, value: f"the end of {_process(who)} is seen {DELAYS[value]}",
    "process.pid": lambda who, value: f"{_process(who)} gets a pid that one that is gone had before",
    "signal": lambda who, value: f"signal {who} arrives {DELAYS[value]}",
    "signal.seen": lambda who, value: f"signal {who} is seen by its loop {SEEN[value]} turns later",
    "signal.merge": lambda who, value: f"signal {who} comes again before the first was seen, and so only once",
    "order.task": lambda who, value: f"{_others(value)} overtake {who}, which was ready earlier",
    "order.lag": lambda who, value: f"a step of task {who} is {_steps(value)} late",
    "order.arrival": lambda who, value: f"what arrives at {who} comes before what was queued there",
    "order.fd": lambda who, value: f"on {who} a descriptor's writer comes before its reader",
}
