"""Campaigns: what they find, how small they make it, what they say when they are stopped."""

from __future__ import annotations

import asyncio
import warnings

import pytest

import simloop
from simloop.choices.tokens import decode
from simloop.explore.campaign import Campaign
from simloop.simulation.limits import Limits
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


def test_state_that_outlives_a_run_is_an_error_of_its_own() -> None:
    seen: list[int] = []

    async def leaks() -> None:
        seen.append(1)
        await asyncio.sleep(len(seen))

    with pytest.raises(simloop.NondeterminismError, match="with the same schedule differ"):
        simloop.explore(leaks)


@pytest.mark.parametrize("runs", [0, -1, 1.5, "10", True])
def test_a_budget_that_is_none_is_refused(runs: object) -> None:
    with pytest.raises(simloop.ConfigurationError, match="runs must be"):
        simloop.explore(loses_an_update, runs=runs)  # type: ignore[arg-type]


def test_an_interrupted_campaign_says_what_it_knows() -> None:
    made = 0

    def until_reducing(choices: object, observer: object = None, **_: object) -> object:
        nonlocal made
        made += 1
        if campaign._found is not None and made > campaign.report.runs + 4:
            raise KeyboardInterrupt
        return execute(loses_an_update, choices, Limits())  # type: ignore[arg-type]

    campaign = Campaign(until_reducing, "it")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt) as caught:
        campaign.explore()
    (note,) = caught.value.__notes__
    assert f"interrupted in run {campaign.report.runs} of 100 of it; it fails, not reduced yet: sl1:" in note
