"""A small Redis: enough of RESP for GET, SET and what a client says on connecting."""

from __future__ import annotations

import asyncio


async def read_command(reader: asyncio.StreamReader) -> list[bytes] | None:
    """One command, as the array of bulk strings in which clients send it; None at the end."""
    header = await reader.readline()
    if not header.startswith(b"*"):
        return None
    words = []
    for _ in range(int(header[1:])):
        size = int((await reader.readline())[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


class RespServer:
    """Serves the keys of one dictionary."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        self.values = values

    async def start(self, host: str, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._serve, host, port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (command := await read_command(reader)) is not None:
                writer.write(self._answer(command))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, command: list[bytes]) -> bytes:
        name, *arguments = command
        if name.upper() == b"GET":
            value = self.values.get(arguments[0])
            return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
        if name.upper() == b"SET":
            self.values[arguments[0]] = arguments[1]
        return b"+OK\r\n"
