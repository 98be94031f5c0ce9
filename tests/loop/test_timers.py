"""Deadlines of a loop's timers that an arrival may race."""

from __future__ import annotations

import asyncio
import heapq
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simloop
from simloop.kernel.clock import SECOND
from simloop.kernel.scheduler import CONTENDERS_MAX
from simloop.loop.timers import deadlines_between

LOOP = asyncio.new_event_loop()
LOOP.close()


few = st.lists(st.integers(0, 200), max_size=32)
# Of so many, not all are looked at.
many = st.lists(st.integers(0, 50), min_size=33, max_size=60)


def heap_of(times_ms: list[int]) -> list[asyncio.TimerHandle]:
    heap = [asyncio.TimerHandle(ms / 1000, print, (), LOOP) for ms in times_ms]
    heapq.heapify(heap)
    return heap


def due_of(ms: int) -> int:
    return math.ceil(ms / 1000 * SECOND)


@given(times=st.lists(st.integers(1, 200), min_size=33, max_size=60, unique=True), end=st.integers(0, 250))
def test_the_soonest_are_found_however_many_there_are(times: list[int], end: int) -> None:
    due = [due_of(ms) for ms in sorted(times) if ms <= end]
    assert deadlines_between(heap_of(times), 0, due_of(end)) == due[:CONTENDERS_MAX]


@given(times=few | many, start=st.integers(0, 50), length=st.integers(0, 60))
def test_none_is_named_twice_or_is_out_of_range(times: list[int], start: int, length: int) -> None:
    found = deadlines_between(heap_of(times), due_of(start), due_of(start + length))
    due = sorted({due_of(ms) for ms in times if start < ms <= start + length})
    if len(times) <= 32:
        assert found == due[:CONTENDERS_MAX]
    assert set(found) <= set(due)
    assert found == sorted(set(found))
    assert len(found) <= CONTENDERS_MAX


@pytest.mark.parametrize("never", [math.inf, 1e300])
def test_what_is_never_due_is_waited_for_as_on_stock(never: float) -> None:
    async def neighbour() -> None:
        await asyncio.sleep(never)

    async def main() -> None:
        beside = asyncio.create_task(simloop.current().host("other").run(neighbour))
        sleeping = asyncio.create_task(asyncio.sleep(never))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(never)
        async with asyncio.timeout(never):
            await asyncio.to_thread(time.sleep, 1)
        sleeping.cancel()
        beside.cancel()

    report = simloop.explore(main, runs=30)
    assert report.failure is None
