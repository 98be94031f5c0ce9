"""Does every GET get its own answer, also when an earlier caller has gone away?

An ordinary test of an ordinary cache look-up. It passes under pytest-asyncio, every time.
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
