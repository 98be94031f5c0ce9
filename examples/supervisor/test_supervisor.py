"""Every program is there again soon after it has crashed, once, and none is left when the supervisor has ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import pytest
from faulty import LosesAnExit, RestartsTwice
from supervisor import GRACE, Supervisor

import simloop

PROCFILE = {"web": ["web", "--port=8000"], "worker": ["worker"]}


async def keeps_them_running(sim: simloop.Sim, kind: type[Supervisor]) -> None:
    starts: Counter[str] = Counter()
    lines: list[str] = []

    @sim.program("web")
    async def web(proc: simloop.SimProcess) -> int:
        """Serves until it crashes, which it does twice, about a second after it has begun."""
        starts["web"] += 1
        crashes = starts["web"] <= 2

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello\n")
            writer.close()

        try:
            server = await asyncio.start_server(serve, "127.0.0.1", 8000)
        except OSError as error:
            proc.stderr.write(f"{error.strerror}\n".encode())
            return 1
        proc.stdout.write(b"listening\n")
        async with server:
            await asyncio.sleep(0.99 if crashes else 3600)
        return 1

    @sim.program("worker")
    async def worker(proc: simloop.SimProcess) -> int:
        """Finds its queue only at the second try. It does not end before its job is done."""
        starts["worker"] += 1
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if starts["worker"] == 1:
            await asyncio.sleep(0.005)
            return 1
        await asyncio.sleep(3600)
        return 0

    supervising = asyncio.create_task(kind(PROCFILE, "/run/app", lines.append).run(), name="supervisor")
    await asyncio.sleep(10)
    assert starts == {"web": 3, "worker": 2}, f"started {dict(starts)}"
    assert lines.count("web    | listening") == 3
    reader, writer = await asyncio.open_connection("127.0.0.1", 8000)
    assert await reader.read() == b"hello\n"
    writer.close()
    os.kill(os.getpid(), signal.SIGTERM)
    await supervising
    # web ends when it is asked to; worker has to be killed.
    assert GRACE < sim.elapsed - 10 < GRACE + 1
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


async def test_the_supervisor(sim: simloop.Sim) -> None:
    await keeps_them_running(sim, Supervisor)


@pytest.mark.parametrize("mistake", [LosesAnExit, RestartsTwice])
async def test_a_mistake(sim: simloop.Sim, mistake: type[Supervisor]) -> None:
    await keeps_them_running(sim, mistake)
