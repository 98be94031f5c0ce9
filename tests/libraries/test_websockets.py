"""websockets, client and server (the asyncio implementation)."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("websockets", reason="websockets is not installed: pip install pytest-simloop[libraries]")

from harness import check
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

import simloop

URL = "ws://127.0.0.1:8765"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def echoes() -> list[str | bytes]:
    async with serve(echo, "127.0.0.1", 8765), connect(URL) as client:
        answers = []
        for message in ("text", b"bytes", "x" * 100_000):
            await client.send(message)
            answers.append(await client.recv())
        return [answer[:10] for answer in answers]


def test_echo() -> None:
    check(echoes, ["text", b"bytes", "x" * 10])


def test_fragments_and_many_clients() -> None:
    async def one(name: str) -> str:
        async with connect(URL) as client:
            await client.send([name, "-", name])
            return str(await client.recv())

    async def main() -> list[str]:
        async with serve(echo, "127.0.0.1", 8765):
            return list(await asyncio.gather(*(one(name) for name in "abcdef")))

    check(main, [f"{name}-{name}" for name in "abcdef"])


def test_keepalive_over_an_hour() -> None:
    """Both sides ping every 20 s, and the connection lives."""

    async def main() -> tuple[str, bool, int]:
        async with serve(echo, "127.0.0.1", 8765), connect(URL) as client:
            await asyncio.sleep(3600)
            await client.send("still there?")
            answer = str(await client.recv())
            latency = await (await client.ping())
            return answer, 0 <= latency < 1, round(simloop.current().elapsed / 3600)

    check(main, ("still there?", True, 1), seeds=range(10))


def test_keepalive_finds_a_peer_that_is_silent() -> None:
    handled: asyncio.Event

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes part in the handshake, and never again."""
        import base64
        import hashlib

        head = await reader.readuntil(b"\r\n\r\n")
        key = next(line.split()[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        try:
            while await reader.read(1000):
                pass
        finally:
            writer.close()
            handled.set()

    async def main() -> tuple[str, int]:
        nonlocal handled
        handled = asyncio.Event()
        server = await asyncio.start_server(silent, "127.0.0.1", 8765)
        async with server:
            client = await connect(URL, ping_interval=20, ping_timeout=10, close_timeout=5)
            began = asyncio.get_running_loop().time()
            try:
                await client.recv()
            except ConnectionClosedError as error:
                took = asyncio.get_running_loop().time() - began
                reason = error.sent.reason if error.sent is not None else "?"
                await client.wait_closed()
                await handled.wait()  # Server.wait_closed() does not wait for handlers before 3.12
                return reason, round(took)
        return "answered", 0

    # 20 s until the ping, 10 s for its answer, 5 s for the closing handshake
    check(main, ("keepalive ping timeout", 35))


def test_close_handshake() -> None:
    async def main() -> tuple[int | None, str | None, int | None]:
        seen: asyncio.Queue[ConnectionClosed] = asyncio.Queue()

        async def handler(connection: ServerConnection) -> None:
            try:
                await connection.recv()
            except ConnectionClosed as error:
                seen.put_nowait(error)

        async with serve(handler, "127.0.0.1", 8765):
            client = await connect(URL)
            await client.close(4001, "enough")
            error = await seen.get()
            assert error.rcvd is not None
            return error.rcvd.code, error.rcvd.reason, client.close_code

    check(main, (4001, "enough", 4001))


def test_server_closes_its_connections() -> None:
    async def main() -> int | None:
        server = await serve(echo, "127.0.0.1", 8765)
        client = await connect(URL)
        server.close()
        await server.wait_closed()
        await client.wait_closed()
        return client.close_code

    check(main, 1001)


def test_two_hosts() -> None:
    async def main() -> str:
        async def server_main() -> None:
            async with serve(echo, "0.0.0.0", 80) as server:
                await server.serve_forever()

        server = asyncio.create_task(simloop.current().host("server").run(server_main))
        await asyncio.sleep(1)
        async with connect("ws://server/") as client:
            await client.send("over the network")
            answer = str(await client.recv())
        server.cancel()
        await asyncio.wait([server])
        return answer

    check(main, "over the network")
