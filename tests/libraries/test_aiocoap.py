"""aiocoap: CoAP over simulated UDP, whose requests, confirmed and not, are sent again where they are lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("aiocoap", reason="aiocoap is not installed: pip install pytest-simloop[libraries]")

import aiocoap
import aiocoap.resource
from aiocoap import GET, PUT, Context, Message
from harness import check, digests_elsewhere
from sizes import examples

import simloop


class Store(aiocoap.resource.ObservableResource):
    def __init__(self) -> None:
        super().__init__()
        self.content = b"nothing"

    async def render_get(self, request: Message) -> Message:
        return Message(payload=self.content)

    async def render_put(self, request: Message) -> Message:
        self.content = request.payload
        self.updated_state()
        return Message(code=aiocoap.CHANGED)


async def serve() -> None:
    site = aiocoap.resource.Site()
    site.add_resource(["store"], Store())
    context = await Context.create_server_context(site, bind=("::", None))
    try:
        await asyncio.sleep(600)
    finally:
        await context.shutdown()


async def requests() -> list[Any]:
    sim = simloop.current()
    serving = asyncio.create_task(sim.host("sensor").run(serve))
    await asyncio.sleep(1)
    client = await Context.create_client_context()
    observed: list[int] = []
    request = client.request(Message(code=GET, uri="coap://sensor/store", observe=0))

    async def observe() -> None:
        async for message in request.observation:
            observed.append(len(message.payload))

    observing = asyncio.create_task(observe())
    found = [(await request.response).payload]
    for size in (5, 5000):  # the second takes several blocks
        if size > 5:
            observing.cancel()
        answer = await client.request(Message(code=PUT, uri="coap://sensor/store", payload=b"x" * size)).response
        found.append(answer.code.name)
        await asyncio.sleep(1)
    answer = await client.request(Message(code=GET, uri="coap://sensor/store")).response
    found += [len(answer.payload), observed]
    answer = await client.request(Message(code=GET, uri="coap://sensor/nothing")).response
    found.append(answer.code.name)
    try:
        await client.request(Message(code=GET, uri="coap://sensor:1/store")).response
    except aiocoap.error.NetworkError as error:
        found.append(type(error).__name__)
    await client.shutdown()
    serving.cancel()
    await asyncio.wait([serving])
    return found


def test_requests_blocks_and_observations() -> None:
    check(requests, [b"nothing", "CHANGED", "CHANGED", 5000, [5], "NOT_FOUND", "NetworkError"], range(examples(20)))


def test_other_process_same_digests() -> None:
    first, second = (digests_elsewhere("test_aiocoap", "requests", hash_seed, range(3)) for hash_seed in (1, 2))
    assert len(first) == 3
    assert first == second
