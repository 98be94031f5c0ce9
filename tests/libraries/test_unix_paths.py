"""Libraries that speak over unix sockets: aiohttp, httpx, uvicorn, websockets, redis."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install pytest-simloop[libraries]")
pytest.importorskip("httpx", reason="httpx is not installed: pip install pytest-simloop[libraries]")
pytest.importorskip("redis", reason="redis is not installed: pip install pytest-simloop[libraries]")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install pytest-simloop[libraries]")
pytest.importorskip("websockets", reason="websockets is not installed: pip install pytest-simloop[libraries]")

import aiohttp
import httpx
import redis.asyncio
import uvicorn
from aiohttp import web
from harness import check
from resp import Redis
from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import ServerConnection, unix_serve

PATH = "/tmp/library.sock"
SEEDS = range(15)
# For whose certificates OpenSSL takes 50 ms: only once.
TLS = httpx.create_ssl_context()


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@asynccontextmanager
async def uvicorn_server(**options: Any) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none", **options))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield
    server.should_exit = True
    await serving


async def get(path: str) -> str:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=PATH, verify=TLS)) as client:
        return (await client.get(f"http://host{path}")).text


def test_httpx_and_uvicorn_at_a_path_and_by_descriptor() -> None:
    async def main() -> list[Any]:
        async with uvicorn_server(uds=PATH):
            found: list[Any] = [await get("/path"), os.stat(PATH).st_mode & 0o777]
        # Since 3.13 asyncio removes it (cleanup_socket).
        found.append(os.path.exists(PATH) == (sys.version_info < (3, 13)))
        Path(PATH).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(PATH)
            async with uvicorn_server(fd=sock.fileno()):
                found += await asyncio.gather(get("/one"), get("/two"))
        return found

    check(main, ["/path", 0o666, True, "/one", "/two"], SEEDS)


def test_aiohttp() -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=await request.text())

    async def main() -> list[str]:
        application = web.Application()
        application.router.add_post("/", hello)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.UnixSite(runner, PATH).start()
        found = []
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(PATH)) as session:
            for text in ("first", "x" * 300_000):
                async with session.post("http://host/", data=text) as response:
                    found.append(str(len(await response.text())))
        await runner.cleanup()
        return found

    check(main, ["5", "300000"], SEEDS)


def test_websockets() -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> list[Any]:
        async with unix_serve(echo, PATH), unix_connect(PATH) as connection:
            found = []
            for text in ("hello", "x" * 100_000):
                await connection.send(text)
                found.append(len(await connection.recv()))
            return found

    check(main, [5, 100_000], SEEDS)


def test_redis() -> None:
    async def main() -> list[Any]:
        store = Redis()
        server = await asyncio.start_unix_server(store.serve, PATH)
        client = redis.asyncio.Redis(unix_socket_path=PATH, decode_responses=True)
        await client.set("key", "value")
        found = [await client.get("key"), await client.incr("number")]
        await client.aclose() if hasattr(client, "aclose") else await client.close()
        server.close()
        return found

    check(main, ["value", 1], SEEDS)
