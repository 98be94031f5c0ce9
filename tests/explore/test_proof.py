"""Proofs: a failure is replayed on stock asyncio's own loop, and what came of it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import simloop
from simloop.loop.stock_loop import StockLoop

SAME = "replayed on stock asyncio: same failure"


def failure_of(main: Callable[[], Coroutine[Any, Any, Any]], **options: Any) -> simloop.Failure:
    failure = simloop.explore(main, runs=300, **options).failure
    assert failure is not None
    return failure


async def with_threads() -> None:
    balance = 0

    def deposit() -> None:
        nonlocal balance
        seen = balance
        time.sleep(0.001)
        balance = seen + 1

    await asyncio.gather(asyncio.to_thread(deposit), asyncio.to_thread(deposit))
    assert balance == 2


async def with_hosts() -> None:
    sim = simloop.current()
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1))
        writer.close()

    async def server() -> None:
        async with await asyncio.start_server(serve, "0.0.0.0", 80) as server:
            await server.serve_forever()

    host = sim.host("server")
    running = asyncio.create_task(host.run(server))
    await asyncio.sleep(1)

    async def send(what: bytes) -> None:
        _, writer = await asyncio.open_connection("server", 80)
        writer.write(what)
        await writer.drain()
        writer.close()

    await asyncio.gather(send(b"a"), send(b"b"))
    await asyncio.sleep(1)
    running.cancel()
    assert seen == [b"a", b"b"]


async def left_behind() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(never())
    simloop.current().may_cancel(task)
    await task


async def stuck() -> None:
    first, second = asyncio.Lock(), asyncio.Lock()

    async def take(one: asyncio.Lock, other: asyncio.Lock) -> None:
        async with one:
            await asyncio.sleep(0.001)
            async with other:
                pass

    await asyncio.gather(take(first, second), take(second, first))


@pytest.mark.parametrize("main", [with_threads, with_hosts, left_behind, stuck])
def test_a_failure_is_the_same_on_stock_asyncio(main: Any) -> None:
    assert failure_of(main).prove() == SAME


async def in_order() -> None:
    order: list[int] = []
    loop = asyncio.get_running_loop()

    async def note(number: int) -> None:
        order.append(number)

    await asyncio.gather(note(1), note(2))
    assert order == [1, 2]
    assert loop.is_running()


def test_orders_that_stock_asyncio_never_has_are_told() -> None:
    proof = failure_of(in_order, profile="hostile").prove()
    assert proof == "replayed on stock asyncio: no failure, since it never has the orders that profile hostile adds"


async def endless() -> None:
    while True:
        await asyncio.sleep(0)


def test_a_limit_of_the_simulation_is_nothing_to_prove() -> None:
    assert failure_of(endless, max_steps=1000).prove().startswith("not replayed on stock asyncio: ")


async def else_where() -> None:
    task = asyncio.create_task(asyncio.sleep(1))
    simloop.current().may_cancel(task)
    await asyncio.wait([task])
    assert isinstance(asyncio.get_running_loop(), StockLoop) or not task.cancelled()


def test_what_stock_asyncio_does_not_do_is_told() -> None:
    assert failure_of(else_where).prove() == "replayed on stock asyncio: no failure"


def test_the_turn_of_the_proof_is_asyncios_own() -> None:
    turns: list[str] = []

    async def main() -> None:
        import sys

        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            turns.append(f"{frame.f_globals['__name__']}.{frame.f_code.co_name}")
        raise ValueError

    failure = failure_of(main)
    turns.clear()
    assert failure.prove() == SAME
    assert "asyncio.base_events._run_once" in turns
    assert "asyncio.events._run" in turns
