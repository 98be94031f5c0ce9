"""A failure that was saved is found again after the test was edited around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import examples

import simloop
from simloop.choices.choices import Choices
from simloop.explore.campaign import Campaign
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute

Body = Callable[[], Awaitable[None]]


async def cancellation() -> None:
    done = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.append(1)
        await asyncio.sleep(0.01)
        done.append(2)

    task = asyncio.create_task(work())
    simloop.current().may_cancel(task)
    await asyncio.wait([task])
    assert len(done) != 1


async def cancelled_block() -> None:
    done = []
    async with simloop.current().cancelled_somewhere():
        await asyncio.sleep(0.01)
        done.append(1)
        await asyncio.sleep(0.01)
        done.append(2)
    assert len(done) != 1


async def two_threads() -> None:
    done: list[int] = []
    await asyncio.gather(*(asyncio.to_thread(done.append, number) for number in range(2)))
    assert done == [0, 1]


async def reply_after_timeout() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 7000)
    reader, writer = await asyncio.open_connection("127.0.0.1", 7000)
    writer.write(b"hello\n")
    try:
        assert await asyncio.wait_for(reader.readline(), 0.03) == b"hello\n"
    except TimeoutError:
        raise AssertionError("too late") from None
    finally:
        writer.close()
        server.close()


async def slow_step() -> None:
    async def work() -> None:
        await asyncio.sleep(0.01)
        await asyncio.sleep(0)

    try:
        async with asyncio.timeout(0.0105):
            await asyncio.create_task(work())
    except TimeoutError:
        raise AssertionError("too slow") from None


async def halves() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"first second")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 7000)
    reader, writer = await asyncio.open_connection("127.0.0.1", 7000)
    try:
        assert await reader.read(100) == b"first second"
    finally:
        writer.close()
        server.close()


BODIES: list[Body] = [cancellation, cancelled_block, two_threads, reply_after_timeout, slow_step, halves]


async def unrelated_task() -> None:
    async def elsewhere() -> None:
        for _ in range(3):
            await asyncio.sleep(0.001)

    await asyncio.create_task(elsewhere())


async def unrelated_task_that_goes_on() -> None:
    async def beside() -> None:
        for _ in range(3):
            await asyncio.sleep(0.004)

    KEPT.append(asyncio.create_task(beside()))


async def unrelated_sleep() -> None:
    await asyncio.sleep(0.002)


async def unrelated_connection() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 6000)
    reader, writer = await asyncio.open_connection("127.0.0.1", 6000)
    await reader.readline()
    writer.close()
    server.close()


async def unrelated_thread() -> None:
    await asyncio.to_thread(lambda: None)


async def task_of_the_same_name() -> None:
    async def work() -> None:
        await asyncio.sleep(0.001)

    task = asyncio.create_task(work())
    simloop.current().may_cancel(task)
    await asyncio.wait([task])


KEPT: list[asyncio.Task[None]] = []
EDITS: list[Body] = [
    unrelated_task,
    unrelated_task_that_goes_on,
    unrelated_sleep,
    unrelated_connection,
    unrelated_thread,
    task_of_the_same_name,
]


def campaign(body: Body, edits: list[Body], **options: Any) -> Campaign:
    async def main() -> None:
        KEPT.clear()
        for edit in edits:
            await edit()
        await body()

    def run(choices: Choices, observer: Any = None, **_: Any) -> Outcome:
        return execute(main, choices, Limits(), observer)

    return Campaign(run, "the test", **options)


FOUND: dict[Body, simloop.Failure] = {}


def failure_of(body: Body) -> simloop.Failure:
    if body not in FOUND:
        failure = campaign(body, []).explore().failure
        assert failure is not None, body.__name__
        FOUND[body] = failure
    return FOUND[body]


@settings(max_examples=examples(120), deadline=None)
@given(body=st.sampled_from(BODIES), edits=st.lists(st.sampled_from(EDITS), min_size=1, max_size=4))
def test_a_saved_failure_survives_edits_before_it(body: Body, edits: list[Body]) -> None:
    saved = failure_of(body)
    report = campaign(body, edits, saved=[saved.schedule]).explore()
    assert report.failure is not None
    assert report.failure.strategy == "saved failure"
    assert report.failure.exception.args == saved.exception.args


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@pytest.mark.parametrize(
    "edit", [unrelated_task, unrelated_sleep, unrelated_connection], ids=lambda edit: edit.__name__
)
def test_a_token_applies_as_it_is_after_an_unrelated_edit(body: Body, edit: Body) -> None:
    saved = failure_of(body)
    outcome, _, _ = campaign(body, [edit]).replay(saved.token)
    assert outcome.exception is not None
    assert outcome.exception.args == saved.exception.args
