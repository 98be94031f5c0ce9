"""Polls that have timed out: they return late, and then other timers may be due, too."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from fakes import answering

import simloop
from simloop.choices.choices import Choices
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute


def points(outcome: Outcome) -> list[tuple[str, int]]:
    assert outcome.exception is None
    return [(answer.point.who, answer.n) for answer in outcome.choices.answers() if answer.point.kind == "poll.late"]


async def sleep_beside_a_timer(early: float, late: float) -> bool:
    """Return True if the later timer's callback comes before the sleeper."""
    rung: list[int] = []
    asyncio.get_running_loop().call_later(late, rung.append, 1)
    await asyncio.sleep(early)
    return bool(rung)


@pytest.mark.parametrize(("early", "late"), [(0.01, 0.0109), (0.01, 0.012), (0.009, 0.014), (1, 1.004)])
def test_a_poll_may_be_late_until_another_timer_is_due(early: float, late: float) -> None:
    async def main() -> bool:
        return await sleep_beside_a_timer(early, late)

    usual = execute(main, Choices(), Limits())
    assert usual.value is False
    assert points(usual) == [("0~sleep", 2)]
    assert execute(main, answering(poll_late=1), Limits()).value is True


def test_timers_that_are_due_by_the_same_millisecond_meet_always() -> None:
    assert simloop.run(lambda: sleep_beside_a_timer(0.009, 0.0094)) is True


async def meet_nobody() -> None:
    for _ in range(10):
        await asyncio.sleep(0.01)


async def meet_a_timer_too_far_away() -> None:
    await sleep_beside_a_timer(0.01, 0.02)


async def woken_by_an_arrival() -> None:
    asyncio.get_running_loop().call_later(0.1, int)
    asyncio.get_running_loop().call_later(0.101, int)
    await asyncio.to_thread(int)


@pytest.mark.parametrize("main", [meet_nobody, meet_a_timer_too_far_away, woken_by_an_arrival])
def test_nothing_is_asked_where_it_makes_no_difference(main: Any) -> None:
    assert points(execute(main, Choices(), Limits())) == []


def test_no_poll_is_later_than_steps_may_be() -> None:
    outcome = execute(lambda: sleep_beside_a_timer(0.01, 0.013), Choices(), Limits(max_stall=0.002))
    assert points(outcome) == []


def test_a_process_may_be_late_until_after_the_timer_of_another_one() -> None:
    order: list[str] = []

    async def other() -> None:
        await asyncio.sleep(0.012)
        order.append("other")

    async def main() -> None:
        order.clear()
        running = asyncio.create_task(simloop.current().host("other").run(other))
        await asyncio.sleep(0.01)
        order.append("main")
        await running

    assert len(points(execute(main, Choices(), Limits()))) == 1
    assert order == ["main", "other"]
    late = Choices(0, lambda who, kind, number, n: int((who, kind) == ("0~sleep", "poll.late")))
    execute(main, late, Limits())
    assert order == ["other", "main"]


def test_a_process_waits_for_full_milliseconds_in_the_middle_of_the_polls_of_another_one() -> None:
    async def main() -> bool:
        waiting = asyncio.create_task(asyncio.sleep(1))
        found: bool = await simloop.current().host("other").run(lambda: sleep_beside_a_timer(0.009, 0.0094))
        waiting.cancel()
        return found

    assert simloop.run(main) is True


def test_the_loop_of_a_thread_may_be_late() -> None:
    def in_thread() -> bool:
        met: list[bool] = []
        thread = threading.Thread(target=lambda: met.append(asyncio.run(sleep_beside_a_timer(0.01, 0.012))))
        thread.start()
        thread.join()
        return met[0]

    async def main() -> bool:
        return await asyncio.to_thread(in_thread)

    usual = execute(main, Choices(), Limits())
    assert usual.value is False
    assert [n for _, n in points(usual)] == [2]
    assert execute(main, answering(poll_late=1), Limits()).value is True
