"""Programs whose outcome asyncio's own order fixes: a thousand runs of each in profile `cpython` must agree.

Simulators that treat the ready queue as a bag fail most of these at every second seed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sizes import examples

import simloop

RUNS = examples(1000)
Program = Callable[[], Coroutine[Any, Any, Any]]
PROGRAMS: list[tuple[Program, Any]] = []


def gives(expected: Any) -> Callable[[Program], Program]:
    def note(program: Program) -> Program:
        PROGRAMS.append((program, expected))
        return program

    return note


@gives([0, 1, 2, 3, 4])
async def call_soon_is_first_in_first_out() -> list[int]:
    seen: list[int] = []
    for i in range(5):
        asyncio.get_running_loop().call_soon(seen.append, i)
    await asyncio.sleep(0)
    return seen


@gives([0, 1, 2, 3, 4])
async def tasks_start_in_order_of_creation() -> list[int]:
    seen: list[int] = []

    async def work(i: int) -> None:
        seen.append(i)

    await asyncio.gather(*(work(i) for i in range(5)))
    return seen


@gives(["a", "b", "c", "waiter"])
async def done_callbacks_run_in_order_and_before_later_waiters() -> list[str]:
    seen: list[str] = []
    future = asyncio.get_running_loop().create_future()
    for name in "abc":
        future.add_done_callback(lambda _, name=name: seen.append(name))  # type: ignore[misc]

    async def wait() -> None:
        await future
        seen.append("waiter")

    waiter = asyncio.create_task(wait())
    await asyncio.sleep(0)
    future.set_result(None)
    await waiter
    return seen


@gives([0, 1, 2, 3])
async def lock_is_handed_on_in_order() -> list[int]:
    lock, seen = asyncio.Lock(), []

    async def work(i: int) -> None:
        async with lock:
            await asyncio.sleep(0)
            seen.append(i)

    await asyncio.gather(*(work(i) for i in range(4)))
    return seen


@gives([(0, "x0"), (1, "x1"), (2, "x2")])
async def queue_serves_getters_in_order() -> list[tuple[int, str]]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    seen: list[tuple[int, str]] = []

    async def get(i: int) -> None:
        seen.append((i, await queue.get()))

    getters = [asyncio.create_task(get(i)) for i in range(3)]
    await asyncio.sleep(0)
    for i in range(3):
        queue.put_nowait(f"x{i}")
    await asyncio.gather(*getters)
    return seen


@gives([0, 1, 2, 3])
async def event_wakes_waiters_in_order() -> list[int]:
    event, seen = asyncio.Event(), []

    async def wait(i: int) -> None:
        await event.wait()
        seen.append(i)

    waiters = [asyncio.create_task(wait(i)) for i in range(4)]
    await asyncio.sleep(0)
    event.set()
    await asyncio.gather(*waiters)
    return seen


@gives([0, 1, 2, 3, 4, 5])
async def semaphore_is_fair() -> list[int]:
    semaphore, seen = asyncio.Semaphore(2), []

    async def work(i: int) -> None:
        async with semaphore:
            await asyncio.sleep(0)
            seen.append(i)

    await asyncio.gather(*(work(i) for i in range(6)))
    return seen


@gives([0, 1, 2])
async def condition_notifies_in_order() -> list[int]:
    condition, seen = asyncio.Condition(), []

    async def wait(i: int) -> None:
        async with condition:
            await condition.wait()
            seen.append(i)

    waiters = [asyncio.create_task(wait(i)) for i in range(3)]
    await asyncio.sleep(0)
    async with condition:
        condition.notify_all()
    await asyncio.gather(*waiters)
    return seen


@gives(["a0", "b0", "a1", "b1", "a2", "b2"])
async def sleep_zero_alternates() -> list[str]:
    seen: list[str] = []

    async def work(name: str) -> None:
        for i in range(3):
            seen.append(f"{name}{i}")
            await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("b"))
    return seen


@gives([1, 2, 3, 4])
async def timers_with_distinct_deadlines_run_in_order() -> list[int]:
    seen: list[int] = []
    loop = asyncio.get_running_loop()
    began = loop.time()  # once: a busy machine may take long between two looks
    for i in (3, 1, 4, 2):
        loop.call_at(began + i / 1000, seen.append, i)
    await asyncio.sleep(0.1)
    return seen


@gives(["first", "second"])
async def timers_armed_one_after_the_other_for_the_same_delay_run_in_order() -> list[str]:
    # On Linux no two looks at the clock agree, so the second deadline is later.
    seen: list[str] = []

    async def work(name: str) -> None:
        await asyncio.sleep(0.05)
        seen.append(name)

    await asyncio.gather(work("first"), work("second"))
    return seen


@gives(["one long", "two short"])
async def a_long_sleep_ends_before_two_halves_begun_with_it() -> list[str]:
    # The second half is armed only after the first is over, which is never early.
    seen: list[str] = []

    async def long() -> None:
        await asyncio.sleep(0.1)
        seen.append("one long")

    async def halves() -> None:
        await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)
        seen.append("two short")

    await asyncio.gather(long(), halves())
    return seen


@gives(True)
async def time_never_runs_backwards_and_sleeps_are_never_short() -> bool:
    loop = asyncio.get_running_loop()
    last = loop.time()
    for delay in (0, 0.0001, 0.001, 0.0123, 0.05):
        await asyncio.sleep(delay)
        now = loop.time()
        if now - last < delay:
            return False
        last = now
    return True


@gives(["soon", "timer"])
async def queued_callbacks_run_before_a_timer_that_is_due_already() -> list[str]:
    seen: list[str] = []
    loop = asyncio.get_running_loop()
    loop.call_later(0, seen.append, "timer")
    loop.call_soon(seen.append, "soon")
    await asyncio.sleep(0.01)
    return seen


class _Recorder(asyncio.Protocol):
    def __init__(self, seen: list[str], done: asyncio.Future[None]) -> None:
        self.seen = seen
        self.done = done
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.seen.append("made")

    def data_received(self, data: bytes) -> None:
        if not self.data:
            self.seen.append("data")
        self.data += data

    def eof_received(self) -> None:
        self.seen.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen.append("lost" if exc is None else repr(exc))
        if not self.done.done():
            self.done.set_result(None)


@gives((["made", "data", "eof", "lost"], b"one two three"))
async def a_protocol_sees_made_data_eof_lost() -> tuple[list[str], bytes]:
    loop = asyncio.get_running_loop()
    seen: list[str] = []
    recorder = _Recorder(seen, loop.create_future())
    server = await loop.create_server(lambda: recorder, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for word in (b"one ", b"two ", b"three"):
        writer.write(word)
        await asyncio.sleep(0)
    writer.close()
    await recorder.done
    server.close()
    return seen, recorder.data


@gives([b"ping 0\n", b"ping 1\n", b"ping 2\n"])
async def a_connection_keeps_the_order_of_its_bytes() -> list[bytes]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for i in range(3):
        writer.write(b"ping %d\n" % i)
    answers = [await reader.readline() for _ in range(3)]
    writer.close()
    await writer.wait_closed()
    server.close()
    return answers


@gives([0, 1, 4, 9])
async def gather_keeps_the_order_of_results() -> list[int]:
    async def square(i: int) -> int:
        await asyncio.to_thread(lambda: None)
        return i * i

    return list(await asyncio.gather(*(square(i) for i in range(4))))


@gives(["body", "cancelled", "after"])
async def a_timeout_cancels_before_it_raises() -> list[str]:
    seen = []
    try:
        async with asyncio.timeout(0.01):
            seen.append("body")
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
    except TimeoutError:
        seen.append("after")
    return seen


@gives([0, 1, 2, 3])
async def call_soon_threadsafe_from_one_job_keeps_its_order() -> list[int]:
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def job() -> None:
        for i in range(4):
            loop.call_soon_threadsafe(seen.append, i)

    await asyncio.to_thread(job)
    await asyncio.sleep(0.01)
    return seen


@gives(["job", "after the job"])
async def a_result_comes_after_the_job_that_gives_it() -> list[str]:
    import time

    seen: list[str] = []

    def job() -> None:
        time.sleep(0.5)
        seen.append("job")

    await asyncio.to_thread(job)
    seen.append("after the job")
    return seen


@gives(["start", "meanwhile", "end"])
async def a_sleeping_thread_does_not_run_ahead_of_the_loop() -> list[str]:
    import time

    seen: list[str] = []

    def job() -> None:
        seen.append("start")
        time.sleep(1)
        seen.append("end")

    async def meanwhile() -> None:
        await asyncio.sleep(0.5)
        seen.append("meanwhile")

    await asyncio.gather(asyncio.to_thread(job), meanwhile())
    return seen


@pytest.mark.parametrize(("program", "expected"), PROGRAMS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_run_agrees_with_stock_asyncio(program: Program, expected: Any) -> None:
    assert asyncio.run(program()) == expected, "the expectation itself does not hold on stock asyncio"
    for seed in range(RUNS):
        assert simloop.run(program, seed=seed) == expected, f"seed {seed}"
