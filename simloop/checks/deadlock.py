"""Says who is stuck, when nothing can ever happen again."""

from __future__ import annotations

from simloop.checks.waiting import stack_of, users_place, wakes
from simloop.errors import DeadlockError
from simloop.kernel.scheduler import Scheduler
from simloop.loop import SimLoop


def describe_deadlock(scheduler: Scheduler) -> DeadlockError:
    """The error for a world in which every process waits, and nothing is on its way to any."""
    lines = []
    for loop in scheduler.loops:
        if not isinstance(loop, SimLoop):
            continue
        where = "" if loop.process is loop.world.root else f" on {loop.process.name}"
        for task in loop.pending_tasks():
            places = stack_of(task)
            place = users_place(places)
            line = f"task {task.get_name()!r}{where} waits at {place or '?'}"
            if place is not None:
                line += f" in {place.function.rpartition('.')[2]}"
                if places[-1] != place:
                    line += f" (inside {places[-1].function})"
            lines.append(f"{line} for {wakes(task, places)}")
    what = "deadlock: nothing can wake any task any more"
    if not lines:
        what = "deadlock: a blocking call waits for what can never happen"
    return DeadlockError("\n  ".join([what, *lines]), tuple(lines))
