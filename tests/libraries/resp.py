"""A small Redis: what redis-py's client needs of the protocol RESP 2, over asyncio streams."""

from __future__ import annotations

import asyncio
from typing import Any


class Redis:
    """Strings in a dict, for any number of clients."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.connections = 0

    async def start(self, host: str = "127.0.0.1", port: int = 6379, **options: Any) -> asyncio.Server:
        return await asyncio.start_server(self.serve, host, port, **options)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                command = await _read_command(reader)
                writer.write(self._answer(command))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, command: list[bytes]) -> bytes:
        match [command[0].upper(), *command[1:]]:
            case [b"PING"]:
                return b"+PONG\r\n"
            case [b"SET", key, value]:
                self.values[key] = value
                return b"+OK\r\n"
            case [b"GET", key]:
                return _bulk(self.values.get(key))
            case [b"INCRBY", key, amount]:
                self.values[key] = b"%d" % (int(self.values.get(key, b"0")) + int(amount))
                return b":%s\r\n" % self.values[key]
            case [b"SELECT" | b"CLIENT", *_]:
                return b"+OK\r\n"
            case _:
                return b"-ERR unknown command\r\n"


async def _read_command(reader: asyncio.StreamReader) -> list[bytes]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


def _bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
