"""Cancel sweep: cancels each task that may be cancelled, and sends each signal that may come, at every poll of the
event loop in turn."""

from __future__ import annotations

from simloop.choices.choices import Choices, Point
from simloop.choices.who import Who
from simloop.explore.strategies.sweep import Groups, Sweep


class CancelSweep(Sweep):
    """Sweep in which each run cancels one task that may be cancelled, at one poll of the event loop while the task
    lives; polls around the wake-ups of the task come first.

    The callback that wakes a task runs one loop iteration before the task does. So a cancellation at the last poll but
    one of a wait coincides with the wake-up (after the I/O that resolves the future, and before the task has run), and
    one at the last poll comes right after the task has run.

    Other runs send a signal from outside: at one poll of a process's event loop, or at one of its blocking calls.
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
