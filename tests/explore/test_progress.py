"""How far a campaign is, as it is told while it lasts."""

from __future__ import annotations

import asyncio

from simloop.choices.choices import Choices
from simloop.explore.campaign import Campaign
from simloop.explore.progress import Progress
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute
from simloop.world.observer import Observer


def told(seconds_per_run: float, *, fails: bool = False) -> list[str]:
    """Return what is told of a campaign of 20 runs that take so long each."""
    now = 0.0
    lines: list[str] = []

    async def main() -> None:
        order: list[int] = []
        await asyncio.gather(*(asyncio.to_thread(order.append, at) for at in range(5)))
        assert not fails or order == sorted(order)

    def run(choices: Choices, observer: Observer | None = None, **_: object) -> Outcome:
        nonlocal now
        now += seconds_per_run
        return execute(main, choices, Limits(), observer)

    Campaign(run, "it", runs=20, progress=Progress(lines.append, lambda: now)).explore()
    return lines


def test_a_campaign_of_some_seconds_tells_how_far_it_is() -> None:
    lines = told(0.5)
    # The first run is made twice, and the first line comes after two seconds.
    assert lines[0].startswith("run 3 of 20, 3 distinct, no failure; ")
    assert len(lines) == 18
    assert lines[-1].startswith("run 20 of 20, ")


def test_a_short_campaign_tells_nothing() -> None:
    assert told(0.05) == []


def test_a_failure_that_is_made_small_is_told() -> None:
    lines = told(1.5, fails=True)
    assert any("; it is made small" in line and line.startswith("failed in run ") for line in lines), lines
