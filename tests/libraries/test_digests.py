"""One seed takes the same way in processes whose strings hash differently."""

from __future__ import annotations

import asyncio

import pytest
from harness import digests_elsewhere

SEEDS = range(8)


async def streams() -> int:
    """A plain program: an echo server, and clients that talk to it at once."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    async def client(name: str) -> int:
        reader, writer = await asyncio.open_connection("localhost", 7000)
        size = 0
        for number in range(5):
            writer.write(f"{name} {number}\n".encode())
            size += len(await reader.readline())
        writer.close()
        await writer.wait_closed()
        return size

    async with await asyncio.start_server(echo, "localhost", 7000):
        return sum(await asyncio.gather(*{asyncio.create_task(client(name)) for name in "abcd"}))


@pytest.mark.parametrize(
    ("library", "module", "function"),
    [
        ("asyncio", "test_digests", "streams"),
        ("aiohttp", "test_aiohttp", "requests"),
        ("anyio", "test_anyio", "echoes"),
        ("httpx", "test_uvicorn_httpx", "requests"),
        ("redis", "test_redis", "commands"),
        ("websockets", "test_websockets", "echoes"),
    ],
)
def test_other_hash_seed_same_digests(library: str, module: str, function: str) -> None:
    pytest.importorskip(library)
    first, second = (digests_elsewhere(module, function, hash_seed, SEEDS) for hash_seed in (1, 2))
    assert len(first) == len(SEEDS)
    assert first == second
