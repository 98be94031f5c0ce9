"""How fast runs are, as ratios to stock asyncio in the same process.

    python benchmarks/speed.py

Each figure is the median over paired repetitions: the two sides take turns, so that a slow minute of the
machine slows both. Time is this process's CPU time where nothing waits, and wall time for the echo, whose
stock side waits for the real loopback.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import simloop

# Held in a list: simloop changes references that modules hold by name to its own clocks.
CLOCKS: list[Callable[[], float]] = [time.process_time, time.perf_counter]
Program = Callable[[], Coroutine[Any, Any, Any]]


async def race() -> None:
    """Three tasks that increment a counter, and lose an update."""
    counter = 0

    async def increment() -> None:
        nonlocal counter
        seen = counter
        await asyncio.sleep(0)
        counter = seen + 1

    tasks = [asyncio.create_task(increment()) for _ in range(3)]
    for task in tasks:
        await task


async def locked_race() -> None:
    """Three tasks that increment a counter one after another, by a lock."""
    counter = 0
    lock = asyncio.Lock()

    async def increment() -> None:
        nonlocal counter
        async with lock:
            seen = counter
            await asyncio.sleep(0)
            counter = seen + 1

    await asyncio.gather(*(increment() for _ in range(3)))


async def yielding() -> None:
    """100 tasks, each of which gives way 1,000 times."""

    async def work() -> None:
        for _ in range(1000):
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(100)))


async def echo() -> None:
    """2,000 round trips of 64 bytes over TCP."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(2000):
        writer.write(b"x" * 64)
        await reader.readexactly(64)
    writer.close()
    await writer.wait_closed()
    server.close()


def seconds(call: Callable[[], object], times: int, clock: Callable[[], float]) -> float:
    gc.collect()
    began = clock()
    for _ in range(times):
        call()
    return (clock() - began) / times


def compare(
    program: Program, times: int, clock: Callable[[], float], seeds: Iterator[int], repetitions: int = 15
) -> tuple[float, float, float]:
    """Median seconds on stock asyncio and in the simulation, and the median of the paired ratios."""
    stock, simulated = [], []
    for _ in range(repetitions):
        stock.append(seconds(lambda: asyncio.run(program()), times, clock))
        simulated.append(seconds(lambda: simloop.run(program, seed=next(seeds)), times, clock))
    ratios = [a / b for a, b in zip(stock, simulated, strict=True)]
    return statistics.median(stock), statistics.median(simulated), statistics.median(ratios)


def runs_per_second_in_pytest(runs: int = 4000) -> float:
    """Of a test of two tasks, without the start of pytest, which a session of one run measures."""
    source = (
        # It draws a number, since a test with nothing to explore would be run once.
        "import asyncio, random\n"
        "async def test_two_tasks():\n"
        "    async def work(): await asyncio.sleep(1)\n"
        "    await asyncio.gather(work(), work())\n"
        "    random.random()\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_two.py").write_text(source)

        def session(count: int) -> float:
            command = [sys.executable, "-m", "pytest", "-q", "--sim", f"--sim-runs={count}", "-p", "no:cacheprovider"]
            return seconds(lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True), 1, CLOCKS[1])

        return statistics.median(runs / (session(runs) - session(1)) for _ in range(3))


def main() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}, {time.strftime('%Y-%m-%d')}")
    print(f"{'what':<44}{'stock':>12}{'simulated':>12}{'ratio':>8}{'wanted':>9}")
    canonical = itertools.repeat(0)
    rows: list[tuple[str, Program, int, int, Iterator[int], float]] = [
        ("a fresh 3-task race", race, 300, 0, canonical, 2.5),
        ("a race with a lock, of a new seed each time", locked_race, 300, 0, itertools.count(1), 2.2),
        ("100 tasks x 1,000 sleep(0)", yielding, 1, 0, canonical, 1.0),
        ("2,000 TCP echo round trips", echo, 1, 1, canonical, 1.2),
    ]
    for name, program, times, clock, seeds, wanted in rows:
        stock, simulated, ratio = compare(program, times, CLOCKS[clock], seeds)
        print(f"{name:<44}{stock * 1e6:>9.0f} us{simulated * 1e6:>9.0f} us{ratio:>8.2f}{wanted:>9.1f}")
    print(f"{'runs of a two-task test in pytest, a second':<44}{runs_per_second_in_pytest():>32.0f}{1000:>9}")


if __name__ == "__main__":
    main()
