"""What a campaign tries, in which order, and when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.schedule import Schedule
from simloop.explore.campaign import Campaign
from simloop.explore.strategies.base import Plan
from simloop.explore.strategies.cancel import CancelSweep
from simloop.explore.strategies.timeout import TimeoutSweep
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

LIMITS = Limits()


def campaign(main: Callable[[], Coroutine[Any, Any, Any]], **options: Any) -> Campaign:
    def run(choices: Choices, observer: Any = None, **_: Any) -> Any:
        return execute(main, choices, LIMITS, observer)

    return Campaign(run, main.__qualname__, **options)


async def reply_races_cancellation() -> None:
    """Fails only where the cancellation comes in the one turn in which the answer has come and is not read yet:
    the window that most real bugs have."""
    sim = simloop.current()
    answers: asyncio.Queue[int] = asyncio.Queue()
    owed = 0

    async def serve() -> None:
        nonlocal owed
        for _ in range(5):
            await asyncio.sleep(0.01)
        owed += 1
        answers.put_nowait(1)

    async def ask() -> None:
        nonlocal owed
        await answers.get()
        owed -= 1

    server = asyncio.create_task(serve())
    asking = asyncio.create_task(ask())
    sim.may_cancel(asking)
    await asyncio.wait([asking, server])
    assert not owed or asking.cancelled()
    # The queue hands an item that a cancelled getter did not take to the next one.
    assert answers.qsize() == owed


async def cancelled_in_its_only_turn() -> None:
    sim = simloop.current()
    handed = asyncio.get_running_loop().create_future()
    taken = False

    async def take() -> None:
        nonlocal taken
        for _ in range(20):
            await asyncio.sleep(0.001)
        await handed
        await asyncio.sleep(0.5)
        taken = True

    async def hand() -> None:
        await asyncio.sleep(0.1)
        handed.set_result(None)

    task = asyncio.create_task(take())
    sim.may_cancel(task)
    await asyncio.wait([task, asyncio.create_task(hand())])
    # Whoever was handed it and then cancelled before he could go on has lost it.
    assert taken or not handed.done() or not task.cancelled() or simloop.current().elapsed > 0.2


def test_the_cancel_sweep_tries_the_turns_around_wake_ups_first() -> None:
    report = simloop.explore(cancelled_in_its_only_turn, runs=200)
    assert report.failure is not None
    assert report.failure.strategy == "cancel sweep"
    assert report.failure.run_number <= 50
    (point,) = report.failure.schedule.deviations
    assert point.kind == "cancel"


def test_each_task_has_its_turn_in_the_sweep() -> None:
    async def main() -> None:
        sim = simloop.current()

        async def long() -> None:
            for _ in range(30):
                await asyncio.sleep(0.001)

        async def short() -> None:
            await asyncio.sleep(0.5)

        tasks = [asyncio.create_task(long()), asyncio.create_task(short())]
        for task in tasks:
            sim.may_cancel(task)
        await asyncio.wait(tasks)

    sweep = CancelSweep(0, lambda: 6)
    sweep.observe(execute(main, Choices(0, None), LIMITS).choices, False)
    cancelled: list[str] = []
    while len(cancelled) < 6:
        plan = sweep.plan()
        assert plan is not None
        choices = Choices(plan.seed, plan.decide)
        execute(main, choices, LIMITS)
        cancelled += [point.who.partition("~")[0] for point in choices.deviations()]
    assert set(cancelled) == {"long", "short"}


async def reply_and_timeout(delay: float) -> str:
    """A reply that comes long before its deadline, with nothing else going on."""
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[str] = loop.create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 7000)
    reader, writer = await asyncio.open_connection("127.0.0.1", 7000)
    loop.call_later(delay, lambda: None if reply.done() else reply.set_result("late"))
    writer.write(b"hello\n")
    read = asyncio.create_task(reader.readline())
    read.add_done_callback(lambda task: None if reply.done() else reply.set_result("in time"))
    try:
        return await reply
    finally:
        await read
        writer.close()
        server.close()


@pytest.mark.parametrize("delay", [0.001, 0.03])
def test_the_timeout_sweep_lets_a_timer_come_before_with_and_after_an_arrival(delay: float) -> None:
    async def main() -> str:
        return await reply_and_timeout(delay)

    sweep = TimeoutSweep(0, lambda: 1000)
    first = execute(main, Choices(0, None), LIMITS)
    assert first.value == "in time"
    sweep.observe(first.choices, False)
    seen = set()
    while (plan := sweep.plan()) is not None:
        choices = Choices(plan.seed, plan.decide)
        outcome = execute(main, choices, LIMITS)
        for point, value in choices.deviations().items():
            seen.add((point.kind, "after" if value % 2 == 0 and point.kind == "net.race" else "", outcome.value))
    assert ("net.race", "after", "late") in seen
    assert ("net.race", "", "in time") in seen
    assert ("cpu.stall", "", "late") in seen


def test_the_timeout_sweep_lets_timers_meet_that_are_close_to_one_another() -> None:
    async def main() -> list[int]:
        rung: list[int] = []
        asyncio.get_running_loop().call_later(0.0109, rung.append, 1)
        await asyncio.sleep(0.01)
        return rung

    sweep = TimeoutSweep(0, lambda: 1000)
    first = execute(main, Choices(0, None), LIMITS)
    assert first.value == []
    sweep.observe(first.choices, False)
    plan = sweep.plan()
    assert plan is not None
    assert execute(main, Choices(plan.seed, plan.decide), LIMITS).value == [1]


def test_no_packet_waits_for_a_timer_that_its_link_cannot_reach() -> None:
    async def main() -> str:
        return await reply_and_timeout(0.06)  # the jitter of loopback is 50 ms

    for seed in range(100):
        assert simloop.run(main, seed=seed) == "in time"


def test_a_test_without_choices_runs_once() -> None:
    made = 0

    async def plain() -> None:
        nonlocal made
        made += 1
        await asyncio.sleep(1)

    report = simloop.explore(plain, runs=50)
    assert (report.runs, report.schedules_in_all, report.has_choices) == (1, 1, False)
    assert made == 2  # and once more for the self-check


def test_entropy_is_something_to_explore() -> None:
    async def draws() -> None:
        import random

        assert random.random() < 0.95

    report = simloop.explore(draws, runs=200)
    assert report.failure is not None


def test_a_small_space_is_covered_and_every_schedule_run_once() -> None:
    outcomes = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        when = loop.time() + 1
        for name in "abc":
            loop.call_at(when, seen.append, name)
        await asyncio.sleep(2)
        outcomes.append("".join(seen))

    report = simloop.explore(main, runs=100)
    assert report
    assert report.schedules_in_all == report.runs == 6
    assert report.distinct == 6
    del outcomes[1]  # the self-check
    assert sorted(outcomes) == ["abc", "acb", "bac", "bca", "cab", "cba"]


def test_a_space_that_does_not_fit_is_not_called_complete() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + 1
        for _ in range(5):
            loop.call_at(when, lambda: None)
        await asyncio.sleep(2)

    report = simloop.explore(main, runs=100)
    assert (report.runs, report.schedules_in_all) == (100, 0)


def test_schedules_that_differ_in_time_alone_count_once() -> None:
    async def main() -> None:
        await asyncio.to_thread(lambda: None)

    # Whether its thread is late by a turn or by 20 ms: nothing else happens meanwhile.
    report = simloop.explore(main, runs=100)
    assert report.schedules_in_all
    assert report.distinct < report.runs / 2


def test_a_strategy_of_a_third_party_has_a_share_of_the_runs() -> None:
    class Mine:
        name = "mine"

        def __init__(self) -> None:
            self.heard: list[bool] = []
            self.planned = 0

        def plan(self) -> Plan | None:
            self.planned += 1
            return Plan(0, None)

        def observe(self, choices: Choices, failed: bool) -> None:
            self.heard.append(failed)

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(lambda: None) for _ in range(3)))

    mine = Mine()
    report = campaign(main, runs=50, strategies=[mine]).explore()
    # By its weight among the others.
    assert mine.planned == 9
    assert len(mine.heard) == report.runs == 50


def test_saved_failures_are_tried_first() -> None:
    failure = simloop.explore(cancelled_in_its_only_turn).failure
    assert failure is not None
    assert failure.run_number > 1
    report = campaign(cancelled_in_its_only_turn, saved=[Schedule(), failure.schedule]).explore()
    assert report.failure is not None
    assert report.failure.strategy == "saved failure"
    assert report.failure.run_number == 2
    assert report.failure.token == failure.token
