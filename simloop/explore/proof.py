"""Proof of a failure: its schedule, replayed on stock asyncio's own event loop with the same events arriving from
outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.errors import limit_met
from simloop.explore.signature import signature_of
from simloop.loop.stock_loop import Arrivals

if TYPE_CHECKING:
    from collections.abc import Callable

    from simloop.choices.choices import Choices
    from simloop.choices.schedule import Schedule
    from simloop.simulation.outcome import Outcome

_HEAD = "replayed on stock asyncio: "


def prove(execute: Callable[[Choices], Outcome], schedule: Schedule, error: BaseException) -> str:
    """Replay a schedule on stock asyncio's own event loop (`simloop.loop.stock_loop`). Return a sentence that says if
    it failed with the same error as `error` there, or else what happened."""
    limit = limit_met(error)
    if limit:
        return f"not replayed on stock asyncio: {limit}"
    choices = schedule.choices()
    choices.stock = Arrivals()
    outcome = execute(choices)
    found = outcome.exception
    if found is not None and signature_of(found) == signature_of(error):
        return f"{_HEAD}same failure"
    came = "no failure" if found is None else f"another failure, {type(found).__name__}"
    missing = [point.kind for point in schedule.deviations if point not in choices.deviations()]
    if any(kind.startswith("order.") for kind in missing):
        return f"{_HEAD}{came}, since it never has the orders that profile {schedule.profile} adds"
    return f"{_HEAD}{came}"
