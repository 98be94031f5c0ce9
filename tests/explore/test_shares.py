"""What each strategy gets of a campaign's runs, and that campaigns of different seeds share nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from typing import Any

import simloop
from simloop.choices.choices import Choices
from simloop.explore.campaign import Campaign
from simloop.explore.strategies.walk import Walk
from simloop.simulation.limits import Limits
from simloop.simulation.run import Outcome, execute

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


class Counting(Campaign):
    """A campaign that counts the runs of each of its strategies."""

    def made(self) -> Counter[str]:
        return Counter({entry.strategy.name: entry.made for entry in self._portfolio})


def campaign(main: Any, seed: int = 0) -> Counter[str]:
    def run(choices: Choices, observer: Any = None, *, profile: str | None = None, final: bool = False) -> Outcome:
        return execute(main, choices, Limits(), observer)

    counting = Counting(run, "it", runs=100, seed=seed)
    counting.explore()
    return counting.made()


def test_no_strategy_starves_another_one() -> None:
    made = campaign(many_crash_points)
    shares = {
        name: made[name] for name in ("cancel sweep", "crash sweep", "timeout sweep", "delay sweep", "random walk")
    }
    # One run is the canonical one.
    assert sum(shares.values()) == 99 - made["preemption sweep"] >= 90
    assert all(count >= 9 for count in shares.values()), shares


def test_what_a_strategy_leaves_goes_to_the_others() -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(lambda: None) for _ in range(30)))

    made = campaign(main)
    assert not made["cancel sweep"]
    assert not made["crash sweep"]
    # Of 99 runs, by the weights 0.30 and 0.35.
    assert (made["delay sweep"], made["random walk"]) == (46, 53)


def test_walks_of_neighbouring_seeds_share_nothing() -> None:
    def seeds(seed: int) -> set[int]:
        walk = Walk(seed)
        return {plan.seed for _ in range(1000) if (plan := walk.plan()) is not None}

    walks = [seeds(seed) for seed in range(8)]
    assert all(len(walk) == 1000 for walk in walks)
    assert len(set.union(*walks)) == 8000
