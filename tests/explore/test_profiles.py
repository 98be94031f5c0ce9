"""What a wider profile finds is held against stock asyncio before it is reported."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import simloop
from simloop.choices.choices import Choices, Point
from simloop.choices.schedule import Schedule
from simloop.explore.campaign import Campaign
from simloop.simulation.limits import Limits
from simloop.simulation.run import Outcome, execute


async def mocked_away() -> None:
    """A check and an update with nothing in between but what a mock awaits."""
    fetch = AsyncMock()
    cache: list[str] = []

    async def get(name: str) -> None:
        if not cache:
            await fetch()
            await asyncio.sleep(0)
            cache.append(name)

    first = asyncio.create_task(get("first"), name="first")
    second = asyncio.create_task(get("second"), name="second")
    await asyncio.gather(first, second)
    assert cache[0] == "first"


def test_hostile_finds_what_stock_order_hides_and_says_so() -> None:
    report = simloop.explore(mocked_away)
    assert report
    assert not report.has_choices
    failure = simloop.explore(mocked_away, profile="hostile").failure
    assert failure is not None
    assert failure.explanation.verdict == (
        "impossible on stock asyncio today: needs task 'second' to overtake task 'first'"
    )


def test_a_hostile_failure_that_stock_asyncio_has_too_is_called_possible() -> None:
    async def main() -> None:
        sim = simloop.current()

        async def work() -> None:
            await asyncio.sleep(0.1)

        task = asyncio.create_task(work())
        sim.may_cancel(task)
        await asyncio.wait([task])
        assert not task.cancelled()

    failure = simloop.explore(main, profile="hostile").failure
    assert failure is not None
    assert failure.explanation.verdict == "can happen on stock asyncio"


def test_a_failure_that_stock_asyncio_reaches_in_another_way_is_called_possible_too() -> None:
    async def main() -> None:
        begun: list[int] = []
        ended: list[int] = []

        async def work(number: int) -> None:
            begun.append(number)
            await asyncio.to_thread(lambda: None)
            ended.append(number)

        await asyncio.gather(work(1), work(2))
        assert begun == ended == [1, 2]

    def run(choices: Choices, observer: Any = None, *, profile: str | None = None, final: bool = False) -> Outcome:
        return execute(main, choices, Limits(profile=profile or "hostile"), observer)

    # The second task begins first, which stock asyncio cannot have; but its thread can be late.
    overtaking = Schedule("hostile", 0, {Point("work", "order.task", 1): 1})
    failure = Campaign(run, "it", profile="hostile", saved=[overtaking]).explore().failure
    assert failure is not None
    assert failure.strategy == "saved failure"
    assert failure.schedule == overtaking
    assert failure.explanation.verdict.startswith(
        "can happen on stock asyncio: profile cpython finds it too, with sl1:"
    )


def test_a_portable_failure_names_the_order_that_it_needs() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        loop.call_later(0.01, seen.append, "first")
        loop.call_later(0.01, seen.append, "second")
        await asyncio.sleep(1)
        assert seen == ["first", "second"]

    assert simloop.explore(main).failure is None
    failure = simloop.explore(main, profile="portable", runs=200).failure
    assert failure is not None
    assert failure.explanation.verdict.startswith("impossible on CPython's event loop, possible on a conforming one")


def test_hostile_lets_steps_overtake_and_keeps_callbacks_and_a_tasks_own_steps_in_order() -> None:
    orders = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []

        async def step(name: str) -> None:
            seen.append(name)
            await asyncio.sleep(0)
            seen.append(name + "'")

        loop.call_soon(seen.append, "a")
        one = asyncio.create_task(step("1"))
        loop.call_soon(seen.append, "b")
        two = asyncio.create_task(step("2"))
        await asyncio.gather(one, two)
        orders.append("".join(seen))

    report = simloop.explore(main, profile="hostile", runs=1000)
    assert report.schedules_in_all
    firsts = {order.replace("1'", "").replace("2'", "") for order in orders}
    assert firsts == {"a1b2", "1ab2", "1a2b", "12ab", "a12b", "ab12", "ab21", "a2b1", "a21b", "2ab1", "2a1b", "21ab"}
    assert all(order.index("1") < order.index("1'") and order.index("2") < order.index("2'") for order in orders)

    del orders[:]
    assert simloop.explore(main).schedules_in_all == 1
    assert set(orders) == {"a1b21'2'"}
