"""Programs for the tests that start some."""

from __future__ import annotations

import asyncio
from typing import Any

import simloop

PIPE = asyncio.subprocess.PIPE


async def call(*args: Any, **options: Any) -> tuple[int | None, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(*args, stdout=PIPE, stderr=PIPE, **options)
    out, err = await process.communicate()
    return process.returncode, out, err


async def shell(command: str, **options: Any) -> tuple[int | None, bytes, bytes]:
    process = await asyncio.create_subprocess_shell(command, stdout=PIPE, stderr=PIPE, **options)
    out, err = await process.communicate()
    return process.returncode, out, err


def register_tools() -> None:
    """`say` prints its arguments, `cat` its input, `give N` ends with N, and `hang` sleeps."""
    sim = simloop.current()

    @sim.program("say")
    async def say(proc: simloop.SimProcess) -> None:
        proc.stdout.write(" ".join(proc.argv[1:]).encode() + b"\n")

    @sim.program("cat")
    async def cat(proc: simloop.SimProcess) -> None:
        proc.stdout.write(await proc.stdin.read())

    @sim.program("give")
    async def give(proc: simloop.SimProcess) -> int:
        return int(proc.argv[1])

    @sim.program("hang")
    async def hang(proc: simloop.SimProcess) -> None:
        await asyncio.sleep(1000)

    @sim.program("setting")
    async def setting(proc: simloop.SimProcess) -> None:
        proc.stdout.write(proc.env.get(proc.argv[1], "?").encode())
