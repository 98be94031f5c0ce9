"""Campaigns: what they find, how small they make it, what they say when they are stopped."""

from __future__ import annotations

import asyncio
import functools
import mmap
import time
import warnings

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.schedule import Schedule
from simloop.choices.tokens import decode
from simloop.explore.campaign import Campaign
from simloop.explore.strategies.base import Canonical
from simloop.explore.wakeups import WakeUps
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute


async def loses_an_update() -> None:
    """Fails when `first` is cancelled between its two steps, whatever the noise around it does."""
    sim = simloop.current()
    balance = [10, 0]

    async def noise() -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)

    async def move() -> None:
        balance[0] -= 5
        await asyncio.sleep(0.01)
        balance[1] += 5

    others = [asyncio.create_task(noise()) for _ in range(5)]
    first = asyncio.create_task(move(), name="first")
    sim.may_cancel(first)
    for other in others:
        sim.may_cancel(other)
    await asyncio.wait([first, *others])
    assert sum(balance) == 10


def test_a_failure_is_reduced_to_what_causes_it() -> None:
    report = simloop.explore(loses_an_update)
    failure = report.failure
    assert failure is not None
    assert 1 < failure.run_number == report.runs <= 100
    assert isinstance(failure.exception, AssertionError)
    assert [point.kind for point in failure.schedule.deviations] == ["cancel"]
    assert failure.story[0].startswith("task 'first', created at ")
    assert len(failure.token) <= 60
    assert decode(failure.token) == failure.schedule


def test_a_token_replays_the_failure_and_no_other_functions() -> None:
    failure = simloop.explore(loses_an_update).failure
    assert failure is not None
    for _ in range(3):
        with pytest.raises(AssertionError):
            simloop.replay(loses_an_update, failure.token)

    async def other() -> None: ...

    with pytest.raises(simloop.OtherTestError, match="was not made for"):
        simloop.replay(other, failure.token)


def test_a_seed_replays_what_run_does_with_it() -> None:
    async def draws() -> float:
        import random

        return random.random()

    assert simloop.replay(draws, 7) == simloop.replay(draws, "7") == simloop.run(draws, seed=7)


def test_a_drifted_token_warns_and_does_not_crash() -> None:
    failure = simloop.explore(loses_an_update).failure
    assert failure is not None

    async def mended() -> str:
        return "fine"

    mended.__qualname__ = loses_an_update.__qualname__
    with pytest.warns(simloop.ReplayDriftWarning, match="0 of 1 deviations"):
        assert simloop.replay(mended, failure.token) == "fine"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AssertionError):
            simloop.replay(loses_an_update, failure.token)


def test_a_passing_program_uses_its_budget() -> None:
    async def fine() -> None:
        await asyncio.gather(*(asyncio.to_thread(lambda: None) for _ in range(3)))

    report = simloop.explore(fine, runs=50)
    assert report
    assert not report.schedules_in_all
    assert report.failure is None
    assert report.runs == 50
    assert 1 < report.distinct <= 50


def test_what_is_done_once_per_process_is_no_difference() -> None:
    @functools.cache
    def config() -> float:
        return time.monotonic()

    class Observing(Canonical[WakeUps]):
        def observe(self, choices: Choices, failed: bool) -> None:
            observed.append(choices)

    heard: list[Outcome] = []
    observed: list[Choices] = []

    async def first_use() -> None:
        if not config.cache_info().currsize:
            await asyncio.to_thread(config)  # points that no later run has
        await asyncio.to_thread(config)

    campaign = Campaign(
        lambda choices, observer=None, **_: execute(first_use, choices, Limits(), observer),
        "first_use",
        runs=20,
        observe=heard.append,
        strategies=[Observing(0, WakeUps)],
    )
    report = campaign.explore()
    assert report.failure is None
    assert report.has_choices
    # The canonical run is the later one.
    assert len(heard) == report.runs
    assert observed == [outcome.choices for outcome in heard]
    assert [kind for _, kind, *_ in heard[0].choices.recorded] == ["thread.start", "thread.finish"]


def test_a_failure_that_does_something_for_the_first_time_is_found_and_made_small() -> None:
    @functools.cache
    def handler() -> float:
        return time.monotonic()

    async def careless() -> None:
        task = asyncio.create_task(asyncio.sleep(1))
        simloop.current().may_cancel(task)
        try:
            await task
        except asyncio.CancelledError:
            handler()
            await asyncio.sleep(0.1)
            raise ValueError("careless") from None

    failure = simloop.explore(careless).failure
    assert failure is not None
    assert isinstance(failure.exception, ValueError)
    with pytest.raises(ValueError, match="careless"):
        simloop.replay(careless, failure.token)


def test_a_candidate_that_does_something_for_the_first_time_is_no_difference() -> None:
    @functools.cache
    def handler() -> float:
        return time.monotonic()

    async def careless() -> None:
        tasks = [asyncio.create_task(asyncio.sleep(1), name=name) for name in "ab"]
        for task in tasks:
            simloop.current().may_cancel(task)
        await asyncio.wait(tasks)
        if tasks[0].cancelled():
            if not tasks[1].cancelled():
                handler()
                await asyncio.sleep(0.1)
            raise ValueError

    both = execute(careless, Choices(0, lambda who, kind, number, n: 1), Limits()).choices.deviations()
    assert len(both) == 2
    campaign = Campaign(
        lambda choices, observer=None, **_: execute(careless, choices, Limits(), observer),
        "careless",
        saved=[Schedule(deviations=both)],
    )
    failure = campaign.explore().failure
    assert failure is not None
    assert len(failure.schedule.deviations) == 1


@pytest.mark.parametrize("fails", ["first", "later"])
def test_a_failure_that_comes_or_goes_with_the_first_time_is_an_error_of_its_own(fails: str) -> None:
    seen: list[int] = []

    async def leaks() -> None:
        first = not seen
        seen.append(1)
        await asyncio.sleep(1 + first)
        assert first == (fails == "later")

    with pytest.raises(simloop.NondeterminismError, match="with the same schedule differ") as caught:
        simloop.explore(leaks)
    assert isinstance(caught.value.__cause__, AssertionError)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_failure_that_does_not_repeat_is_an_error_of_its_own(number: int) -> None:
    """By what the simulation does not see: every run takes the same steps."""
    seen: list[int] = []

    async def leaks() -> None:
        seen.append(1)
        await asyncio.to_thread(int)
        assert len(seen) > number or (number > 1 and len(seen) == 1)

    with pytest.raises(simloop.NondeterminismError, match="every step was the same, but not what came of them"):
        simloop.explore(leaks)


def test_a_difference_that_comes_back_names_the_point_where_it_began() -> None:
    seen = mmap.mmap(-1, 1)  # forks share it

    async def alternates() -> None:
        seen[0] = (seen[0] + 1) % 256
        for _ in range(1 + seen[0] % 2):
            await asyncio.to_thread(int)

    with pytest.raises(simloop.NondeterminismError, match=r"first at thread\.start #1 of asyncio int#2, which only"):
        simloop.explore(alternates)


@pytest.mark.parametrize("runs", [0, -1, 1.5, "10", True])
def test_a_budget_that_is_none_is_refused(runs: object) -> None:
    with pytest.raises(simloop.ConfigurationError, match="runs must be"):
        simloop.explore(loses_an_update, runs=runs)  # type: ignore[arg-type]


def test_an_interrupted_campaign_says_what_it_knows() -> None:
    made = 0

    def until_reducing(choices: object, observer: object = None, **_: object) -> object:
        nonlocal made
        made += 1
        if campaign._examination is not None and made > campaign.report.runs + 4:
            raise KeyboardInterrupt
        return execute(loses_an_update, choices, Limits())  # type: ignore[arg-type]

    campaign = Campaign(until_reducing, "it")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt) as caught:
        campaign.explore()
    (note,) = caught.value.__notes__
    assert f"interrupted in run {campaign.report.runs} of 100 of it; it fails, not reduced yet: sl1:" in note
