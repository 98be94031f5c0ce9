"""Divergence of two runs of one schedule: the line of code at which they begin to differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simloop.choices.choices import Choices
from simloop.report.trace import Step, Trace
from simloop.sources import Place, is_users, users_caller

if TYPE_CHECKING:
    from simloop.choices.schedule import Schedule


@dataclass
class WatchedRun:
    """Record of a run of a schedule: its steps, and the line of the user's code that was executing at each choice
    point."""

    schedule: Schedule
    trace: Trace = field(default_factory=Trace)
    #: For each choice point: its name and number of answers, the line of the user's code that led to it, and the number
    #: of steps that had begun.
    asked: list[tuple[object, Place | None, int]] = field(default_factory=list)

    def choices(self) -> Choices:
        """Return the choices to make the run with: they follow the schedule, and record each choice point in
        `asked`."""
        answer = self.schedule.decider()

        def decide(who: str, kind: str, number: int, n: int) -> int:
            self.asked.append(((who, kind, number, n), users_caller(), len(self.trace.steps)))
            return answer(who, kind, number, n)

        return Choices(self.schedule.seed, decide, lines=self.schedule.preempts_lines, numbered=self.schedule.numbered)


def parting(one: WatchedRun, other: WatchedRun) -> str:
    """Return a phrase on the line at which two runs diverge; empty if it is not known, or if they do not diverge."""
    pairs = zip(one.trace.steps, other.trace.steps, strict=False)
    at = next((i for i, (left, right) in enumerate(pairs) if not _alike(left, right)), None)
    for (left, place, begun), (right, other_place, _) in zip(one.asked, other.asked, strict=False):
        if left != right:
            # In the middle of a step, which may end at another line for that reason.
            if at is None or begun - 1 < at or (begun - 1 == at and _begin_alike(one, other, at)):
                return _places(place, other_place) or _after(one.trace.steps[:begun])
            break
    return "" if at is None else _steps(one.trace.steps, other.trace.steps, at)


def _places(one: Place | None, other: Place | None) -> str:
    if one == other or one is None or other is None:
        found = one or other
        return "" if found is None else f"at {found}"
    return f"at {one} in one run and at {other} in the other"


def _after(steps: list[Step]) -> str:
    places = (place for step in reversed(steps) for place in (step.end, step.start))
    last = next((place for place in places if place is not None and is_users(place.file)), None)
    return "" if last is None else f"after {last}"


def _steps(one: list[Step], other: list[Step], at: int) -> str:
    left, right = one[at], other[at]
    if left.actor.path != right.actor.path:
        before = (one[at - 1].end or one[at - 1].start) if at else None
        place = f"at {before}, after which" if before is not None else "where"
        return f"{place} task {left.actor.name} goes on in one run and task {right.actor.name} in the other"
    start = left.start or right.start
    if start is None:
        return ""
    task = f"at {start}, where task {left.actor.name} goes on"
    if left.time != right.time:
        return f"{task} after {left.time:.9g} s in one run and after {right.time:.9g} s in the other"
    if left.end != right.end and left.end is not None and right.end is not None:
        return f"{task} to {left.end} in one run and to {right.end} in the other"
    return f"{task} in one way in one run and in another way in the other"


def _alike(one: Step, other: Step) -> bool:
    return one.time == other.time and one.same_as(other)


def _begin_alike(one: WatchedRun, other: WatchedRun, at: int) -> bool:
    left, right = one.trace.steps[at], other.trace.steps[at]
    return (left.actor.path, left.start, left.time) == (right.actor.path, right.start, right.time)
