"""Servers and clients of a protocol of lines: one answer to each request, in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

Answer = Callable[[str], Awaitable[str]]


class Client:
    """Client of one connection. Requests of several tasks must not overlap."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: str) -> str:
        """Send a request and return the answer; empty if the server has closed."""
        self.writer.write(f"{request}\n".encode())
        try:
            return (await self.reader.readline()).decode().rstrip("\n")
        except ConnectionError:
            return ""

    def close(self) -> None:
        self.writer.close()


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    client = await connect(port)
    try:
        yield client
    finally:
        client.close()


async def ask(port: int, *requests: str) -> str:
    """Make the requests on a connection of their own, and return the last answer."""
    answer = ""
    async with connected(port) as client:
        for request in requests:
            answer = await client.ask(request)
    return answer


@contextlib.asynccontextmanager
async def serving(port: int, answer: Answer) -> AsyncIterator[None]:
    """Serve each connection, one request after another. What `answer` raises is raised in the end."""
    failures: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(f"{await answer(line.decode().strip())}\n".encode())
        except ConnectionError:
            pass
        except Exception as error:
            failures.append(error)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
    if failures:
        raise failures[0]


async def echo(request: str) -> str:
    return request
