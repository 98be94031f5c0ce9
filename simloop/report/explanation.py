"""Explanation of a failure: how the failing run differs from the nearest run that passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simloop.errors import DeadlockError
from simloop.kernel.clock import MILLISECOND
from simloop.sources import Place, is_stdlib, source_of

if TYPE_CHECKING:
    from simloop.choices.choices import Point
    from simloop.report.trace import Actor, Step, Trace

_SOURCE_MAX = 8
_FEW_LINES = 4
# Less than this is not worth a line of the report.
_LONG_STALL_NS = MILLISECOND


@dataclass
class Explanation:
    """Comparison of a failing run with the nearest run that passes, if there is one.

    The two runs differ by the deviation `left_out`, or, if that is None, by all deviations: then the passing run is the
    canonical one.
    """

    exception: BaseException | None
    failing: Trace
    passing: Trace | None
    left_out: Point | None
    verdict: str

    @property
    def sentences(self) -> list[str]:
        return self.failing.sentences

    def stalls(self) -> list[str]:
        """Return one sentence for each event loop that blocking calls stopped for long (1 virtual millisecond or more
        in all): for how long, and where."""
        told = []
        for process, places in self.failing.stalls.items():
            total = sum(map(sum, places.values()))
            if total >= _LONG_STALL_NS:
                worst = max(places, key=lambda place: sum(places[place]))
                calls = len(places[worst])
                where = f", most of it in {calls} call{'s' if calls > 1 else ''} at {worst}" if worst else ""
                told.append(f"blocking calls stopped the loop of {process} for {total / 1e6:.3g} ms{where}")
        return told

    def left_out_number(self) -> int | None:
        """Return the number, counted from 1, of the one deviation that the passing run lacks; None if it lacks all of
        them."""
        points = [deviation.answer.point for deviation in self.failing.deviations]
        if self.passing is None or self.left_out not in points:
            return None
        return points.index(self.left_out) + 1

    def parting(self) -> int:
        """Return the number of steps that the two runs have in common before they diverge."""
        if self.passing is None:
            return 0
        pairs = zip(self.failing.steps, self.passing.steps, strict=False)
        return next(
            (at for at, (left, right) in enumerate(pairs) if not left.same_as(right)),
            min(len(self.failing.steps), len(self.passing.steps)),
        )

    def flipped(self) -> tuple[Step, Step] | None:
        """Return the two steps that changed order: in the failing run the first came before the second, in the passing
        run after it or not at all. If both are steps of one task, they are the same step as it went in the failing and
        in the passing run. None if the runs do not diverge."""
        if self.passing is None:
            return None
        at = self.parting()
        failing, passing = self.failing.steps, self.passing.steps
        if at >= len(failing) or at >= len(passing):
            return None
        first = self._cancelled_step() or failing[at]
        if first.cancelled:
            # What it would have done there instead.
            for step in passing[at:]:
                if step.actor == first.actor and step.number == first.number and not step.cancelled:
                    return first, step
        return first, passing[at]

    def _cancelled_step(self) -> Step | None:
        """Return the step in which a task got the `CancelledError` of a cancellation by the environment; None if there
        was none."""
        for deviation in self.failing.deviations:
            if deviation.answer.point.kind == "cancel" and self.left_out in (None, deviation.answer.point):
                for step in self.failing.steps[deviation.at :]:
                    if step.actor == deviation.actor and step.from_outside:
                        return step
        return None

    def headline(self) -> str:
        """Return a sentence on how the deviation changed the order of steps; empty if the deviation's own sentence says
        it all."""
        pair = self.flipped()
        if pair is None:
            return ""
        first, second = pair
        if first.actor != second.actor:
            return (
                f"so {first.actor.name} {_went_on(first)} before {second.actor.name} {_went_on(second)}; "
                "in the passing run it is the other way round"
            )
        if first.cancelled and not second.cancelled:
            there = "there" if first.start == second.start else f"at {second.start}"
            noticed = ""
            if first is not self._cancelled_step():
                noticed = f"so {first.actor.name} was cancelled at {_where(first)}; "
            woken = f", woken {second.woken_by}" if second.waker_actor != second.actor else ""
            return f"{noticed}in the passing run {first.actor.name} goes on {there}{woken}"
        if first.ending and second.ending:
            return ""  # one task, the same step, and another result: the failure says it
        if _shown_end(first) == _shown_end(second):
            return ""
        return (
            f"so {first.actor.name} {_went_on(first)} and got to {_shown_end(first)}; "
            f"in the passing run it gets to {_shown_end(second)}"
        )

    def source(self) -> list[tuple[str, str, str]]:
        """Return the lines of code that race, each as its position, its text, and a mark (mostly empty). For a
        cancelled task they are the lines around the position at which it was cancelled."""
        pair = self.flipped()
        if pair is None:
            return []
        first, second = pair
        lines: list[tuple[Place, str]] = []
        if first.cancelled and first.start is not None and first.actor == second.actor:
            for line in range(first.start.line - 1, first.start.line + 2):
                mark = "<- cancelled here" if line == first.start.line else ""
                lines.append((first.start._replace(line=line), mark))
        else:
            lines = [(place, "") for step in pair for place in _gone_through(step)]
        if second.waker is not None:
            lines.append((second.waker, ""))
        shown = [(place, mark) for place, mark in dict.fromkeys(lines) if not is_stdlib(place.file)]
        found = [(str(place), source_of(place), mark) for place, mark in shown]
        return [line for line in found if line[1]][:_SOURCE_MAX]

    def still_waiting(self) -> list[str]:
        """Return a text for each task that was still waiting when the run failed with a timeout: its name, the line at
        which it waited, and the event that it waited for. Empty for any other failure."""
        failed = self.failed()
        if failed is None or "Timeout" not in failed.ending:
            return []
        last: dict[str, Step] = {}
        for step in self.failing.steps:
            if step is failed:
                break
            last[step.actor.path] = step
        return [
            f"{step.actor.name} at {step.end}{f' (inside {step.waits_inside})' if step.waits_inside else ''} "
            f"for {step.waits_for}"
            for step in last.values()
            if not step.ending and step.actor != failed.actor
        ]

    def failed(self) -> Step | None:
        """Return the last step in which a task raised an exception; None if there is none."""
        return next((step for step in reversed(self.failing.steps) if step.ending.startswith("raises")), None)

    def stuck(self) -> list[Step]:
        """Return the last step of each task that waits for ever in a deadlock, the main task's first. Empty if the
        failure is not a deadlock."""
        if not isinstance(self.exception, DeadlockError):
            return []
        last = {step.actor.path: step for step in self.failing.steps}
        return sorted((step for step in last.values() if not step.ending), key=lambda step: step.actor.path != "0")

    def actors(self) -> list[Actor]:
        """Return the tasks to show, the most important first: those that the deviations are about, those of the two
        steps that changed order, and the one that failed."""
        pair = self.flipped() or ()
        failed = self.failed()
        # In a deadlock those that hold what others wait for; who waits for them all says less.
        found: list[Actor | None] = [step.actor for step in self.stuck() if not step.waits_for.startswith("the end of")]
        found += [
            deviation.actor
            for deviation in self.failing.deviations
            if self.left_out is None or deviation.answer.point == self.left_out
        ]
        found += [step.actor for step in pair]
        found += [pair[1].waker_actor] if pair else []
        found += [failed.actor] if failed is not None else []
        found += [step.actor for step in self.stuck()]
        actors = list(dict.fromkeys(actor for actor in found if actor is not None))
        if len(actors) == 1:
            # With whom else it had to do, most likely.
            later = [step.actor for step in self.failing.steps[self.parting() :] if step.actor != actors[0]]
            actors += later[:1]
        return actors

    def all_actors(self) -> list[Actor]:
        """Return all tasks of the two runs, those of `actors` first."""
        traces = [self.failing] + ([self.passing] if self.passing is not None else [])
        return list(dict.fromkeys([*self.actors(), *(step.actor for trace in traces for step in trace.steps)]))


def _gone_through(step: Step) -> list[Place]:
    """Return the source lines that a step executed, if they are few and in one function; else its first line."""
    start, end = step.start, step.end
    if start is None:
        return []
    if end is None or (end.file, end.function) != (start.file, start.function):
        return [start]
    if not 0 < end.line - start.line < _FEW_LINES:
        return [start]
    return [start._replace(line=line) for line in range(start.line, end.line + 1)]


def _where(step: Step) -> str:
    return f"{step.start}{f' (inside {step.inside})' if step.inside else ''}"


def _went_on(step: Step) -> str:
    if step.number == 1:
        return f"began at {step.start}" if step.start is not None else "began"
    return f"went on at {_where(step)}" if step.start is not None else "went on"


def _shown_end(step: Step) -> str:
    where = str(step.end) if step.end is not None else ""
    if step.ending:
        return f"its end ({step.ending}{' at ' + where if where else ''})"
    return where or "its next wait"
