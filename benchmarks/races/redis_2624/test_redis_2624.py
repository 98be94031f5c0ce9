"""Does every caller get the answer to its own question, also when another caller has gone away?

A cancelled command puts its connection back into the pool while the reply is on its way, and the next command
reads it. https://github.com/redis/redis-py/issues/2624: in redis-py 4.5.1; fixed in 4.5.5.
"""

from __future__ import annotations

import asyncio
import contextlib
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


async def test_every_get_returns_its_own_value(cache, sim):
    foo = asyncio.create_task(cache.get("foo"), name="get foo")
    sim.may_cancel(foo)  # the user who asked for foo may close the browser
    with contextlib.suppress(asyncio.CancelledError):
        assert await foo == b"value of foo"
    assert await cache.get("bar") == b"value of bar"
