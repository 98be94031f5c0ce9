"""Why a run failed: what was different from the nearest run that passes."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    """A failing run, told beside the nearest one that passes, if there is one.

    The two differ by the deviation `left_out`, or, where that is None, by all of them: then the passing run
    is the canonical one.
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
        """Costs of blocking calls, of files as well, for each loop that they stopped for long, one sentence each."""
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
        """Which of the deviations, counted from 1, the passing run does without, if it is one alone."""
        points = [deviation.answer.point for deviation in self.failing.deviations]
        if self.passing is None or self.left_out not in points:
            return None
        return points.index(self.left_out) + 1

    def parting(self) -> int:
        """Number of steps that the two runs have in common."""
        if self.passing is None:
            return 0
        pairs = zip(self.failing.steps, self.passing.steps, strict=False)
        return next(
            (at for at, (left, right) in enumerate(pairs) if not left.same_as(right)),
            min(len(self.failing.steps), len(self.passing.steps)),
        )

    def flipped(self) -> tuple[Step, Step] | None:
        """Two steps of which the first came before the second in the failing run, and after it, or not at all, in
        the passing one; or one step of a task that went two ways."""
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
        """Step in which the task that was cancelled from outside noticed it."""
        for deviation in self.failing.deviations:
            if deviation.answer.point.kind == "cancel" and self.left_out in (None, deviation.answer.point):
                for step in self.failing.steps[deviation.at :]:
                    if step.actor == deviation.actor and step.from_outside:
                        return step
        return None

    def headline(self) -> str:
        """Sentence on what the deviation did to the order of steps; empty where the deviation says it all."""
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
        """The lines that race: where each is, its text, and a mark. Of a task that was cancelled those around the
        place."""
        pair = self.flipped()
        if pair is None:
            return []
        first, second = pair
        lines: list[tuple[Place, str]] = []
        if first.cancelled and first.start is not None and first.actor == second.actor:
            for line in range(first.start.line - 1, first.start.line + 2):
                mark = "<- cancelled here" if line == first.start.line else ""
                lines.append((replace(first.start, line=line), mark))
        else:
            lines = [(place, "") for step in pair for place in _gone_through(step)]
        if second.waker is not None:
            lines.append((second.waker, ""))
        shown = [(place, mark) for place, mark in dict.fromkeys(lines) if not is_stdlib(place.file)]
        found = [(str(place), source_of(place), mark) for place, mark in shown]
        return [line for line in found if line[1]][:_SOURCE_MAX]

    def still_waiting(self) -> list[str]:
        """Tasks that were waiting when it failed by a timeout, and for what."""
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
        """The step in which a task failed, if one did: the last such."""
        return next((step for step in reversed(self.failing.steps) if step.ending.startswith("raises")), None)

    def stuck(self) -> list[Step]:
        """Last steps of the tasks that wait for ever in a deadlock, the main task's first."""
        if not isinstance(self.exception, DeadlockError):
            return []
        last = {step.actor.path: step for step in self.failing.steps}
        return sorted((step for step in last.values() if not step.ending), key=lambda step: step.actor.path != "0")

    def actors(self) -> list[Actor]:
        """The tasks whose steps matter: those of the deviation and of the flipped pair, and the one that failed."""
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
        """Every task of the two runs, those that matter first."""
        traces = [self.failing] + ([self.passing] if self.passing is not None else [])
        return list(dict.fromkeys([*self.actors(), *(step.actor for trace in traces for step in trace.steps)]))


def _gone_through(step: Step) -> list[Place]:
    """The lines of a step, where they are few and of one function."""
    start, end = step.start, step.end
    if start is None:
        return []
    if end is None or (end.file, end.function) != (start.file, start.function):
        return [start]
    if not 0 < end.line - start.line < _FEW_LINES:
        return [start]
    return [replace(start, line=line) for line in range(start.line, end.line + 1)]


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
