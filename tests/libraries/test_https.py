"""TLS as unmodified libraries speak it: clients that trust the defaults, servers that show a certificate."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import check, digests_elsewhere

import simloop

Main = Callable[[], Coroutine[Any, Any, Any]]
_SEEDS = range(10)


async def aiohttp_requests() -> list[str]:
    import aiohttp
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.scheme} {await request.text()}")

    app = web.Application()
    app.add_routes([web.post("/", hello)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 443, ssl_context=simloop.current().tls.server_context("localhost")).start()
    async with aiohttp.ClientSession() as session:

        async def post(text: str) -> str:
            async with session.post("https://localhost/", data=text) as response:
                return await response.text()

        answers = await asyncio.gather(*(post(name) for name in "abc"))
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.post("https://127.0.0.1/")
        async with session.post("https://127.0.0.1/", data="d", ssl=False) as response:
            answers.append(await response.text())
    await runner.cleanup()
    return answers


@asynccontextmanager
async def served_by_uvicorn(**options: Any) -> AsyncIterator[None]:
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{scope['scheme']} {scope['path']}".encode()})

    config = uvicorn.Config(app, port=443, log_config=None, ws="none", lifespan="off", **options)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.1)
    try:
        yield
    finally:
        server.should_exit = True
        await serving


async def httpx_requests() -> list[str]:
    """The server has its certificate from files that the run has written, and the client trusts what certifi trusts."""
    import httpx

    certificate = simloop.current().tls.certificate("localhost")
    Path("cert.pem").write_bytes(certificate.cert_pem)
    Path("key.pem").write_bytes(certificate.key_pem)
    async with (
        served_by_uvicorn(ssl_certfile="cert.pem", ssl_keyfile="key.pem"),
        httpx.AsyncClient(base_url="https://localhost") as client,
    ):
        answers = await asyncio.gather(*(client.get(f"/{number}") for number in range(3)))
        with pytest.raises(httpx.ConnectError, match="mismatch"):
            await client.get("https://127.0.0.1/")
    return [answer.text for answer in answers]


async def requests_in_threads() -> list[Any]:
    """Synchronous clients: requests, which trusts what certifi trusts, and urllib."""
    import requests

    def ask() -> list[Any]:
        with urllib.request.urlopen("https://localhost/urllib", timeout=5) as response:
            plain = response.read().decode()
        with requests.Session() as session:
            return [plain, *(session.get(f"https://localhost/{number}", timeout=5).text for number in range(2))]

    Path("both.pem").write_bytes(simloop.current().tls.certificate("localhost").pem)
    async with served_by_uvicorn(ssl_certfile="both.pem"):
        return await asyncio.to_thread(ask)


async def websockets_echoes() -> list[Any]:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    context = simloop.current().tls.server_context("localhost")
    async with serve(echo, "localhost", 8765, ssl=context), connect("wss://localhost:8765") as client:
        answers = []
        for message in ("text", b"bytes", "x" * 100_000):
            await client.send(message)
            answers.append(await client.recv())
    return [answer[:5] for answer in answers]


async def redis_commands() -> list[Any]:
    import redis.asyncio as redis
    from resp import Redis

    tls = simloop.current().tls
    Path("ca.pem").write_bytes(tls.ca_pem)
    server = await Redis().start(ssl=tls.server_context("localhost"))
    client = redis.Redis.from_url("rediss://localhost:6379", ssl_ca_certs="ca.pem", ssl_check_hostname=True)
    answers = [await client.set("key", "value"), await client.get("key")]
    await client.close(close_connection_pool=True)
    server.close()
    return answers


async def mail() -> list[Any]:
    """A server of aiosmtpd, and a client of the standard library in a thread."""
    from aiosmtpd.smtp import SMTP, Envelope

    received: list[Any] = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
            received.append((session.ssl is not None, envelope.rcpt_tos, envelope.content))
            return "250 OK"

    def send() -> int:
        with smtplib.SMTP("localhost", 25) as client:
            try:
                client.sendmail("a@localhost", ["b@localhost"], "plain")
            except smtplib.SMTPSenderRefused as error:
                refused = error.smtp_code
            client.starttls(context=ssl.create_default_context())
            client.sendmail("a@localhost", ["b@localhost"], "secret")
            return refused

    context = simloop.current().tls.server_context("localhost")
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Handler(), hostname="localhost", tls_context=context, require_starttls=True), "localhost", 25
    )
    async with server:
        return [await asyncio.to_thread(send), received]


async def http2_requests() -> list[Any]:
    """HTTP/2, which client and server agree upon by ALPN."""
    import httpx
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": f"{scope['http_version']} {scope['path']}".encode()})

    certificate = simloop.current().tls.certificate("localhost")
    Path("cert.pem").write_bytes(certificate.cert_pem)
    Path("key.pem").write_bytes(certificate.key_pem)
    config = Config()
    config.bind, config.certfile, config.keyfile, config.errorlog = ["localhost:443"], "cert.pem", "key.pem", None
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    await asyncio.sleep(1)
    async with httpx.AsyncClient(http2=True, base_url="https://localhost") as client:
        answers = await asyncio.gather(*(client.get(f"/{number}") for number in range(3)))
    stop.set()
    await serving
    return [(answer.http_version, answer.text) for answer in answers]


async def grpc_calls() -> list[Any]:
    """grpclib, with messages that are bytes."""
    from grpclib.client import Channel, UnaryUnaryMethod
    from grpclib.const import Cardinality, Handler
    from grpclib.encoding.base import CodecBase
    from grpclib.server import Server

    class Codec(CodecBase):
        __content_subtype__ = "raw"

        def encode(self, message: Any, message_type: Any) -> bytes:
            return bytes(message)

        def decode(self, data: bytes, message_type: Any) -> Any:
            return data

    class Shout:
        async def call(self, stream: Any) -> None:
            await stream.send_message((await stream.recv_message()).upper())

        def __mapping__(self) -> dict[str, Handler]:
            return {"/shout.Shout/Call": Handler(self.call, Cardinality.UNARY_UNARY, bytes, bytes)}

    context = simloop.current().tls.server_context("localhost")
    context.set_alpn_protocols(["h2"])
    server = Server([Shout()], codec=Codec())
    await server.start("localhost", 50051, ssl=context)
    client = ssl.create_default_context()
    client.set_alpn_protocols(["h2"])
    async with Channel("localhost", 50051, ssl=client, codec=Codec()) as channel:
        method: Any = UnaryUnaryMethod(channel, "/shout.Shout/Call", bytes, bytes)
        answers = await asyncio.gather(*(method(word) for word in (b"one", b"two")))
    server.close()
    await server.wait_closed()
    return answers


PROGRAMS: list[tuple[str, Main, Any]] = [
    ("aiohttp", aiohttp_requests, ["https a", "https b", "https c", "https d"]),
    ("uvicorn httpx", httpx_requests, ["https /0", "https /1", "https /2"]),
    ("uvicorn requests", requests_in_threads, ["https /urllib", "https /0", "https /1"]),
    ("websockets", websockets_echoes, ["text", b"bytes", "xxxxx"]),
    ("redis", redis_commands, [True, b"value"]),
    ("aiosmtpd", mail, [530, [(True, ["b@localhost"], b"secret\r\n")]]),
    ("hypercorn httpx h2", http2_requests, [("HTTP/2", f"2 /{number}") for number in range(3)]),
    ("grpclib", grpc_calls, [b"ONE", b"TWO"]),
]


@pytest.mark.parametrize(("libraries", "main", "expected"), PROGRAMS, ids=[main.__name__ for _, main, _ in PROGRAMS])
def test_over_tls(libraries: str, main: Main, expected: Any) -> None:
    for library in libraries.split():
        pytest.importorskip(library)
    check(main, expected, _SEEDS)


@pytest.mark.parametrize(("libraries", "main"), [entry[:2] for entry in PROGRAMS[:5]])
def test_other_process_same_digests(libraries: str, main: Main) -> None:
    for library in libraries.split():
        pytest.importorskip(library)
    first, second = (digests_elsewhere("test_https", main.__name__, hash_seed, range(4)) for hash_seed in (1, 2))
    assert len(first) == 4
    assert first == second
