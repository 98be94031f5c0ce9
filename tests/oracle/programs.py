"""Programs for the oracle: what each of a few tasks does, as data that Hypothesis can draw and shrink."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from hypothesis import strategies as st

Step = tuple[Any, ...]

DELAYS = st.sampled_from([0.0, 0.0004, 0.001, 0.003, 0.009, 0.0094, 0.01])
SLOTS = st.integers(0, 2)

STEPS: st.SearchStrategy[Step] = st.one_of(
    st.just(("yield",)),
    st.tuples(st.just("sleep"), DELAYS),
    st.tuples(st.just("lock"), SLOTS, DELAYS),
    st.tuples(st.just("put"), SLOTS),
    st.tuples(st.just("get"), SLOTS),
    st.tuples(st.just("set"), SLOTS),
    st.tuples(st.just("wait"), SLOTS),
    st.tuples(st.just("soon")),
    st.tuples(st.just("later"), DELAYS),
    st.tuples(st.just("spawn"), DELAYS),
    st.tuples(st.just("cancel"), SLOTS),
    st.tuples(st.just("timeout"), SLOTS, DELAYS),
    st.tuples(st.just("thread"), DELAYS),
    st.tuples(st.just("echo"), st.sampled_from([1, 10, 70_000])),
    st.tuples(st.just("hang up")),
    st.tuples(st.just("fail")),
)

PROGRAMS = st.lists(st.lists(STEPS, min_size=1, max_size=8), min_size=2, max_size=5)


class Machine:
    """Runs one program and writes down everything that can be seen of its order."""

    def __init__(self, program: list[list[Step]]) -> None:
        self.program = program
        self.trace: list[tuple[Any, ...]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.handlers: list[Any] = []

    def note(self, *what: Any) -> None:
        self.trace.append((*what, asyncio.get_running_loop().time()))

    async def main(self) -> None:
        loop: Any = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.trace.append(("unhandled", repr(context.get("exception")))))
        self.locks = [asyncio.Lock() for _ in range(3)]
        self.queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(3)]
        self.events = [asyncio.Event() for _ in range(3)]
        server = await asyncio.start_server(self.serve, "127.0.0.1", 7000)
        for number, steps in enumerate(self.program):
            task = asyncio.create_task(self.work(number, steps), name=f"work {number}")
            self.tasks.append(task)
            loop.may_cancel(task)
            # Stock tasks have no path: both loops get the same name for the point.
            loop._cancellable[-1].path = str(number)
        done, pending = await asyncio.wait(self.tasks, timeout=0.2)
        self.note("main", len(done), len(pending))
        for task in self.tasks:  # not the set: stock tasks hash by address
            task.cancel()
        for task, result in zip(self.tasks, await asyncio.gather(*self.tasks, return_exceptions=True), strict=True):
            self.note(task.get_name(), repr(result))
        server.close()
        for task in self.handlers:
            task.cancel()
        await asyncio.gather(*self.handlers, return_exceptions=True)
        for _ in range(5):  # transports that are closing
            await asyncio.sleep(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handlers.append(asyncio.current_task())
        try:
            while data := await reader.read(4096):
                self.note("served", len(data))
                writer.write(data)
                await writer.drain()
        except ConnectionError as error:
            self.note("server", type(error).__name__)
        finally:
            writer.close()

    async def work(self, number: int, steps: list[Step]) -> None:
        for at, (kind, *arguments) in enumerate(steps):
            self.note(number, at, kind)
            try:
                await getattr(self, "do_" + kind.replace(" ", "_"))(number, *arguments)
            finally:
                self.note(number, at, "left")

    async def do_yield(self, number: int) -> None:
        await asyncio.sleep(0)

    async def do_sleep(self, number: int, delay: float) -> None:
        await asyncio.sleep(delay)

    async def do_lock(self, number: int, slot: int, delay: float) -> None:
        async with self.locks[slot]:
            await asyncio.sleep(delay)

    async def do_put(self, number: int, slot: int) -> None:
        await self.queues[slot].put(number)

    async def do_get(self, number: int, slot: int) -> None:
        self.note(number, "got", await self.queues[slot].get())

    async def do_set(self, number: int, slot: int) -> None:
        self.events[slot].set()

    async def do_wait(self, number: int, slot: int) -> None:
        await self.events[slot].wait()

    async def do_soon(self, number: int) -> None:
        asyncio.get_running_loop().call_soon(self.note, number, "soon")

    async def do_later(self, number: int, delay: float) -> None:
        asyncio.get_running_loop().call_later(delay, self.note, number, "later")

    async def do_spawn(self, number: int, delay: float) -> None:
        async def child() -> None:
            self.note(number, "child")
            await asyncio.sleep(delay)
            self.note(number, "child ends")

        await asyncio.create_task(child())

    async def do_cancel(self, number: int, slot: int) -> None:
        if slot < len(self.tasks):
            self.tasks[slot].cancel()

    async def do_timeout(self, number: int, slot: int, delay: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self.events[slot].wait()

    async def do_thread(self, number: int, delay: float) -> None:
        self.note(number, "thread", await asyncio.to_thread(lambda: time.sleep(delay)))

    async def do_echo(self, number: int, size: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", 7000)
        try:
            writer.write(b"x" * size)
            left = size
            while left:
                data = await reader.read(50_000)
                self.note(number, "echo", len(data))
                left -= len(data)
            writer.write_eof()
            self.note(number, "end", await reader.read())
        finally:
            writer.close()

    async def do_hang_up(self, number: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", 7000)
        writer.write(b"never read")
        writer.transport.abort()

    async def do_fail(self, number: int) -> None:
        raise ValueError(number)
