"""Is a lock free again when everybody who wanted it has had it, or has gone away?

`anyio.Lock.release` hands the lock to the first waiter; one that is cancelled before it runs keeps it for ever.
https://github.com/agronholm/anyio/issues/387: in anyio 3.3.4; fixed in 3.4.0.
"""

from __future__ import annotations

import asyncio

import anyio


async def append(lock: anyio.Lock, file: list[str], line: str) -> None:
    async with lock:
        await asyncio.sleep(0.01)
        file.append(line)


async def test_writers_that_stay_write_their_line(sim):
    lock = anyio.Lock()
    file: list[str] = []
    writers = [asyncio.create_task(append(lock, file, line), name=f"write {line}") for line in ("one", "two", "three")]
    sim.may_cancel(writers[1])  # this user may go away
    async with asyncio.timeout(60):
        await asyncio.wait(writers)
    assert {"one", "three"} <= set(file)
