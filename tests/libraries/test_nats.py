"""nats-py, against a small server of our own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("nats", reason="nats-py is not installed: pip install pytest-simloop[libraries]")

import nats
import nats.errors
from harness import check, digests_elsewhere
from sizes import examples

import simloop

PORT = 4222


class Broker:
    """As much of a NATS server as clients without streams need: subjects are equal, or end in ``>``."""

    def __init__(self) -> None:
        #: Writers and subjects of subscriptions, in their order.
        self.subscriptions: list[tuple[asyncio.StreamWriter, str, str, str]] = []
        self.taken = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "S", "version": "2.10.0", "max_payload": 1_048_576, "proto": 1, "headers": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        try:
            while line := await reader.readline():
                verb, _, rest = line.decode().strip().partition(" ")
                words = rest.split()
                if verb == "PING":
                    writer.write(b"PONG\r\n")
                elif verb == "SUB":
                    self.subscriptions.append((writer, words[0], words[1] if len(words) > 2 else "", words[-1]))
                elif verb == "UNSUB" and len(words) == 1:
                    self.subscriptions = [one for one in self.subscriptions if one[0] is not writer or one[3] != rest]
                elif verb == "PUB":
                    payload = await reader.readexactly(int(words[-1]) + 2)
                    self.publish(words[0], words[1] if len(words) > 2 else "", payload)
        except OSError:
            pass
        finally:
            self.subscriptions = [one for one in self.subscriptions if one[0] is not writer]
            writer.close()

    def publish(self, subject: str, reply: str, payload: bytes) -> None:
        matching = [
            one
            for one in self.subscriptions
            if one[1] in (subject, "*") or (one[1][-1] in ">*" and subject.startswith(one[1][:-1]))
        ]
        groups = [one for one in matching if one[2]]
        if groups:  # each message goes to one member, by turns
            self.taken += 1
            matching = [one for one in matching if not one[2]] + [groups[self.taken % len(groups)]]
        for writer, _, _, sid in matching:
            words = [word for word in (subject, sid, reply, str(len(payload) - 2)) if word]
            writer.write(f"MSG {' '.join(words)}\r\n".encode() + payload)


async def messages() -> list[Any]:
    async with await asyncio.start_server(Broker().serve, "localhost", PORT):
        client, worker = await nats.connect(), await nats.connect()
        heard: list[bytes] = []

        async def hear(message: Any) -> None:
            heard.append(message.data)

        async def answer(message: Any) -> None:
            await message.respond(message.data.upper())

        await client.subscribe("news.>", cb=hear)
        for _ in range(2):
            await worker.subscribe("shout", queue="workers", cb=answer)
        await asyncio.gather(client.flush(), worker.flush())
        for number in range(3):
            await worker.publish(f"news.{number}", b"x" * number)
        await worker.flush()
        answers = await asyncio.gather(*(client.request("shout", word, timeout=5) for word in (b"one", b"two")))
        try:
            await client.request("nobody", b"?", timeout=5)
        except nats.errors.TimeoutError as error:
            refused = type(error).__name__
        await asyncio.gather(client.drain(), worker.close())
        return [heard, [answer.data for answer in answers], refused]


def test_messages_and_requests() -> None:
    check(messages, [[b"", b"x", b"xx"], [b"ONE", b"TWO"], "TimeoutError"], range(examples(20)))


def test_other_process_same_digests() -> None:
    first, second = (digests_elsewhere("test_nats", "messages", hash_seed, range(3)) for hash_seed in (1, 2))
    assert len(first) == 3
    assert first == second


def test_it_connects_again_after_a_power_cut() -> None:
    async def main() -> list[Any]:
        sim = simloop.current()
        seen: list[Any] = []

        async def serve() -> None:
            async with await asyncio.start_server(Broker().serve, "0.0.0.0", PORT) as server:
                await server.serve_forever()

        async def hear(message: Any) -> None:
            seen.append(message.data)

        async def back() -> None:
            seen.append("reconnected")

        host = sim.host("broker")
        serving = asyncio.create_task(host.run(serve))
        await asyncio.sleep(1)
        client = await nats.connect(
            "nats://broker:4222", ping_interval=5, reconnected_cb=back, max_reconnect_attempts=-1
        )
        await client.subscribe("news", cb=hear)
        await client.publish("news", b"before")
        await asyncio.sleep(1)
        host.crash()
        await asyncio.wait([serving])
        assert isinstance(serving.exception(), simloop.HostCrashedError)
        await asyncio.sleep(60)
        host.restart()
        serving = asyncio.create_task(host.run(serve))
        await asyncio.sleep(60)
        await client.publish("news", b"after")
        await client.drain()
        serving.cancel()
        await asyncio.wait([serving])
        return seen

    check(main, [b"before", "reconnected", b"after"], range(examples(5)))
