"""Races of threads on plain variables, with threads preempted between lines: each is found in a campaign of the default
size, from independent seeds, and its mended version is clean."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pairs import FEW_SEEDS, RUNS, SEEDS, Main

import simloop

#: Pairs of a wrong program and its mended version.
PAIRS: list[tuple[Main, Main]] = []


def pair(make: Callable[[contextlib.AbstractContextManager[Any]], Main]) -> None:
    async def wrong() -> None:
        await make(contextlib.nullcontext())()

    async def mended() -> None:
        await make(threading.Lock())()

    wrong.__name__ = make.__name__
    PAIRS.append((wrong, mended))


async def both(*jobs: Callable[[], object]) -> None:
    await asyncio.gather(*(asyncio.to_thread(job) for job in jobs))


@pair
def an_update_of_a_counter_is_lost(lock: contextlib.AbstractContextManager[Any]) -> Main:
    counter = 0

    def count() -> None:
        nonlocal counter
        with lock:
            n = counter
            counter = n + 1

    async def main() -> None:
        await both(count, count)
        assert counter == 2

    return main


@pair
def an_update_is_lost_in_a_loop(lock: contextlib.AbstractContextManager[Any]) -> Main:
    counter = 0

    def count() -> None:
        nonlocal counter
        for _ in range(30):
            with lock:
                n = counter
                counter = n + 1

    async def main() -> None:
        await both(count, count, count)
        assert counter == 90

    return main


@pair
def a_singleton_is_made_twice(lock: contextlib.AbstractContextManager[Any]) -> Main:
    made: list[object] = []
    only: object | None = None

    def get() -> None:
        nonlocal only
        with lock:
            if only is None:
                only = object()
                made.append(only)

    async def main() -> None:
        await both(get, get)
        assert len(made) == 1

    return main


@pair
def a_seat_is_sold_twice(lock: contextlib.AbstractContextManager[Any]) -> Main:
    seats = {"left": 1}

    def book() -> None:
        with lock:
            if seats["left"]:
                seats["left"] -= 1

    async def main() -> None:
        threads = [threading.Thread(target=book) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert seats["left"] == 0

    return main


@pair
def a_transfer_is_seen_half_done(lock: contextlib.AbstractContextManager[Any]) -> Main:
    account = {"a": 5, "b": 5}
    sums: list[int] = []

    def move() -> None:
        with lock:
            account["a"] -= 1
            account["b"] += 1

    def audit() -> None:
        with lock:
            sums.append(account["a"] + account["b"])

    async def main() -> None:
        await both(move, audit)
        assert sums == [10]

    return main


@pair
def the_loop_sees_what_a_thread_has_half_done(lock: contextlib.AbstractContextManager[Any]) -> Main:
    account = {"a": 5, "b": 5}

    def move() -> None:
        with lock:
            account["a"] -= 1
            account["b"] += 1

    async def main() -> None:
        moving = asyncio.create_task(asyncio.to_thread(move))
        while not moving.done():
            with lock:
                assert sum(account.values()) == 10
            await asyncio.sleep(0.0005)
        await moving

    return main


@pytest.mark.filterwarnings("ignore::simloop.BlockingCallWarning")
@pytest.mark.parametrize(("wrong", "mended"), PAIRS, ids=[wrong.__name__ for wrong, _ in PAIRS])
def test_the_race_is_found_and_the_mended_program_is_clean(wrong: Main, mended: Main) -> None:
    for seed in SEEDS:
        report = simloop.explore(wrong, runs=RUNS, seed=seed, preempt="lines")
        assert report.failure is not None, f"seed {seed}"
        assert {point.kind for point in report.failure.schedule.deviations} == {"thread.line"}
    for seed in FEW_SEEDS:
        report = simloop.explore(mended, runs=2 * RUNS, seed=seed, preempt="lines")
        assert report.failure is None, report.failure


@pytest.mark.parametrize("wrong", [wrong for wrong, _ in PAIRS], ids=[wrong.__name__ for wrong, _ in PAIRS])
def test_without_the_option_nothing_comes_between_two_lines(wrong: Main) -> None:
    assert simloop.explore(wrong, runs=RUNS).failure is None
