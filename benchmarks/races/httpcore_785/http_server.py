"""A small HTTP server: answers each request with its path, and keeps connections open."""

from __future__ import annotations

import asyncio


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def start_server(host: str, port: int) -> asyncio.Server:
    return await asyncio.start_server(_serve, host, port)
