"""Does a worker that is told to stop, stop?

`asyncio.wait_for` swallows a cancellation that comes while what it waits for has just been completed.
https://github.com/python/cpython/issues/86296: in CPython up to 3.11; fixed in 3.12.
"""

from __future__ import annotations

import asyncio


async def work(jobs: asyncio.Queue[int | None], done: list[int]) -> None:
    """Does jobs until there are no more; has a look around when there was none for a minute."""
    while True:
        try:
            job = await asyncio.wait_for(jobs.get(), 60)
        except TimeoutError:
            continue
        if job is None:
            return
        done.append(job)


async def test_a_worker_that_was_cancelled_ends_as_cancelled(sim):
    jobs: asyncio.Queue[int | None] = asyncio.Queue()
    done: list[int] = []
    worker = asyncio.create_task(work(jobs, done), name="worker")
    sim.may_cancel(worker)  # the service may be shut down at any moment
    for job in range(3):
        await asyncio.sleep(1)
        jobs.put_nowait(job)
    jobs.put_nowait(None)
    await asyncio.wait([worker])
    if worker.cancelling():
        assert worker.cancelled(), "told to stop, and went on"
    else:
        assert done == [0, 1, 2]
