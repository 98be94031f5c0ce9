"""httpx as client of uvicorn."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("httpx", reason="httpx is not installed: pip install pytest-simloop[libraries]")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install pytest-simloop[libraries]")

import httpx
import uvicorn
from harness import check

import simloop

URL = "http://127.0.0.1:8000"
# What a client makes by default, for whose certificates OpenSSL takes 50 ms: only the first test has one each.
TLS = httpx.create_ssl_context()


class App:
    """An ASGI application that notes what happens to it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                self.events.append(phase)
                await asyncio.sleep(0.5)
                await send({"type": f"lifespan.{phase}.complete"})
            return
        assert scope["type"] == "http"
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/slow":
            await asyncio.sleep(10)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["path"].encode())]})
        if scope["path"] == "/stream":
            for number in range(4):
                await send({"type": "http.response.body", "body": b"%d," % number, "more_body": True})
                await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": body or scope["path"].encode()})
        self.events.append(scope["path"])


@asynccontextmanager
async def served(app: App, host: str = "127.0.0.1", port: int = 8000) -> AsyncIterator[uvicorn.Server]:
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_config=None, ws="none", lifespan="on"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.1)
    try:
        yield server
    finally:
        server.should_exit = True
        await serving


async def requests() -> list[str]:
    app = App()
    async with served(app):
        async with httpx.AsyncClient(base_url=URL) as client:
            answers = await asyncio.gather(*(client.get(f"/{number}") for number in range(6)))
            posted = await client.post("/", content=b"z" * 200_000)
            streamed = await client.get("/stream")
        assert all(answer.headers["x-path"] == f"/{number}" for number, answer in enumerate(answers))
        assert posted.content == b"z" * 200_000
    return [*(answer.text for answer in answers), streamed.text, app.events[0], app.events[-1]]


def test_requests_and_lifespan() -> None:
    expected = [f"/{number}" for number in range(6)]
    check(requests, [*expected, "0,1,2,3,/stream", "startup", "shutdown"])


def test_graceful_shutdown_waits_for_the_request() -> None:
    async def main() -> tuple[str, list[str], int]:
        app = App()
        async with httpx.AsyncClient(verify=TLS, base_url=URL, timeout=60) as client:
            async with served(app):
                request = asyncio.create_task(client.get("/slow"))
                await asyncio.sleep(1)
                began = asyncio.get_running_loop().time()
            took = asyncio.get_running_loop().time() - began
            return (await request).text, app.events, round(took)

    # 9 s that are left of the request, and 0.5 s of the lifespan
    check(main, ("/slow", ["startup", "/slow", "shutdown"], 10))


def test_read_timeout() -> None:
    async def main() -> tuple[str, int]:
        async with served(App()), httpx.AsyncClient(verify=TLS, base_url=URL, timeout=3) as client:
            began = asyncio.get_running_loop().time()
            try:
                await client.get("/slow")
            except httpx.ReadTimeout as error:
                return type(error).__name__, round(asyncio.get_running_loop().time() - began)
        return "answered", 0

    check(main, ("ReadTimeout", 3))


def test_refused() -> None:
    async def main() -> str:
        async with httpx.AsyncClient(verify=TLS) as client:
            try:
                await client.get("http://127.0.0.1:9/")
            except httpx.ConnectError as error:
                return type(error).__name__
        return "connected"

    check(main, "ConnectError")


def test_a_signal_ends_the_server() -> None:
    """uvicorn sets handlers of its own, and sends itself the signal again once it has shut down."""

    async def main() -> tuple[str, list[str]]:
        app = App()
        again: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: again.append(number))
        server = uvicorn.Server(uvicorn.Config(app, port=8000, log_config=None, ws="none", lifespan="on"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.1)
        async with httpx.AsyncClient(verify=TLS, base_url=URL) as client:
            text = (await client.get("/x")).text
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
        assert again == [signal.SIGTERM]
        return text, app.events

    check(main, ("/x", ["startup", "/x", "shutdown"]))


def test_two_hosts() -> None:
    async def main() -> list[str]:
        async def serve() -> None:
            async with served(App(), "0.0.0.0", 80):
                await asyncio.sleep(60)

        server = asyncio.create_task(simloop.current().host("server").run(serve))
        await asyncio.sleep(5)
        async with httpx.AsyncClient(verify=TLS) as client:
            answers = [(await client.get(f"http://server/{name}")).text for name in "ab"]
        await server
        return answers

    check(main, ["/a", "/b"])
