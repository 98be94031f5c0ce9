"""What a wider profile finds is held against stock asyncio before it is reported."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from unittest.mock import AsyncMock

import pytest
from sizes import examples

import simloop
from simloop.choices.choices import Choices, Decide, Point
from simloop.choices.draws import drawer
from simloop.choices.schedule import Schedule
from simloop.explore.campaign import Campaign
from simloop.loop.run_order import LAGS
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute


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


def hostile_verdict(main: Any, *deviations: Point) -> str:
    """The verdict on a failure that these points make, each answered with 1."""

    def run(choices: Choices, observer: Any = None, *, profile: str | None = None, final: bool = False) -> Outcome:
        return execute(main, choices, Limits(profile=profile or "hostile"), observer)

    saved = Schedule("hostile", 0, dict.fromkeys(deviations, 1))
    failure = Campaign(run, "it", profile="hostile", saved=[saved]).explore().failure
    assert failure is not None
    assert failure.strategy == "saved failure"
    return failure.explanation.verdict


def test_hostile_finds_what_stock_order_hides_and_says_so() -> None:
    report = simloop.explore(mocked_away)
    assert report
    assert not report.has_choices
    failure = simloop.explore(mocked_away, profile="hostile").failure
    assert failure is not None
    assert failure.explanation.verdict.startswith("impossible on stock asyncio today: needs task '")
    assert hostile_verdict(mocked_away, Point("get", "order.task", 1)) == (
        "impossible on stock asyncio today: needs task 'second' to overtake task 'first'"
    )
    assert re.fullmatch(
        r"impossible on stock asyncio today: needs task 'first', created at \S+, to be 1 step late",
        hostile_verdict(mocked_away, Point("get", "order.lag", 1)),
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

    def anything(seed: int) -> Decide:
        below = drawer(seed)
        return lambda who, kind, number, n: below(n) if kind != "order.lag" or not below(8) else 0

    for seed in range(300):
        execute(main, Choices(0, anything(seed)), Limits(profile="hostile"))
    firsts = {order.replace("1'", "").replace("2'", "") for order in orders}
    assert firsts == {"a1b2", "1ab2", "1a2b", "12ab", "a12b", "ab12", "ab21", "a2b1", "a21b", "2ab1", "2a1b", "21ab"}
    assert all(order.index("1") < order.index("1'") and order.index("2") < order.index("2'") for order in orders)

    del orders[:]
    assert simloop.explore(main).schedules_in_all == 1
    assert set(orders) == {"a1b21'2'"}


def lost_update(extra: int, noise: int = 10) -> Any:
    """An update that is lost where `early` goes on later than `late` by `extra` steps, among tasks that do neither."""

    async def main() -> None:
        fetch = AsyncMock()
        balance = 0

        async def idle(steps: int) -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        async def early() -> None:
            nonlocal balance
            seen = balance
            await fetch()
            await asyncio.sleep(0)
            balance = seen + 1

        async def late() -> None:
            nonlocal balance
            for _ in range(extra):
                await asyncio.sleep(0)
            seen = balance
            balance = seen + 1

        others = [asyncio.create_task(idle(5 + at % 4)) for at in range(noise)]
        updates = [asyncio.create_task(early(), name="early"), asyncio.create_task(late(), name="late")]
        await asyncio.gather(*others, *updates)
        assert balance == 2

    return main


@pytest.mark.parametrize("extra", [2, 3, 5])
def test_hostile_lets_a_task_lag_by_any_number_of_steps(extra: int) -> None:
    for seed in range(1, 1 + max(3, examples(3))):
        failure = simloop.explore(lost_update(extra), profile="hostile", seed=seed).failure
        assert failure is not None, seed
        (story,) = failure.story
        assert re.fullmatch(rf"task 'early', created at \S+, was {extra} steps late", story)
        assert re.fullmatch(
            rf"impossible on stock asyncio today: needs task 'early', created at \S+, to be {extra} steps late",
            failure.explanation.verdict,
        )
        assert simloop.explore(lost_update(extra), seed=seed).failure is None


def test_a_lagging_task_waits_while_others_run_and_never_alone() -> None:
    """Its lag counts turns in which others run; where nothing else is ready, it goes on, and no time passes."""

    async def main() -> float:
        order: list[str] = []

        async def steps(name: str, count: int) -> None:
            for _ in range(count):
                order.append(name)
                await asyncio.sleep(0)

        begin = asyncio.get_running_loop().time()
        await asyncio.gather(steps("a", 2), steps("b", 6))
        orders.append("".join(order))
        return asyncio.get_running_loop().time() - begin

    orders: list[str] = []
    for answer in range(len(LAGS)):
        lagging = Schedule("hostile", 0, {Point("steps", "order.lag", 2): answer} if answer else {})
        outcome = execute(main, lagging.choices(), Limits(profile="hostile"))
        assert outcome.value < 0.001
        assert outcome.choices.deviations() == lagging.deviations
    assert orders == [
        "ababbbbb",
        *("a" + (lag + 1) * "b" + "a" + (5 - lag) * "b" for lag in range(1, 6)),
        *["abbbbbba"] * 6,
    ]
