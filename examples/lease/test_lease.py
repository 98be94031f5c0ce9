from __future__ import annotations

import asyncio

import pytest
from lease import Locks, Worker
from mistaken import CountsOnRenewal, JudgesByTheWallClock, WritesForAnybody

import simloop


def alone(workers: list[Worker]) -> bool:
    return len([worker for worker in workers if worker.holds()]) <= 1


async def one_writes_at_a_time(sim: simloop.Sim, locks: Locks, kind: type[Worker]) -> None:
    workers = [kind("a", 8), kind("b", 8)]
    service = sim.host("locks")
    serving = asyncio.create_task(service.run(locks.serve))
    working = [asyncio.create_task(sim.host(worker.name).run(worker.work)) for worker in workers]

    # What may go wrong, each thing once.
    service.clock.may_step(up_to=30)
    sim.network.may_partition("a", "locks")
    sim.host("a").may_pause()

    try:
        for _ in range(100):
            await asyncio.sleep(1)
            assert alone(workers), "both workers hold the lease"
            assert locks.written == sorted(locks.written), "an earlier holder wrote after a later one"
        await sim.converges(lambda: not any(worker.jobs for worker in workers), within=300)
        await asyncio.gather(*working)
    finally:
        service.crash()  # it may wait for clients that have given up
        await asyncio.gather(serving, return_exceptions=True)


async def test_the_service(sim):
    await one_writes_at_a_time(sim, Locks(), Worker)


@pytest.mark.parametrize("locks", [JudgesByTheWallClock, WritesForAnybody])
async def test_mistakes_of_the_service(sim, locks):
    await one_writes_at_a_time(sim, locks(), Worker)


async def test_mistake_of_the_workers(sim):
    await one_writes_at_a_time(sim, Locks(), CountsOnRenewal)
