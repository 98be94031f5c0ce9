"""The orders that a profile adds to those which stock asyncio can have (design, section 4).

``portable``: what asyncio's documentation leaves open. ``hostile``: any ready task step may run next, which
no loop does today, for tests whose I/O is mocked away. ``cpython`` adds nothing; only the order of timers
with one deadline, which is undefined there too, is decided here for all three.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import groupby
from typing import Any

from simloop.choices import permute
from simloop.stock import CLOCK_RESOLUTION
from simloop.tasks import path_of, task_of

Ask = Callable[[str, str, int, object], int]
"""``ask(who, kind, n, subject)``: `Choices.choose`."""

# A coarser clock than Linux's cannot tell timers apart that are due within this many seconds.
_COARSE_CLOCK = 1e-3


def order_timers(due: list[Any], profile: str, who: str, ask: Ask) -> list[Any]:
    """Due timers in an order of the environment: those with one deadline in any; `portable` also permutes
    those within a millisecond."""
    span, kind = (CLOCK_RESOLUTION, "timer.tie") if profile == "cpython" else (_COARSE_CLOCK, "order.timer")
    ordered: list[Any] = []
    start = 0
    for end in range(1, len(due) + 1):
        if end == len(due) or due[end]._when - due[start]._when > span:
            group = due[start:end]
            ordered += permute(group, lambda handle, n: ask(who, kind, n, handle)) if len(group) > 1 else group
            start = end
    return ordered


def swap_handlers(ready: deque[Any], before: int, who: str, ask: Ask) -> None:
    """portable: of the two callbacks of one descriptor that a poll has appended to the `before` others, the
    writer's may come before the reader's."""
    if len(ready) - before == 2 and ask(who, "order.fd", 2, ready[-1]):
        ready[-1], ready[-2] = ready[-2], ready[-1]


def shuffle_batch(ready: deque[Any], queued: int, profile: str, who: str, ask: Ask) -> None:
    """portable: what arrived at the poll may come before what was queued. hostile: task steps in any
    order, but none before a plain callback that was queued earlier, since asyncio's own
    (`sock_connect` clears its writer in one) would fail where no program is at fault."""
    if 0 < queued < len(ready) and ask(who, "order.arrival", 2, None):
        ready.rotate(-queued)
    if profile != "hostile":
        return
    shuffled: list[Any] = []
    for is_step, handles in groupby(ready, lambda handle: task_of(handle) is not None):
        group = list(handles)
        if is_step and len(group) > 1:
            group = permute(group, lambda handle, n: ask(path_of(task_of(handle)), "order.task", n, handle))
        shuffled += group
    ready.clear()
    ready.extend(shuffled)
