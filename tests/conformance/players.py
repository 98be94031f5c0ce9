"""The programs that CPython's own tests start: this Python with a few lines of code, and ``sleep``.

The lines are really run, in a thread of the child's process, with that process's files in `sys` and `os`. A Python with
other options, or whose lines need more than those two and `time`, is not played: it would need an interpreter of its
own.
"""

from __future__ import annotations

import asyncio
import builtins
import io
import os
import sys
import time
import traceback
from collections.abc import Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import simloop
from simloop.world import active

STREAMS = ("stdin", "stdout", "stderr")
# Of `os`: what belongs to a simulated process.
CALLS = ("PRIO_PROCESS", "close", "getcwd", "getpid", "getppid", "getpriority", "getsid", "setpriority", "urandom")
# What `test.support.script_helper` passes on, and what means nothing to a few lines.
HARMLESS = ("-E", "-X faulthandler -I", "-X faulthandler -E", "-X faulthandler")


def register(sim: simloop.simulation.run.Sim) -> None:
    for python in dict.fromkeys((sys.executable, sys._base_executable)):  # type: ignore[attr-defined]
        for options in ("", *HARMLESS):
            sim.program(python, *options.split(), "-c")(run_code)
        sim.program(python, "*/echo*.py")(run_file)
    sim.program("sleep")(sleep)


async def sleep(proc: simloop.SimProcess) -> None:
    await asyncio.sleep(float(proc.argv[1]))


async def run_code(proc: simloop.SimProcess) -> int:
    code = proc.argv.index("-c") + 1
    return await asyncio.to_thread(Child(proc, ["-c", *proc.argv[code + 1 :]]).run, proc.argv[code])


async def run_file(proc: simloop.SimProcess) -> int:
    return await asyncio.to_thread(Child(proc, proc.argv[1:]).run, Path(proc.argv[1]).read_text())


class Raw(io.RawIOBase):
    """A standard stream of a child."""

    def __init__(self, child: Child, fd: int) -> None:
        super().__init__()
        self._child = child
        self._fd = fd

    def readable(self) -> bool:
        return self._fd == 0

    def writable(self) -> bool:
        return self._fd != 0

    def fileno(self) -> int:
        return self._fd

    def readinto(self, buffer: Any) -> int:
        data = self._child.read(self._fd, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        return self._child.write(self._fd, bytes(data))


class Child:
    """A Python that runs some lines, in a thread of its process."""

    def __init__(self, proc: simloop.SimProcess, argv: list[str]) -> None:
        self._proc = proc
        self._loop = asyncio.get_running_loop()
        self.sys, self.os = made("sys"), made("os", CALLS)
        files = [io.BufferedReader(Raw(self, 0)), *(io.BufferedWriter(Raw(self, fd)) for fd in (1, 2))]
        for name, file in zip(STREAMS, files, strict=True):
            setattr(self.sys, name, io.TextIOWrapper(file, "utf-8"))
        self.sys.argv, self.sys.exit = argv, sys.exit  # type: ignore[attr-defined]
        self.os.environ = proc.env  # type: ignore[attr-defined]
        self.os.getenv = proc.env.get  # type: ignore[attr-defined]
        self.os.read, self.os.write = self.read, self.write  # type: ignore[attr-defined]
        self._modules = {"sys": self.sys, "os": self.os, "time": time}

    def run(self, code: str) -> int:
        """Its exit code."""
        names = {
            **vars(builtins),
            "__import__": self.import_,
            "open": self.open,
            "print": lambda *values, **options: print(*values, **{"file": self.sys.stdout, **options}),
        }
        status = 0
        try:
            exec(code, {"__name__": "__main__", "__builtins__": names})
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 0
        except Exception:
            traceback.print_exc(file=self.sys.stderr)
            status = 1
        self.sys.stdout.flush()
        self.sys.stderr.flush()
        return status

    def import_(self, name: str, *rest: Any) -> ModuleType:
        if name not in self._modules:
            raise active.escape(f"a Python that uses {name}", "nobody plays it")
        return self._modules[name]

    def open(self, path: str) -> Any:
        assert path == "/dev/stdin", path
        return self.sys.stdin

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, size) if fd else self._wait(self._read(size))

    def write(self, fd: int, data: bytes) -> int:
        if fd not in (1, 2):
            return os.write(fd, data)
        return self._wait(self._write(self._proc.stdout if fd == 1 else self._proc.stderr, data))

    async def _read(self, size: int) -> bytes:
        return await self._proc.stdin.read(size)

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, data: bytes) -> int:
        writer.write(data)
        try:
            await writer.drain()
        except ConnectionResetError:
            raise BrokenPipeError from None  # what write(2) says of a pipe that nobody reads
        return len(data)

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def made(name: str, taken: tuple[str, ...] = ()) -> ModuleType:
    """A module of a child, with some of what the real `os` has."""

    def refuse(attribute: str) -> None:
        raise active.escape(f"a Python that uses {name}.{attribute}", "nobody plays it")

    module = ModuleType(name)
    vars(module).update({attribute: getattr(os, attribute) for attribute in taken}, __getattr__=refuse)
    return module
