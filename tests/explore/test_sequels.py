"""The sequel sweep: what is there only since a run has deviated is late, too."""

from __future__ import annotations

import asyncio

import simloop
from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.sequel import SequelSweep

USUAL = "localhost:1#1>"
AGAIN = "localhost:1#2>"
THIRD = "localhost:1#3>"


def made(sweep: SequelSweep, late: dict[Point, int], *asked: str) -> None:
    """Let the sweep observe a run in which these directions of connections have carried a packet each."""
    choices = Choices(1, lambda who, kind, number, n: late.get(Point(who, kind, number), 0))
    for who in asked:
        choices.choose(who, "net.deliver", 8)
        choices.choose(f"{who}0", "net.race", 3)
    sweep.observe(choices, False)


def proposed(sweep: SequelSweep) -> list[dict[Point, int]]:
    """Return the deviations of all runs that the sweep has to propose: those of the points that `made` asks."""
    points = [
        Point(*point)
        for who in (USUAL, AGAIN, THIRD)
        for point in ((who, "net.deliver", 1), (f"{who}0", "net.race", 1))
    ]
    plans = []
    while (plan := sweep.plan()) is not None:
        assert plan.decide is not None
        answers = {point: plan.decide(*point, 8) for point in points}
        plans.append({point: value for point, value in answers.items() if value})
    return plans


def test_a_run_has_sequels_where_it_made_a_connection_more() -> None:
    sweep = SequelSweep(1)
    first = {Point(USUAL, "net.deliver", 1): 4}
    made(sweep, {}, USUAL)
    made(sweep, {Point(f"{USUAL}0", "net.race", 1): 1}, USUAL)
    assert sweep.is_waiting
    made(sweep, first, USUAL, AGAIN)
    made(sweep, first, USUAL, AGAIN)
    assert not sweep.is_waiting
    assert proposed(sweep) == [
        {**first, Point(f"{AGAIN}0", "net.race", 1): 1},
        {**first, Point(AGAIN, "net.deliver", 1): 4},
    ]
    assert sweep.is_waiting


def test_what_a_cancellation_brings_about_is_no_sequel() -> None:
    sweep = SequelSweep(1)
    made(sweep, {}, USUAL)
    choices = Choices(1, lambda who, kind, number, n: int(kind == "cancel"))
    choices.choose("ask~read", "cancel", 2)
    choices.choose(AGAIN, "net.deliver", 8)
    sweep.observe(choices, False)
    assert sweep.is_waiting


def test_a_sequel_goes_on_where_its_last_deviation_has_led() -> None:
    sweep = SequelSweep(1)
    made(sweep, {}, USUAL)
    late = {Point(USUAL, "net.deliver", 1): 4, Point(AGAIN, "net.deliver", 1): 4}
    made(sweep, late, USUAL, AGAIN, THIRD)
    assert proposed(sweep) == [
        {**late, Point(f"{THIRD}0", "net.race", 1): 1},
        {**late, Point(THIRD, "net.deliver", 1): 4},
    ]
    made(sweep, {**late, Point(THIRD, "net.deliver", 1): 4}, USUAL, AGAIN, THIRD, "localhost:1#4>")
    assert sweep.is_waiting


async def gives_up_after_two_retries() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", 80)
        try:
            writer.write(b"hello\n")
            async with asyncio.timeout(0.03):
                return await reader.readline()
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 80):
        for _ in range(3):
            try:
                assert await ask() == b"hello\n"
                return
            except TimeoutError:
                await asyncio.sleep(0.1)
        raise AssertionError("gave up")


def test_three_timeouts_in_a_row_are_found() -> None:
    for seed in range(1, 6):
        failure = simloop.explore(gives_up_after_two_retries, runs=10, seed=seed).failure
        assert failure is not None, seed
        assert len(failure.schedule.deviations) == 3
