"""Run orders of ready callbacks and due timers that a profile (``cpython``, ``portable``, ``hostile``) adds to those of
stock asyncio.

``portable`` adds what asyncio's documentation leaves open. With ``hostile``, any ready task step may run next, and may
be late by any number of turns, which no existing loop does; it is meant for tests whose I/O is mocked. ``cpython`` adds
nothing.
"""

from __future__ import annotations

from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, Any

from simloop.choices.choices import permute
from simloop.loop.tasks import path_of, task_of

if TYPE_CHECKING:
    from simloop.loop.timers import Ask

# What the answers at `order.lag` mean: by how many turns a task step is late in which others run.
LAGS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 21, 34)


def swap_handlers(ready: deque[Any], before: int, who: str, ask: Ask) -> None:
    """Swap the two callbacks of one descriptor, if the environment chooses so: the writer's then runs before the
    reader's. A poll has appended them to `ready` after `before` other callbacks. Not used in the profile
    ``cpython``."""
    if len(ready) - before == 2 and ask(who, "order.fd", 2, ready[-1]):
        ready[-1], ready[-2] = ready[-2], ready[-1]


def shuffle_batch(ready: deque[Any], queued: int, profile: str, who: str, ask: Ask, lagging: dict[Any, int]) -> int:
    """Reorder the callbacks of a turn as the environment chooses. Returns how many callbacks at the end of `ready` are
    not to run in this turn.

    In the profile ``portable``, those that arrived at the poll may run before the `queued` ones that were there
    already. In ``hostile``, task steps may also run in any order among themselves and before the program's plain
    callbacks, which keep their order; and task steps may be late by some turns. asyncio's own callbacks are never
    overtaken: `sock_connect`, for example, removes its writer in one, and would fail without a fault of the program.

    `lagging` holds the number of turns for which each late callback still has to wait.
    """
    if 0 < queued < len(ready) and ask(who, "order.arrival", 2, None):
        ready.rotate(-queued)
    if profile != "hostile":
        return 0
    if len(ready) < 2:
        lagging.clear()
        return 0
    going, staying = _leave_behind(ready, ask, lagging)
    shuffled: list[Any] = []
    for fixed, handles in groupby(going, _is_asyncios):
        group = list(handles)
        shuffled += group if fixed or len(group) < 2 else permute(group, lambda handle, later: _ask(handle, later, ask))
    ready.clear()
    ready.extend(shuffled)
    ready.extend(staying)
    return len(staying)


def _leave_behind(ready: deque[Any], ask: Ask, lagging: dict[Any, int]) -> tuple[list[Any], list[Any]]:
    """Divide the callbacks of a turn into those that run in it, and task steps that the environment makes late. If all
    would be late, none is."""
    going: list[Any] = []
    staying: list[tuple[Any, int]] = []
    for handle in ready:
        turns = lagging.pop(handle, None)
        if turns is None:
            task = task_of(handle)
            turns = 0 if task is None else LAGS[ask(path_of(task), "order.lag", len(LAGS), task)]
        if turns:
            staying.append((handle, turns))
        else:
            going.append(handle)
    if not going:
        return [handle for handle, _ in staying], []
    for handle, turns in staying:
        lagging[handle] = turns - 1
    return going, [handle for handle, _ in staying]


def _ask(handle: Any, later: deque[Any], ask: Ask) -> int:
    """Return the number of `later` callbacks that run before this one, as the environment chooses."""
    task = task_of(handle)
    if task is not None:
        return ask(path_of(task), "order.task", len(later) + 1, (handle, later))
    steps = next((at for at, other in enumerate(later) if task_of(other) is None), len(later))
    name = getattr(handle._callback, "__name__", "callback")
    return ask(f"@{name}", "order.task", steps + 1, (handle, later)) if steps else 0


def _is_asyncios(handle: Any) -> bool:
    module = getattr(handle._callback, "__module__", None) or ""
    return task_of(handle) is None and module.partition(".")[0] in ("asyncio", "_asyncio", "simloop")
