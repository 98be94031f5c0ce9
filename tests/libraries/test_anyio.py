"""anyio on its asyncio backend."""

from __future__ import annotations

import asyncio
import time

import pytest

pytest.importorskip("anyio", reason="anyio is not installed: pip install pytest-simloop[libraries]")

import anyio
import anyio.abc
import anyio.from_thread
import anyio.to_thread
from harness import check

import simloop


async def serve_echo(port: int = 4000, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    async with await anyio.create_tcp_listener(local_host="0.0.0.0", local_port=port) as listener:
        task_status.started()
        await listener.serve(handle)


async def echoes() -> list[bytes]:
    answers: list[bytes] = []

    async def one(name: bytes) -> None:
        async with await anyio.connect_tcp("127.0.0.1", 4000) as stream:
            await stream.send(name * 10)
            answer = b""
            while len(answer) < 10:
                answer += await stream.receive()
            await stream.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            answers.append(answer)

    async with anyio.create_task_group() as server:
        await server.start(serve_echo)
        async with anyio.create_task_group() as clients:
            for name in (b"a", b"b", b"c", b"d"):
                clients.start_soon(one, name)
        server.cancel_scope.cancel()
    return sorted(answers)


def test_tcp_and_task_groups() -> None:
    check(echoes, [name * 10 for name in (b"a", b"b", b"c", b"d")])


def test_threads() -> None:
    async def main() -> tuple[list[int], int, int]:
        def square(number: int) -> int:
            time.sleep(10)
            doubled: int = anyio.from_thread.run_sync(lambda: number * number)
            return doubled

        results: list[int] = []

        async def one(number: int) -> None:
            results.append(await anyio.to_thread.run_sync(square, number))

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(one, number)
        limiter = anyio.to_thread.current_default_thread_limiter()
        return sorted(results), round(simloop.current().elapsed), limiter.borrowed_tokens

    check(main, ([0, 1, 4, 9, 16], 10, 0))


def test_cancel_scopes() -> None:
    async def main() -> tuple[bool, int]:
        with anyio.move_on_after(5) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 100)
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(7)
                await anyio.sleep(100)
        return scope.cancelled_caught, round(simloop.current().elapsed)

    check(main, (True, 7))


def test_memory_streams() -> None:
    async def main() -> list[int]:
        send, receive = anyio.create_memory_object_stream[int](2)
        received: list[int] = []

        async def produce() -> None:
            async with send:
                for number in range(10):
                    await send.send(number)

        async with anyio.create_task_group() as group, receive:
            group.start_soon(produce)
            async for number in receive:
                received.append(number)
                await anyio.sleep(0.01)
        return received

    check(main, list(range(10)))


def test_two_hosts() -> None:
    async def main() -> bytes:
        server = asyncio.create_task(simloop.current().host("server").run(serve_echo))
        await anyio.sleep(1)
        async with await anyio.connect_tcp("server", 4000) as stream:
            await stream.send(b"!")
            answer: bytes = await stream.receive()
        server.cancel()
        await asyncio.wait([server])
        return answer

    check(main, b"!")
