"""aiohttp, client and server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install pytest-simloop[libraries]")

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from harness import check

import simloop


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"hello {request.match_info['name']}")


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def count(request: web.Request) -> web.StreamResponse:
    """A chunked body, in pieces that come a while apart."""
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(5):
        await response.write(f"{number};".encode())
        await asyncio.sleep(0.1)
    await response.write_eof()
    return response


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response(text="at last")


def application() -> web.Application:
    app = web.Application()
    app.add_routes([
        web.get("/hello/{name}", hello),
        web.post("/echo", echo),
        web.get("/count", count),
        web.get("/slow", slow),
    ])  # fmt: skip
    return app


@asynccontextmanager
async def served(host: str = "127.0.0.1", port: int = 8080, **options: float) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(application(), **options)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    try:
        yield runner
    finally:
        await runner.cleanup()


URL = "http://127.0.0.1:8080"


async def requests() -> list[str]:
    async with served(), aiohttp.ClientSession() as session:

        async def get(name: str) -> str:
            async with session.get(f"{URL}/hello/{name}") as response:
                assert response.status == 200
                return await response.text()

        return list(await asyncio.gather(*(get(name) for name in "abcdefgh")))


def test_concurrent_requests() -> None:
    check(requests, [f"hello {name}" for name in "abcdefgh"])


def test_keep_alive_uses_one_connection() -> None:
    async def main() -> tuple[int, int]:
        created = reused = 0

        async def on_created(*_: object) -> None:
            nonlocal created
            created += 1

        async def on_reused(*_: object) -> None:
            nonlocal reused
            reused += 1

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(on_created)
        trace.on_connection_reuseconn.append(on_reused)
        async with served(), aiohttp.ClientSession(trace_configs=[trace]) as session:
            for _ in range(4):
                async with session.get(f"{URL}/hello/x") as response:
                    await response.read()
        return created, reused

    check(main, (1, 3))


def test_bodies_both_ways() -> None:
    body = bytes(range(256)) * 1024

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    async def main() -> tuple[bool, bool, str]:
        async with served(), aiohttp.ClientSession() as session:
            async with session.post(f"{URL}/echo", data=body) as response:
                whole = await response.read()
            async with session.post(f"{URL}/echo", data=pieces()) as response:
                chunked = await response.read()
            async with session.get(f"{URL}/count") as response:
                streamed = b"".join([piece async for piece in response.content.iter_any()])
        return whole == body, chunked == body, streamed.decode()

    check(main, (True, True, "0;1;2;3;4;"))


def test_client_timeout() -> None:
    async def main() -> tuple[str, float]:
        # Below five seconds: aiohttp rounds longer ones up to a whole second of the clock.
        timeout = aiohttp.ClientTimeout(total=4)
        async with served(shutdown_timeout=1.0), aiohttp.ClientSession(timeout=timeout) as session:
            began = asyncio.get_running_loop().time()
            try:
                await session.get(f"{URL}/slow")
            except TimeoutError as error:
                took = asyncio.get_running_loop().time() - began
                return type(error).__name__, round(took)
        return "no timeout", 0

    check(main, ("TimeoutError", 4))


def test_graceful_shutdown_lets_requests_end() -> None:
    async def main() -> tuple[str, str]:
        async with aiohttp.ClientSession() as session:
            async with served():
                request = asyncio.create_task(session.get(f"{URL}/slow"))
                await asyncio.sleep(1)
            text = await (await request).text()
            try:
                await session.get(f"{URL}/hello/x")
            except aiohttp.ClientConnectionError:
                return text, "closed"
        return text, "open"

    check(main, ("at last", "closed"))


def test_shutdown_timeout_ends_requests() -> None:
    async def main() -> tuple[str, float]:
        async with aiohttp.ClientSession() as session:
            async with served(shutdown_timeout=2.0):
                request = asyncio.create_task(session.get(f"{URL}/slow"))
                await asyncio.sleep(1)
                began = asyncio.get_running_loop().time()
            took = asyncio.get_running_loop().time() - began
            try:
                await request
            except aiohttp.ClientConnectorError as error:  # the client tries a GET once more
                return type(error).__name__, round(took)
        return "answered", 0

    # 2 s in which the request may end, and 2 s in which it may end on being told to
    check(main, ("ClientConnectorError", 4))


def test_its_own_test_server_and_client() -> None:
    async def main() -> str:
        async with TestClient(TestServer(application())) as client:
            response = await client.post("/echo", data=b"through the test client")
            return await response.text()

    check(main, "through the test client")


def test_websocket() -> None:
    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=10)
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def main() -> tuple[list[str], bool]:
        app = web.Application()
        app.router.add_get("/ws", serve)
        async with TestClient(TestServer(app)) as client, client.ws_connect("/ws") as socket:
            answers = []
            for word in ("one", "two", "three"):
                await socket.send_str(word)
                answers.append(await socket.receive_str())
                with pytest.raises(TimeoutError):  # pings are answered by who receives
                    async with asyncio.timeout(25):
                        await socket.receive()
            await socket.close()
            return answers, socket.closed

    check(main, (["ONE", "TWO", "THREE"], True))


def test_file_response(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("static") / "page.txt"
    path.write_text("a real file\n" * 1000)

    async def send_file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    async def main() -> int:
        app = web.Application()
        app.router.add_get("/page", send_file)
        async with TestClient(TestServer(app)) as client:
            return len(await (await client.get("/page")).read())

    check(main, 12_000)


def test_two_hosts() -> None:
    async def main() -> list[str]:
        async def serve() -> None:
            async with served("0.0.0.0", 80):
                await asyncio.Event().wait()

        server = asyncio.create_task(simloop.current().host("server").run(serve))
        await asyncio.sleep(1)
        async with aiohttp.ClientSession() as session:
            answers = [await (await session.get(f"http://server/hello/{name}")).text() for name in "xyz"]
        server.cancel()
        await asyncio.wait([server])
        return answers

    check(main, ["hello x", "hello y", "hello z"])
