"""aiomqtt, which drives paho-mqtt's client by its socket, against the broker of amqtt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("aiomqtt", reason="aiomqtt is not installed: pip install pytest-simloop[libraries]")
pytest.importorskip("amqtt", reason="amqtt is not installed: pip install pytest-simloop[libraries]")

import aiomqtt
from amqtt.broker import Broker
from harness import check, digests_elsewhere
from sizes import examples

CONFIG = {
    "listeners": {"default": {"type": "tcp", "bind": "0.0.0.0:1883"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


@asynccontextmanager
async def broker() -> AsyncIterator[None]:
    running = Broker(CONFIG)
    await running.start()
    try:
        yield
    finally:
        await running.shutdown()


async def messages() -> list[Any]:
    """Each quality of service, pings that keep a connection alive, and a message that is retained."""
    heard: list[tuple[str, Any]] = []
    async with broker():
        async with aiomqtt.Client("localhost", identifier="early") as client:
            await client.publish("state/door", b"open", qos=1, retain=True)
        async with aiomqtt.Client("localhost", identifier="listener") as listener:
            await listener.subscribe("state/#", qos=2)
            async with aiomqtt.Client("localhost", identifier="speaker", keepalive=5) as speaker:
                for qos in range(3):
                    await speaker.publish(f"state/{qos}", b"x" * qos, qos=qos)
                await asyncio.sleep(8)
            async for message in listener.messages:
                heard.append((str(message.topic), message.payload))
                if len(heard) == 4:
                    break
    return sorted(heard)


def test_messages() -> None:
    heard = [("state/0", b""), ("state/1", b"x"), ("state/2", b"xx"), ("state/door", b"open")]
    check(messages, heard, range(examples(20)))


def test_other_process_same_digests() -> None:
    first, second = (digests_elsewhere("test_mqtt", "messages", hash_seed, range(3)) for hash_seed in (1, 2))
    assert len(first) == 3
    assert first == second
