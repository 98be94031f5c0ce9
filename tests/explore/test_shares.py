"""What each strategy gets of a campaign's runs, and that campaigns of different seeds share nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections import Counter
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.explore.campaign import Campaign
from simloop.explore.strategies.coincidence import CoincidenceWalk
from simloop.explore.strategies.walk import DenseWalk, Walk
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute

CRASH_POINTS = 300


async def many_crash_points() -> None:
    """A program with more places for a power cut than a campaign has runs, a task to cancel, timers and threads."""
    host = simloop.current().host("db")

    async def write() -> None:
        fd = os.open("/a", os.O_CREAT | os.O_WRONLY)
        for _ in range(CRASH_POINTS):
            os.write(fd, b"x")
        os.close(fd)

    async def hang_up() -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    async def race() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.gather(*(asyncio.to_thread(lambda: None) for _ in range(30)))
        except TimeoutError:
            pass

    host.may_crash()
    task = asyncio.create_task(hang_up())
    simloop.current().may_cancel(task)
    await race()
    with contextlib.suppress(simloop.HostCrashedError):
        await host.run(write)
    await asyncio.wait([task])


@functools.cache
def campaign(main: Any, seed: int = 0, runs: int = 100) -> tuple[Counter[str], list[str]]:
    """Return how many runs each strategy has made, and the strategies of the runs one after another."""

    def run(choices: Choices, observer: Any = None, *, profile: str | None = None, final: bool = False) -> Outcome:
        return execute(main, choices, Limits(), observer)

    order: list[str] = []

    def note(outcome: Outcome) -> None:
        made = Counter({entry.strategy.name: entry.made for entry in counting.portfolio.entries})
        order.extend((made - Counter(order)).keys())

    counting = Campaign(run, "it", runs=runs, seed=seed, observe=note)
    counting.explore()
    return Counter(order), order


def test_no_strategy_starves_another_one() -> None:
    made, _ = campaign(many_crash_points)
    names = ["cancel sweep", "crash sweep", "timeout sweep", "preemption sweep", "coincidence walk", "delay sweep"]
    assert sum(made.values()) == 100
    assert all(made[name] >= 5 for name in names), made
    assert all(made[name] for name in ("dense walk", "random walk")), made


async def clients_with_a_timeout() -> None:
    """A program of the usual kind: two clients, one of which may go away, and a timeout."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", 7000)
        try:
            for _ in range(3):
                writer.write(b"hello\n")
                await reader.readline()
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 7000):
        task = asyncio.create_task(client())
        simloop.current().may_cancel(task)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.04):
                await asyncio.gather(client(), task, return_exceptions=True)
        await asyncio.sleep(1)  # until the handlers have ended


def test_the_first_ten_runs_already_mix_sweeps_and_walks() -> None:
    _, order = campaign(clients_with_a_timeout, runs=30)
    assert order[:2] == ["canonical run", "cancel sweep"]
    assert {"cancel sweep", "timeout sweep", "coincidence walk", "delay sweep"} <= set(order[:10])
    assert "dense walk" in order


def test_the_likeliest_candidates_of_a_sweep_come_early() -> None:
    _, order = campaign(many_crash_points)
    # Three sweeps have much to try there; each of them comes early.
    for name in ("cancel sweep", "crash sweep", "preemption sweep"):
        assert order[:25].count(name) >= 6
    assert 4 < order[25:].count("cancel sweep") < 20


def test_what_a_strategy_leaves_goes_to_the_others() -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(lambda: None) for _ in range(30)))

    made, _ = campaign(main)
    assert not made["cancel sweep"]
    assert not made["crash sweep"]
    # Of 99 runs, by their weights.
    assert made == {"canonical run": 1, "coincidence walk": 71, "dense walk": 12, "delay sweep": 12, "random walk": 4}


def test_where_all_schedules_fit_no_walk_takes_a_turn() -> None:
    async def main() -> None:
        await asyncio.to_thread(lambda: None)

    made, _ = campaign(main, runs=150)
    assert set(made) == {"canonical run", "delay sweep", "enumeration"}
    made, _ = campaign(main, runs=50)
    assert "dense walk" in made


def test_a_cancellation_counts_once_in_the_size_of_a_space() -> None:
    async def main() -> None:
        done = asyncio.Event()
        task = asyncio.create_task(done.wait())
        simloop.current().may_cancel(task)
        for _ in range(40):
            await asyncio.sleep(0)
        done.set()
        await asyncio.wait([task])

    made, _ = campaign(main)
    assert sum(made.values()) > 40
    assert set(made) == {"canonical run", "cancel sweep"}


def schedules(strategy: Any, count: int) -> list[tuple[int, ...]]:
    """Return what runs of a strategy answer at the points of a run that has sixty."""
    points = [(f"a:{at % 12}#1>", "net.deliver", 1 + at // 12, 8) for at in range(60)]
    canonical = Choices(0)
    for who, kind, _, n in points:
        canonical.choose(who, kind, n)
    found = []
    for seed in (0, strategy._seed):
        canonical.seed = seed
        strategy.observe(canonical, False)
    for _ in range(count):
        plan = strategy.plan()
        assert plan is not None
        found.append(tuple(plan.decide(*point) for point in points))
    return found


@pytest.mark.parametrize("kind", [DenseWalk, CoincidenceWalk, Walk])
def test_campaigns_of_neighbouring_seeds_share_nothing(kind: Any) -> None:
    made = [schedules(kind(seed), 300) for seed in range(1, 9)]
    # A few sparse ones are alike by chance: those that deviate nowhere, or at one point.
    rich = [{found for found in one if sum(map(bool, found)) > 3} for one in made]
    assert all(len(one) > 30 for one in rich)
    # And of coincidences those in which all sources have as many arrivals left.
    shared = 1 - len(set.union(*rich)) / sum(map(len, rich))
    assert shared < 0.03 if kind is CoincidenceWalk else not shared
    assert schedules(kind(1), 300) == made[0]


def test_jobs_of_one_name_are_a_few_sources_of_arrivals() -> None:
    async def main() -> None:
        for _ in range(30):
            await asyncio.to_thread(int)

    walk = CoincidenceWalk(1)
    walk.observe(execute(main, Choices(1), Limits()).choices, False)
    late = []
    for _ in range(40):
        plan = walk.plan()
        choices = Choices(plan.seed, plan.decide)
        execute(main, choices, Limits())
        late.append(sum(value == 5 for value in choices.deviations().values()))
    # Of sixty arrivals.
    assert 1 < sum(late) / len(late) < 6
