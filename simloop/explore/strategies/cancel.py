"""Cancel sweep: cancels each task that may be cancelled, and sends each signal that may come, at each poll of an event
loop in turn."""

from __future__ import annotations

from simloop.choices.choices import Choices, Point
from simloop.choices.who import Who
from simloop.explore.strategies.sweep import Groups, Sweep


class CancelSweep(Sweep):
    """Sweep that cancels each task that may be cancelled, at each poll of the loop while the task lives. Polls around
    the wake-ups of the task come first.

    The callback that wakes a task runs in the turn before the last of its wait. So at the last poll but one of each
    wait a cancellation meets the wake-up itself (it comes after the I/O that resolves the future, and before the task
    has run), and at the last poll it comes right after the step.

    A signal from outside is such an arrival, too. It may come at each poll of a process's loop, and at each of its
    calls that block.
    """

    name = "cancel sweep"
    # Each wait of a task is a race of its own, and what it waits for first is mostly what the others wait for.
    in_order = True

    def rank(self, choices: Choices) -> list[Groups]:
        waits: dict[str, list[Point]] = {}
        for who, kind, number, n, _ in choices.recorded:
            if kind == "cancel" and n > 1:
                waits.setdefault(who, []).append(Point(who, kind, number))
        classes: list[Groups] = [{}, {}, {}, {}, {}]
        for who, points in waits.items():
            task = Who(who).task
            woken, after, began, before, rest = (groups.setdefault(task, []) for groups in classes)
            after.append((points[-1], 1))
            woken += [(point, 1) for point in points[-2:-1]]
            began += [(point, 1) for point in points[:1] if len(points) > 2]
            before += [(point, 1) for point in points[-3:-2] if len(points) > 3]
            rest += [(point, 1) for point in points[1:-3]]
        for who, kind, number, _, _ in choices.recorded:
            if kind == "signal.sent":
                classes[0].setdefault(who, []).append((Point(who, kind, number), 1))
        return classes
