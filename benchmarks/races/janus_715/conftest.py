"""Ends a step that never gives the loop back, which would hang a test run for good."""

from __future__ import annotations

import asyncio
import itertools

import pytest

_WAITS_MAX = 100


@pytest.fixture
def no_endless_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit for the number of waits of a run, which makes a few: as pytest-timeout would end it, but at the same point
    of each run of a schedule."""
    waits = itertools.count(1)
    wait = asyncio.Event.wait

    async def counted(self: asyncio.Event) -> bool:
        if next(waits) > _WAITS_MAX:
            raise TimeoutError(f"an event was waited for more than {_WAITS_MAX} times")
        return await wait(self)

    monkeypatch.setattr(asyncio.Event, "wait", counted)
