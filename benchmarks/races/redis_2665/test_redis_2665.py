"""Does a caller get the answer to its own question, also when the question before took too long?

As in #2624, a command that was given up leaves its reply to the next one: the first fix was for pipelines only.
https://github.com/redis/redis-py/issues/2665: in redis-py 4.5.3; fixed in 4.5.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from resp_server import RespServer


@pytest.fixture
async def cache() -> AsyncIterator[Redis]:
    server = await RespServer({b"foo": b"value of foo", b"bar": b"value of bar"}).start("127.0.0.1", 6379)
    client = Redis(host="127.0.0.1", port=6379)
    yield client
    await client.close()
    server.close()


async def test_a_get_after_a_slow_one_returns_its_own_value(cache):
    try:
        async with asyncio.timeout(0.05):  # without the cache it goes too, only slower
            assert await cache.get("foo") == b"value of foo"
    except TimeoutError:
        pass
    assert await cache.get("bar") == b"value of bar"
