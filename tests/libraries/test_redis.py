"""redis-py's asyncio client, against a small server of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("redis.asyncio", reason="redis is not installed: pip install pytest-simloop[libraries]")

import redis.asyncio as redis
from harness import check
from resp import Redis

import simloop


@asynccontextmanager
async def served() -> AsyncIterator[Redis]:
    redis_server = Redis()
    server = await redis_server.start()
    try:
        yield redis_server
    finally:
        server.close()


async def commands() -> list[object]:
    async with served():
        client = redis.Redis()
        pong = await client.ping()
        stored = await client.set("key", "value")
        got, missing = await client.get("key"), await client.get("nothing")
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(5):
                pipeline.set(f"n{number}", "x" * 10_000 * number)
            pipeline.get("n2")
            results = await pipeline.execute()
        await client.close(close_connection_pool=True)
        return [pong, stored, got, missing, results[:5], len(results[5])]


def test_commands_and_pipeline() -> None:
    check(commands, [True, True, b"value", None, [True] * 5, 20_000])


def test_pool_shares_connections() -> None:
    async def main() -> tuple[int, int]:
        async with served() as server:
            pool = redis.BlockingConnectionPool(max_connections=3, timeout=30)
            client = redis.Redis(connection_pool=pool)
            values = await asyncio.gather(*(client.incr("counter") for _ in range(20)))
            assert sorted(values) == list(range(1, 21))
            await client.close()
            await pool.disconnect()
            return max(values), server.connections

    check(main, (20, 3))


def test_socket_timeout() -> None:
    async def main() -> tuple[str, int]:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:  # it may be cancelled, at the end
                writer.close()

        server = await asyncio.start_server(never, "127.0.0.1", 6379)
        async with server:
            client = redis.Redis(socket_timeout=7)
            began = asyncio.get_running_loop().time()
            try:
                await client.ping()
            except redis.TimeoutError as error:
                took = asyncio.get_running_loop().time() - began
                await client.close(close_connection_pool=True)
                return type(error).__name__, round(took)
        return "answered", 0

    check(main, ("TimeoutError", 7))


def test_two_hosts() -> None:
    async def main() -> bytes | None:
        async def serve() -> None:
            server = await Redis().start("0.0.0.0")
            async with server:
                await server.serve_forever()

        server = asyncio.create_task(simloop.current().host("cache").run(serve))
        await asyncio.sleep(1)
        client = redis.Redis(host="cache")
        await client.set("where", "far away")
        value: bytes | None = await client.get("where")
        await client.close(close_connection_pool=True)
        server.cancel()
        await asyncio.wait([server])
        return value

    check(main, b"far away")
