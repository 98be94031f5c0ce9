"""The meeting walk: what it holds, and that it finds what comes between a wake-up and its task."""

from __future__ import annotations

import asyncio
from collections import Counter

import simloop
from simloop.choices.choices import Choices, Point
from simloop.choices.draws import LATE, dense_walk
from simloop.explore.strategies.base import Plan
from simloop.explore.strategies.meeting import MeetingWalk
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


def test_arrivals_are_known_after_which_one_task_wakes_another() -> None:
    watching = WakeUps()
    assert execute(bookings, Choices(1), LIMITS, watching).exception is None
    answers = [who for who, _, _ in watching.waking if who.startswith("localhost:7001")]
    # The first two bookings end with an answer, by which the next owner of the lock is woken; the third wakes nobody.
    assert answers == ["localhost:7001#1<", "localhost:7001#2<"]


def test_watched_runs_go_the_same_way() -> None:
    for seed in range(20):
        plain, watched = (
            execute(bookings, Choices(1, dense_walk(seed)), LIMITS, observer) for observer in (None, WakeUps())
        )
        assert plain.choices.digest == watched.choices.digest


def test_a_request_meets_the_turn_between_two_owners() -> None:
    needed = []
    for seed in range(1, 11):
        failure = simloop.explore(bookings, seed=seed, strategies="meeting walk").failure
        assert failure is not None, seed
        assert failure.strategy == "meeting walk"
        needed.append(failure.run_number)
    assert sorted(needed)[5] <= 20, needed


def held_in(walk: MeetingWalk, count: int) -> list[frozenset[object]]:
    """Return what is held in each of the first runs of a walk."""
    found: list[frozenset[object]] = []
    plan: Plan | None = Plan(walk._seed, None, walk.watch())
    for _ in range(count):
        assert plan is not None
        choices = execute(bookings, Choices(plan.seed, plan.decide), LIMITS, plan.observer).choices
        walk.observe(choices, False)
        found.append(frozenset(point for point, value in choices.deviations().items() if value == LATE.get(point.kind)))
        plan = walk.plan()
    return found[1:]


def test_what_is_held_meets_what_came_last_without_it() -> None:
    runs = held_in(MeetingWalk(1), 60)
    sizes = Counter(map(len, runs))
    # One arrival alone is held once for each, and then together with others, each of another connection.
    assert 4 <= sizes[1] < 30
    assert sum(sizes[size] for size in sizes if size > 1) > 20
    wanted = {Point("localhost:7001#1<", "net.deliver", 2), Point("localhost:7000#3>", "net.deliver", 4)}
    assert any(wanted <= held for held in runs)


def test_it_has_no_turns_where_nobody_wakes_anybody_else() -> None:
    report = simloop.explore(two_strangers, seed=1, strategies="meeting walk")
    assert report.failure is None
    # The canonical run, and one to see that nothing goes on while the last answer of all is late.
    assert report.runs <= 3


def test_campaigns_of_neighbouring_seeds_hold_other_arrivals() -> None:
    assert held_in(MeetingWalk(1), 20) == held_in(MeetingWalk(1), 20)
    assert held_in(MeetingWalk(1), 20) != held_in(MeetingWalk(2), 20)
