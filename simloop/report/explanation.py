"""Why a run failed: what was different from the nearest run that passes."""

from __future__ import annotations

from dataclasses import dataclass

from simloop.checks.waiting import Place, source_of
from simloop.choices import Point
from simloop.report.trace import Actor, Step, Trace


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

    def parting(self) -> int:
        """How many steps the two runs have in common."""
        if self.passing is None:
            return 0
        pairs = zip(self.failing.steps, self.passing.steps, strict=False)
        return next(
            (at for at, (left, right) in enumerate(pairs) if not left.same_as(right)),
            min(len(self.failing.steps), len(self.passing.steps)),
        )

    def flipped(self) -> tuple[Step, Step] | None:
        """Two steps of which the first came before the second in the failing run, and after it, or not at all, in
        the passing one."""
        if self.passing is None:
            return None
        at = self.parting()
        failing, passing = self.failing.steps, self.passing.steps
        if at >= len(failing) or at >= len(passing):
            return None
        first, second = failing[at], passing[at]
        if first.actor != second.actor:
            return first, second
        # One task went two ways: it was resumed with something else.
        return first, second

    def headline(self) -> str:
        """What the flipped pair means, in one sentence; empty where the deviation says it all."""
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
            return (
                f"so {first.actor.name} {_went_on(first)} with a CancelledError; "
                f"in the passing run it goes on there, woken {second.woken_by}"
            )
        return (
            f"so {first.actor.name} {_went_on(first)} and got to {_shown_end(first)}; "
            f"in the passing run it gets to {_shown_end(second)}"
        )

    def racing(self) -> list[Place]:
        """The lines of code that race, for showing their source."""
        places: list[Place] = []
        for step in self.flipped() or ():
            if step.start is not None and step.start not in places:
                places.append(step.start)
        return places

    def actors(self) -> list[Actor]:
        """The tasks whose steps matter, most important first: those of the deviation, of the flipped pair, and the one
        that failed; then the others, in order of their first step after the runs part."""
        found: list[Actor] = []

        def add(actor: Actor | None) -> None:
            if actor is not None and actor not in found:
                found.append(actor)

        for deviation in self.failing.deviations:
            if self.left_out is None or deviation.answer.point == self.left_out:
                add(deviation.actor)
        for step in self.flipped() or ():
            add(step.actor)
        for step in reversed(self.failing.steps):
            if step.ending.startswith("raises"):
                add(step.actor)
                break
        for trace in (self.failing, self.passing):
            for step in trace.steps[self.parting() :] if trace is not None else ():
                add(step.actor)
        return found

    def source(self) -> list[tuple[str, str]]:
        """The racing lines: where each is, and its text."""
        return [(str(place), source_of(place)) for place in self.racing()]


def _went_on(step: Step) -> str:
    if step.number == 1:
        return f"began at {step.start}" if step.start is not None else "began"
    return f"went on at {step.start}" if step.start is not None else "went on"


def _shown_end(step: Step) -> str:
    where = str(step.end) if step.end is not None else ""
    if step.ending:
        return f"its end ({step.ending}{' at ' + where if where else ''})"
    return where or "its next wait"
