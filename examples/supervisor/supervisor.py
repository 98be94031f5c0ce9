"""Keeps the programs of a Procfile running: what ends is started anew, until the supervisor itself is told to stop.

What they print is forwarded line by line, under their names. A program that keeps crashing is started less and less
often. SIGTERM ends them all: each is asked to, has some time, and is killed if that was not enough.
SIGHUP restarts them.

Two things about processes are easy to get wrong here; `faulty.py` has a version with each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
# Who has run for so long was not crashing all the time.
STEADY = 10.0
GRACE = 5.0


class Supervisor:
    """Runs `commands`, by name. `write` gets the lines that they print; `directory` is for files with their pids."""

    def __init__(
        self, commands: Mapping[str, Sequence[str]], directory: str, write: Callable[[str], None] = print
    ) -> None:
        self._commands = commands
        self._directory = directory
        self._write = write
        self._width = max(map(len, commands), default=0)
        self._running: dict[str, Process] = {}

    async def run(self) -> None:
        """Returns when all have ended, some time after SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        self._told_to_stop: asyncio.Future[None] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._restart)
        os.makedirs(self._directory, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as self._group:
                for name in self._commands:
                    self._group.create_task(self._keep(name), name=f"keep {name}")
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        if not self._told_to_stop.done():
            self._told_to_stop.set_result(None)

    def _restart(self) -> None:
        """End them: who keeps them running starts them anew."""
        for process in self._running.values():
            terminate(process)

    # --- one program ----------------------------------------------------------------------------------

    async def _keep(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY
        while not self._told_to_stop.done():
            began = loop.time()
            code = await self._run(name)
            self._say(name, f"ended with {code}")
            if loop.time() - began >= STEADY:
                delay = FIRST_DELAY
            await asyncio.wait([self._told_to_stop], timeout=delay)
            delay = min(2 * delay, LONGEST_DELAY)

    async def _run(self, name: str) -> int:
        """Start it, and see it through to its end. Returns its exit code."""
        process = await self._start(name)
        await self._note_pid(name, process)
        ended = asyncio.create_task(process.wait(), name=f"wait for {name}")
        await asyncio.wait([ended, self._told_to_stop], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await self._end(process)
        return await ended

    async def _start(self, name: str) -> Process:
        process = await asyncio.create_subprocess_exec(*self._commands[name], stdout=PIPE, stderr=STDOUT)
        self._running[name] = process
        self._group.create_task(self._forward(name, process), name=f"forward {name}")
        return process

    async def _end(self, process: Process) -> None:
        terminate(process)
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    # --- what others see of it ------------------------------------------------------------------------

    async def _forward(self, name: str, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._say(name, line.decode(errors="replace").rstrip("\n"))

    async def _note_pid(self, name: str, process: Process) -> None:
        """In a file, for those who want to send it a signal."""
        await asyncio.to_thread(write_file, os.path.join(self._directory, f"{name}.pid"), f"{process.pid}\n")

    def _say(self, name: str, line: str) -> None:
        self._write(f"{name:{self._width}} | {line}")


def terminate(process: Process) -> None:
    """Ask it to end, if it has not ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


def write_file(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
