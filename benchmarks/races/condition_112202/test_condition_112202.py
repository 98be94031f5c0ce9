"""Is a connection that comes back to a pool given to somebody who waits for one?

`Condition.notify` wakes a waiter that is cancelled before it runs, and nobody else is woken instead.
https://github.com/python/cpython/issues/112202: in CPython 3.11 and 3.12 (seen in 3.11.7 and 3.12.1); fixed in 3.13.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Pool:
    """One connection, lent to one user after another."""

    def __init__(self) -> None:
        self._free = ["connection"]
        self._returned = asyncio.Condition()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[str]:
        async with self._returned:
            await self._returned.wait_for(lambda: self._free)
            taken = self._free.pop()
        try:
            yield taken
        finally:
            async with self._returned:
                self._free.append(taken)
                self._returned.notify()


async def query(pool: Pool) -> str:
    async with pool.connection() as connection:
        await asyncio.sleep(0.01)
        return f"answer from {connection}"


async def test_everybody_who_stays_gets_a_connection(sim):
    pool = Pool()
    queries = [asyncio.create_task(query(pool), name=f"query {number}") for number in range(3)]
    sim.may_cancel(queries[1])  # this user may go away
    async with asyncio.timeout(60):
        for patient in (queries[0], queries[2]):
            assert await patient == "answer from connection"
