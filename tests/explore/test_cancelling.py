"""Outside cancellation: of a declared task, of a block, and of whatever a test creates."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices, Decide
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute


def at_poll(wanted: int) -> Decide:
    """Cancel at the n-th poll that offers it."""
    asked = 0

    def decide(who: str, kind: str, number: int, n: int) -> int:
        nonlocal asked
        asked += kind == "cancel"
        return int(kind == "cancel" and asked == wanted)

    return decide


def run(main: Any, decide: Decide | None = None, **limits: Any) -> Any:
    outcome = execute(main, Choices(0, decide), Limits(**limits))
    if outcome.exception is not None:
        raise outcome.exception
    return outcome.value


async def hangs_up() -> tuple[bool, list[str], int]:
    steps = []
    task = asyncio.current_task()
    assert task is not None
    async with simloop.current().cancelled_somewhere() as outcome:
        steps.append("began")
        await asyncio.sleep(1)
        steps.append("slept")
        await asyncio.sleep(1)
        steps.append("ended")
    await asyncio.sleep(1)
    return outcome.cancelled, steps, task.cancelling()


def test_a_block_is_cancelled_at_any_of_its_polls_and_nothing_after_it() -> None:
    seen = {run(hangs_up)[0:2][0]: run(hangs_up)[1]}
    assert seen == {False: ["began", "slept", "ended"]}
    stories = []
    for wanted in range(1, 10):
        cancelled, steps, cancelling = run(hangs_up, at_poll(wanted))
        assert cancelling == 0
        assert cancelled == ("ended" not in steps)
        stories.append(tuple(steps))
    assert {("began",), ("began", "slept"), ("began", "slept", "ended")} == set(stories)


def test_a_block_keeps_what_its_body_raises() -> None:
    async def cleans_up_badly() -> None:
        async with simloop.current().cancelled_somewhere() as outcome:
            try:
                await asyncio.sleep(1)
            finally:
                if simloop.current().elapsed < 1:
                    raise ValueError("in the middle")
        assert not outcome.cancelled

    run(cleans_up_badly)
    with pytest.raises(ValueError, match="in the middle"):
        run(cleans_up_badly, at_poll(1))


def test_a_cancellation_of_the_programs_own_goes_through_a_block() -> None:
    async def main() -> bool:
        async def body() -> None:
            async with simloop.current().cancelled_somewhere():
                await asyncio.sleep(10)

        task = asyncio.create_task(body())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run(main) is True


def test_a_block_used_twice_or_outside_is_refused() -> None:
    async def twice() -> None:
        block = simloop.current().cancelled_somewhere()
        async with block:
            pass
        async with block:
            pass

    with pytest.raises(simloop.WorldError, match="call it again for another"):
        run(twice)


def test_the_campaign_finds_the_turn_in_a_block() -> None:
    async def leaks() -> None:
        held = []
        async with simloop.current().cancelled_somewhere():
            held.append(1)
            await asyncio.sleep(0.1)
            held.pop()
        assert not held

    failure = simloop.explore(leaks).failure
    assert failure is not None
    assert failure.strategy == "cancel sweep"
    assert failure.run_number <= 5


async def fetch(log: list[str]) -> None:
    log.append("open")
    await asyncio.sleep(0.1)
    log.append("close")


async def library(log: list[str]) -> None:
    """Creates a task as a library would: not the test's business."""
    await asyncio.create_task(fetch(log))


async def makes_tasks() -> None:
    log: list[str] = []
    own = asyncio.create_task(fetch(log))
    group = asyncio.gather(fetch(log))
    await library([])
    await asyncio.wait([own, group])  # type: ignore[type-var]
    assert log.count("open") == log.count("close")


def test_the_option_declares_what_the_main_function_creates() -> None:
    choices = Choices(0, None)
    execute(makes_tasks, choices, Limits(cancel=True))
    tasks = {who.partition("~")[0] for who, kind, *_ in choices.recorded if kind == "cancel"}
    assert tasks == {"fetch", "fetch#2"}
    assert simloop.explore(makes_tasks).failure is None
    failure = simloop.explore(makes_tasks, cancel=True).failure
    assert failure is not None
    assert isinstance(failure.exception, AssertionError)


def test_tasks_of_a_comprehension_are_those_of_its_function() -> None:
    async def main() -> None:
        log: list[str] = []
        tasks = [asyncio.create_task(fetch(log)) for _ in range(2)]
        await asyncio.gather(*tasks, *(asyncio.create_task(fetch(log)) for _ in range(2)), return_exceptions=True)

    choices = Choices(0, None)
    execute(main, choices, Limits(cancel=True))
    tasks = {who.partition("~")[0] for who, kind, *_ in choices.recorded if kind == "cancel"}
    assert tasks == {"fetch", "fetch#2", "fetch#3", "fetch#4"}


def test_under_the_option_the_cancellation_itself_is_no_failure() -> None:
    async def awaits() -> None:
        await asyncio.create_task(asyncio.sleep(0.1))

    assert simloop.explore(awaits, cancel=True).failure is None

    async def cancels_itself() -> None:
        task = asyncio.create_task(asyncio.sleep(0.1))
        task.cancel()
        await task

    failure = simloop.explore(cancels_itself, cancel=True).failure
    assert failure is not None
    assert isinstance(failure.exception, asyncio.CancelledError)


async def waits_with_a_limit() -> None:
    await asyncio.wait_for(asyncio.sleep(0.1), 1)


async def starts_a_program() -> None:
    simloop.current().program("sort")
    process = await asyncio.create_subprocess_exec("sort", stdin=-1, stdout=-1)
    await process.communicate(b"b\na\n")


async def connects_with_happy_eyeballs() -> None:
    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(serve, "localhost", 80):
        _, writer = await asyncio.open_connection("localhost", 80, happy_eyeballs_delay=0.2)
        writer.close()


@pytest.mark.parametrize("main", [waits_with_a_limit, starts_a_program, connects_with_happy_eyeballs])
def test_what_asyncio_runs_for_itself_nobody_else_can_cancel(main: Any) -> None:
    choices = Choices(0, None)
    outcome = execute(main, choices, Limits(cancel=True))
    assert outcome.exception is None
    assert not [who for who, kind, *_ in choices.recorded if kind == "cancel"]
