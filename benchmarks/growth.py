"""How the cost of one run grows with the size of what happens in it.

    python benchmarks/growth.py [name ...]

For each kind of program: its size N, doubled several times, the processor time of a run, and the exponent of the last
doubling, log2(time of N / time of N/2): 1 is linear. Each time is the least of five runs, and sizes take turns, since
others use the machine too. Exits with status 1 if an exponent is beyond 1.15.
"""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import simloop

WANTED = 1.15
REPEATED = 7
MEASURED = 3.0
# Held in a list: simloop changes references that modules hold by name to its own clocks.
CLOCK: list[Callable[[], float]] = [time.process_time]

Main = Callable[[int], Coroutine[Any, Any, Any]]


async def tasks(n: int) -> None:
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(n)))


async def staggered_sleeps(n: int) -> None:
    await asyncio.gather(*(asyncio.sleep(number / 1000) for number in range(n)))


async def timers_of_one_deadline(n: int) -> None:
    loop = asyncio.get_running_loop()
    when, fired = loop.time() + 1, []
    for number in range(n):
        loop.call_at(when, fired.append, number)
    await asyncio.sleep(2)
    assert len(fired) == n


async def timers_that_are_cancelled(n: int) -> None:
    async def waits() -> None:
        async with asyncio.timeout(60):
            await asyncio.sleep(0.001)

    for _ in range(n):
        await waits()


async def jobs(n: int) -> None:
    await asyncio.gather(*(asyncio.to_thread(int) for _ in range(n)))


async def connections(n: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("localhost", 80)
        writer.write(b"x\n")
        assert await reader.read() == b"x\n"
        writer.close()

    async with await asyncio.start_server(serve, "localhost", 80, backlog=n):
        await asyncio.gather(*(ask() for _ in range(n)))


async def one_write_of_megabytes(n: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            pass
        writer.close()

    async with await asyncio.start_server(serve, "localhost", 80):
        reader, writer = await asyncio.open_connection("localhost", 80)
        writer.write(bytes(n * 1_000_000))
        writer.write_eof()
        await reader.read()
        writer.close()


async def hosts(n: int) -> None:
    sim = simloop.current()

    async def serve() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        async with await asyncio.start_server(answer, "0.0.0.0", 80):
            await asyncio.sleep(10)

    async def ask(name: str) -> None:
        reader, writer = await asyncio.open_connection(name, 80)
        writer.write(b"x\n")
        assert await reader.read() == b"x\n"
        writer.close()

    names = [f"host{number}" for number in range(n)]
    serving = [asyncio.create_task(sim.host(name).run(serve)) for name in names]
    await asyncio.sleep(1)
    await asyncio.gather(*map(ask, names))
    await asyncio.gather(*serving)


async def concurrent_programs(n: int) -> None:
    @simloop.current().program("worker")
    async def worker(proc: simloop.SimProcess) -> None:
        await asyncio.sleep(1)

    async def start() -> None:
        process = await asyncio.create_subprocess_exec("worker")
        assert await process.wait() == 0

    await asyncio.gather(*(start() for _ in range(n)))


async def programs_one_after_another(n: int) -> None:
    simloop.current().program("/bin/true")
    for _ in range(n):
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()


async def files(n: int) -> None:
    def write(folder: Path) -> None:
        for number in range(n):
            (folder / str(number)).write_text("x")
        assert len(list(folder.iterdir())) == n

    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(write, Path(folder))


async def file_of_megabytes(n: int) -> None:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            for _ in range(n * 16):
                file.write(bytes(65_536))
        assert len(path.read_bytes()) == n * 16 * 65_536

    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(write, Path(folder) / "large")


#: Programs with the largest of their sizes.
PROGRAMS: dict[Main, int] = {
    tasks: 32_000,
    staggered_sleeps: 16_000,
    timers_of_one_deadline: 32_000,
    timers_that_are_cancelled: 8_000,
    jobs: 1_000,
    connections: 2_000,
    one_write_of_megabytes: 64,
    hosts: 400,
    concurrent_programs: 800,
    programs_one_after_another: 1_600,
    files: 4_000,
    file_of_megabytes: 128,
}


def seconds(main: Main, n: int) -> float:
    """Return the processor time of one run."""
    gc.collect()
    began = CLOCK[0]()
    simloop.run(lambda: main(n), blocking="ignore")
    return CLOCK[0]() - began


def main() -> int:
    wanted = sys.argv[1:]
    beyond = 0
    print(f"{'':30}{'N':>8}{'seconds':>10}{'us each':>10}{'exponent':>10}   wanted at most {WANTED}")
    for program, largest in PROGRAMS.items():
        name = program.__name__.replace("_", " ")
        if wanted and program.__name__ not in wanted:
            continue
        sizes = (largest // 4, largest // 2, largest)
        rounds: list[list[float]] = []
        while len(rounds) < REPEATED or sum(took for *_, took in rounds) < MEASURED:
            rounds.append([seconds(program, n) for n in sizes])
        before = None
        for n, took in zip(sizes, zip(*rounds, strict=True), strict=True):
            exponent = None
            if before is not None:
                exponent = statistics.median(
                    math.log2(later / earlier) for later, earlier in zip(took, before, strict=True)
                )
            shown = "" if exponent is None else f"{exponent:.2f}"
            print(f"{name:30}{n:8}{min(took):10.3f}{min(took) / n * 1e6:10.1f}{shown:>10}", flush=True)
            before, name = took, ""
        assert exponent is not None
        beyond += exponent > WANTED
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
