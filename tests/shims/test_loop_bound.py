"""Objects of asyncio that a module holds, in one run after the other."""

from __future__ import annotations

import asyncio

import pytest

import simloop

LOCK = asyncio.Lock()
QUEUE: asyncio.Queue[int] = asyncio.Queue()
EVENT = asyncio.Event()


async def main() -> int:
    async def locks() -> None:
        async with LOCK:
            await asyncio.sleep(0)

    async def puts() -> None:
        await asyncio.sleep(0)
        EVENT.set()
        QUEUE.put_nowait(1)

    EVENT.clear()
    *_, got = await asyncio.gather(locks(), locks(), puts(), EVENT.wait(), QUEUE.get())
    return got


def test_each_run_is_the_first_to_use_them() -> None:
    assert [simloop.run(main) for _ in range(2)] == [1, 1]
    report = simloop.explore(main, runs=20)
    assert (report.failure, report.numbered, report.forked) == (None, False, False)
    # And so is what is not simulated.
    assert asyncio.run(main()) == 1


def test_two_loops_of_a_run_do_not_share_one() -> None:
    lock = asyncio.Lock()

    async def locks(seconds: float) -> None:
        async with lock:
            await asyncio.sleep(seconds)

    async def both() -> None:
        await asyncio.gather(locks(1), locks(1))
        with pytest.raises(RuntimeError, match="bound to a different event loop"):
            await asyncio.to_thread(lambda: asyncio.run(elsewhere()))

    async def elsewhere() -> None:
        await asyncio.gather(locks(1), locks(1))

    simloop.run(both)
