"""The wake-up sweep: which arrivals it lets meet, and that it finds what comes between a wake-up and its task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import dense_walk
from simloop.choices.lateness import LATE
from simloop.explore.strategies.base import Canonical
from simloop.explore.strategies.wakeup import WakeUpSweep, meetings
from simloop.explore.wakeups import WakeUps
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

LIMITS = Limits()


class Lock:
    """asyncio.Lock as it was first written: between two owners it looks free."""

    def __init__(self) -> None:
        self.locked = False
        self.waiters: list[asyncio.Future[None]] = []

    async def acquire(self) -> None:
        if self.locked:
            waiter = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            await waiter
            self.waiters.remove(waiter)
        self.locked = True

    def release(self) -> None:
        self.locked = False
        if self.waiters and not self.waiters[0].done():
            self.waiters[0].set_result(None)


async def ask(port: int, *lines: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for line in lines:
        writer.write(f"{line}\n".encode())
        await reader.readline()
    writer.close()


async def bookings() -> None:
    """Three clients book, and each booking asks another server: the third comes while the lock is between owners."""
    lock = Lock()
    inside: list[str] = []
    overlaps: list[str] = []

    async def book(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := (await reader.readline()).decode().strip():
            if line != "ping":
                await lock.acquire()
                overlaps.extend(inside)
                inside.append(line)
                await ask(7001, line)
                inside.remove(line)
                lock.release()
            writer.write(b"done\n")
        writer.close()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(book, "127.0.0.1", 7000), await asyncio.start_server(echo, "127.0.0.1", 7001):
        await asyncio.gather(ask(7000, "a"), ask(7000, "b"), ask(7000, "ping", "ping", "ping", "c"))
        await asyncio.sleep(1)
    assert not overlaps


async def two_strangers() -> None:
    """Two clients of an echo server, which have nothing to do with each other."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 7000):
        await asyncio.gather(ask(7000, "1", "2"), ask(7000, "3", "4", "5", "6"))
        await asyncio.sleep(1)


def watched(main: Callable[[], Coroutine[Any, Any, None]]) -> WakeUps:
    watching = WakeUps()
    assert execute(main, Choices(1), LIMITS, watching).exception is None
    return watching


def test_a_wake_up_meets_who_comes_to_where_it_was_waited() -> None:
    first, second = ("localhost:7001#1<", "net.deliver", 2), ("localhost:7001#2<", "net.deliver", 2)
    b, c = ("localhost:7000#2>", "net.deliver", 1), ("localhost:7000#3>", "net.deliver", 4)
    # The first two bookings end with an answer, by which the next owner of the lock is woken. Of requests, that of
    # another client meets it: not the one by which the owner itself came to wait.
    assert meetings(watched(bookings)) == [[(first, c)], [(second, b)]]


def test_who_waits_for_the_network_alone_is_woken_by_nobody() -> None:
    assert meetings(watched(two_strangers)) == []


def test_watched_runs_go_the_same_way() -> None:
    for seed in range(20):
        plain, watched = (
            execute(bookings, Choices(1, dense_walk(seed)), LIMITS, observer) for observer in (None, WakeUps())
        )
        assert plain.choices.digest == watched.choices.digest


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_request_meets_the_turn_between_two_owners(seed: int) -> None:
    failure = simloop.explore(bookings, seed=seed).failure
    assert failure is not None
    assert failure.strategy == "wakeup sweep"
    assert failure.run_number <= 10
    assert len(failure.schedule.deviations) == 2


def test_each_pair_meets_in_both_orders_of_its_poll() -> None:
    first = Canonical(1, WakeUps)
    sweep = WakeUpSweep(1, first)
    planned = first.plan()
    assert planned is not None
    canonical = execute(bookings, Choices(1), LIMITS, planned.observer).choices
    sweep.observe(canonical, False)
    late, orders = [], []
    while (plan := sweep.plan()) is not None:
        deviations = execute(bookings, Choices(plan.seed, plan.decide), LIMITS).choices.deviations()
        late.append({point.who for point, value in deviations.items() if value == LATE.get(point.kind)})
        orders.append(any(point.kind == "poll.order" for point in deviations))
    assert late == 2 * [
        {"localhost:7001#1<", "localhost:7000#3>"},
        {"localhost:7001#2<", "localhost:7000#2>"},
    ]
    assert orders == [False, False, True, True]


def test_it_has_no_turns_where_nobody_wakes_anybody_else() -> None:
    report = simloop.explore(two_strangers, seed=1, strategies="wakeup sweep")
    assert report.failure is None
    assert report.runs == 1
