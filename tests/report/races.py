"""Small programs with one race each, for the reports that golden files pin. Line numbers are part of them."""

from __future__ import annotations

import asyncio
import contextlib
import os

import simloop


async def transfer() -> None:
    """A transfer that is cancelled half-way."""
    balance = {"alice": 10, "bob": 0}

    async def move(amount: int) -> None:
        balance["alice"] -= amount
        await asyncio.sleep(0.1)
        balance["bob"] += amount

    request = asyncio.create_task(move(5), name="request")
    simloop.current().may_cancel(request)
    await asyncio.wait([request])
    assert sum(balance.values()) == 10


async def lost_item() -> None:
    """A consumer that is cancelled when it has an item and has not seen it."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    seen = []

    async def consume() -> None:
        item = await queue.get()
        await asyncio.sleep(0)
        seen.append(item)

    async def produce() -> None:
        await asyncio.sleep(0.01)
        await queue.put("item")

    consumer = asyncio.create_task(consume(), name="consumer")
    simloop.current().may_cancel(consumer)
    await asyncio.wait([consumer, asyncio.create_task(produce(), name="producer")])
    assert seen or queue.qsize() or simloop.current().elapsed < 0.01


async def two_clients() -> None:
    """The order of two replies is taken for that of the requests."""
    replies = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def ask(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", 7000)
        writer.write(b"%d\n" % number)
        replies.append(int(await reader.readline()))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 7000):
        first = asyncio.create_task(ask(1), name="ask 1")
        second = asyncio.create_task(ask(2), name="ask 2")
        await asyncio.wait([first, second])
    assert replies == [1, 2]


async def impatient() -> None:
    """A timeout that is meant to be generous."""
    answers: asyncio.Queue[int] = asyncio.Queue()

    async def compute() -> None:
        await asyncio.sleep(0.02)
        await answers.put(42)

    computing = asyncio.create_task(compute(), name="compute")
    answer = None
    try:
        async with asyncio.timeout(0.03):
            answer = await answers.get()
    except TimeoutError:
        pass
    await computing
    assert answer == 42


async def embrace() -> None:
    """Two tasks take two locks in opposite order."""
    source, target = asyncio.Lock(), asyncio.Lock()

    async def move(first: asyncio.Lock, second: asyncio.Lock) -> None:
        async with first:
            await asyncio.to_thread(lambda: None)
            async with second:
                pass

    there = asyncio.create_task(move(source, target), name="there")
    await asyncio.sleep(0.001)
    back = asyncio.create_task(move(target, source), name="back")
    await asyncio.wait([there, back])


async def check_then_act() -> None:
    """Nothing of it can happen on asyncio as it is: for the profile `hostile`."""
    cache: list[str] = []

    async def fill(name: str) -> None:
        if not cache:
            await asyncio.sleep(0)
            cache.append(name)

    first = asyncio.create_task(fill("first"), name="first")
    second = asyncio.create_task(fill("second"), name="second")
    await asyncio.gather(first, second)
    assert cache[0] == "first"


async def two_things() -> None:
    """Fails when one request is cancelled and the other's thread is late."""
    sim = simloop.current()

    async def cancelled() -> None:
        await asyncio.sleep(0.01)

    async def late() -> float:
        await asyncio.to_thread(lambda: None)
        return sim.elapsed

    one = asyncio.create_task(cancelled(), name="one")
    other = asyncio.create_task(late(), name="other")
    sim.may_cancel(one)
    await asyncio.wait([one, other])
    assert not one.cancelled() or other.result() < 0.0009


async def broken() -> None:
    """No race at all."""
    await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() < 0


async def lost_write() -> None:
    """A record is promised before it is on disk."""
    db = simloop.current().host("db")
    db.fs.write_tree({"/data": {"log": b""}})
    promised = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with open("/data/log", "ab") as log:
            log.write(await reader.readline())
            log.flush()
            writer.write(b"ok")
            os.fsync(log.fileno())
        writer.close()

    async def run_server() -> None:
        async with await asyncio.start_server(serve, "0.0.0.0", 7000) as server:
            await server.serve_forever()

    serving = asyncio.create_task(db.run(run_server))
    await asyncio.sleep(0.1)
    db.may_crash()
    reader, writer = await asyncio.open_connection(db.ip, 7000)
    writer.write(b"record\n")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            promised.append(await reader.read(2))
    writer.close()
    db.crash()
    with contextlib.suppress(simloop.HostCrashedError):
        await serving
    assert not promised or db.fs.read_bytes("/data/log") == b"record\n"


async def lost_update() -> None:
    """Two threads read a counter before either writes it: with threads preempted between lines."""
    seats = 10

    def book(wanted: int) -> None:
        nonlocal seats
        left = seats
        seats = left - wanted

    await asyncio.gather(asyncio.to_thread(book, 1), asyncio.to_thread(book, 2))
    assert seats == 7
