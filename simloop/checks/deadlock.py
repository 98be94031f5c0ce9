"""Description of a deadlock: which task waits for what, and which task holds it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from simloop.checks.waiting import name_of, named, stack_of, users_place, waited_tasks, waited_thing, wakes
from simloop.errors import DeadlockError
from simloop.kernel.process.process import Process
from simloop.loop.loop import SimLoop

if TYPE_CHECKING:
    from simloop.checks.touches import Touch, Touches
    from simloop.kernel.scheduler import Scheduler
    from simloop.sources import Place

#: Maximum number of lines in the error; beyond it only the number of tasks is given.
_LINES_MAX = 24

Edges = dict[asyncio.Task[Any], list[asyncio.Task[Any]]]


def describe_deadlock(scheduler: Scheduler) -> DeadlockError:
    """Return the error for a deadlock: every process of the world waits, and no event is left that could wake one."""
    lines: list[str] = []
    details: list[str] = []
    places: list[str] = []
    edges: Edges = {}
    for loop in scheduler.loops:
        if not isinstance(loop, SimLoop):
            continue
        where = "" if loop.process is loop.world.root else f" on {loop.process.name}"
        observer = loop.world.observer
        touches: Touches | None = getattr(observer, "touches", None)
        if observer is not None:
            observer.over = True  # what follows is the end of the world, not of the program
        for task in loop.resources.pending_tasks():
            stack = stack_of(task)
            place = users_place(stack)
            who = f"{name_of(task)}{where} waits at {place or '?'}"
            inside = ""
            if place is not None:
                places.append(f"{place.file}:{place.line}")
                who += f" in {place.function.rpartition('.')[2]}"
                inside = f" (inside {stack[-1].function})" if stack[-1] != place else ""
            thing = waited_thing(task)
            name = named(task, thing)
            what = f"for {wakes(task, stack)}{f' {name}' if name else ''}{inside}"
            lines.append(f"{who} {what}")
            details += [who, f"    {what}"]
            edges[task] = waited_tasks(task)
            if touches is not None and thing is not None:
                details += _history(task, thing, touches, edges)
    what = "deadlock: nothing can wake any task any more"
    if not lines:
        what = "deadlock: a blocking call waits for what can never happen"
    stopped = [loop.process for loop in scheduler.loops if loop.process.stopped]
    details += [
        f"{process.name} stands still with its host, until resume()"
        if isinstance(process, Process) and process.host.paused
        else f"{process.name} is stopped by a signal, until SIGCONT"
        for process in stopped
    ]
    shown = details[:_LINES_MAX]
    if len(shown) < len(details):
        shown.append(f"... {len(lines)} tasks in all")
    cycle = _cycle(edges)
    if cycle:
        shown.append(f"a cycle: {' waits for '.join(repr(task.get_name()) for task in cycle)}")
    return DeadlockError("\n  ".join([what, *shown]), tuple(lines), tuple(places))


def _history(task: asyncio.Task[Any], thing: object, touches: Touches, edges: Edges) -> list[str]:
    """Return lines on which tasks hold the object that the task waits for, or which one used it last."""
    # A condition is waited for with its lock given back: what matters is who notifies.
    holders = touches.holders(thing)
    if holders:
        edges[task] += [held.task for held in holders if held.task is not None]
        return [f"    held by {_by(held, task, thing)}" for held in holders[:3]]
    last = touches.last(thing)
    if last is None:
        return ["    which nobody has touched"]
    return [f"    which {_who(last, task)} {last.what} last{_at(last.place)}"]


def _by(held: Touch, task: asyncio.Task[Any], thing: object) -> str:
    ended = " (which has ended)" if held.ended else ""
    known_as = named(held.task, thing) if held.task is not None else ""
    return f"{_who(held, task)}{ended}, which acquired it{f' as {known_as}' if known_as else ''}{_at(held.place)}"


def _who(touch: Touch, own: asyncio.Task[Any]) -> str:
    if touch.by is None:
        return "a callback"
    return "the task itself" if touch.task is own else touch.name


def _at(place: Place | None) -> str:
    return f" at {place}" if place is not None else ""


def _cycle(edges: Edges) -> list[asyncio.Task[Any]]:
    """Return tasks that wait for one another in a cycle, the first one again at the end; empty if there is no cycle."""
    for start in edges:
        path = [start]
        while True:
            following = [task for task in edges.get(path[-1], ()) if task in edges]
            if not following:
                break
            if following[0] in path:
                return [*path[path.index(following[0]) :], following[0]]
            path.append(following[0])
    return []
