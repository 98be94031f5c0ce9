"""A lock service with leases, and workers that take turns by it.

Whoever holds the lease may write. A lease lasts `TTL` seconds and may be renewed; each one has a number that is higher
than all before (a fencing token), and the service refuses to write for any but the newest holder.
"""

from __future__ import annotations

import asyncio
import time

TTL = 10.0
PORT = 7000
PATIENCE = 2.0


class Locks:
    """The service: it grants one lease at a time, and keeps what holders write."""

    def __init__(self) -> None:
        self.token = 0
        self.until = 0.0
        #: The tokens with which something was written, in that order.
        self.written: list[int] = []

    def now(self) -> float:
        return time.monotonic()

    def acquire(self) -> str:
        if self.now() < self.until:
            return "busy"
        self.token += 1
        self.until = self.now() + TTL
        return str(self.token)

    def renew(self, token: int) -> str:
        if token != self.token or self.now() >= self.until:
            return "gone"
        self.until = self.now() + TTL
        return "renewed"

    def release(self, token: int) -> str:
        if token == self.token:
            self.until = self.now()
        return "released"

    def write(self, token: int) -> str:
        if token != self.token:
            return "stale"
        self.written.append(token)
        return "written"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            command, *tokens = (await reader.readline()).decode().split() or ["nothing"]
            calls = {"acquire": self.acquire, "renew": self.renew, "release": self.release, "write": self.write}
            if command in calls:
                writer.write(calls[command](*map(int, tokens)).encode() + b"\n")
        except OSError:
            pass  # the client asks again
        finally:
            writer.close()

    async def serve(self) -> None:
        async with await asyncio.start_server(self.answer, "0.0.0.0", PORT) as server:
            await server.serve_forever()


class Worker:
    """A client that does its jobs while it holds the lease."""

    def __init__(self, name: str, jobs: int) -> None:
        self.name = name
        self.jobs = jobs
        self.token = 0
        self.until = 0.0

    def holds(self) -> bool:
        """Whether the lease is ours for sure: counted from before we asked for it, by a clock that nobody sets."""
        return time.monotonic() < self.until

    async def ask(self, *words: object) -> str:
        """Returns the service's answer; an empty one where there is none."""
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("locks", PORT)
                try:
                    writer.write(" ".join(map(str, words)).encode() + b"\n")
                    return (await reader.readline()).decode().strip()
                finally:
                    writer.close()
        except OSError:
            return ""

    async def acquire(self) -> bool:
        asked = time.monotonic()
        answer = await self.ask("acquire")
        if not answer.isdigit():
            return False
        self.token, self.until = int(answer), asked + TTL
        return True

    async def renew(self) -> None:
        asked = time.monotonic()
        if await self.ask("renew", self.token) == "renewed":
            self.until = asked + TTL

    async def do_jobs(self) -> None:
        while self.jobs and self.holds():
            if await self.ask("write", self.token) == "written":
                self.jobs -= 1
            await asyncio.sleep(1)
            await self.renew()

    async def work(self) -> None:
        while self.jobs:
            if await self.acquire():
                await self.do_jobs()
                self.until = 0
                await self.ask("release", self.token)
            await asyncio.sleep(1)
