"""What a simulated process costs: to start one and to wait for it, beside a real one; and to a run that starts none.

    python benchmarks/processes.py

The sides take turns in one process, and each figure is a median: of the paired ratios for the processes, of the paired
differences for entering a world. Time is real, since a real process takes that of another processor, too.
"""

from __future__ import annotations

import asyncio
import gc
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import seeded
from simloop.shims.os import processes
from simloop.simulation import install as installation
from simloop.simulation.context import WorldContext
from simloop.simulation.limits import Limits

# Held in a list: simloop changes references that modules hold by name to its own clocks.
CLOCK: list[Callable[[], float]] = [time.perf_counter]
PIPE = asyncio.subprocess.PIPE


def seconds(call: Callable[[], object], times: int = 1) -> float:
    gc.collect()
    clock = CLOCK[0]
    began = clock()
    for _ in range(times):
        call()
    return (clock() - began) / times


# --- one process ----------------------------------------------------------------------------------------


async def start_and_wait(times: int, *command: str, **pipes: Any) -> None:
    for _ in range(times):
        process = await asyncio.create_subprocess_exec(*command, **pipes)
        await (process.communicate() if pipes else process.wait())


def scripted() -> None:
    simloop.current().program("/bin/true")


def played() -> None:
    @simloop.current().program("/bin/true")
    async def main(proc: simloop.SimProcess) -> int:
        return 0


def echo() -> None:
    simloop.current().program("/bin/echo", stdout=b"hello\n")


def simulated(register: Callable[[], None], times: int, *command: str, **pipes: Any) -> None:
    async def main() -> None:
        register()
        await start_and_wait(times, *command, **pipes)

    simloop.run(main)


def one_process(
    what: str, wanted: str, register: Callable[[], None], repetitions: int, times: int, *command: str, **pipes: Any
) -> None:
    pairs = []
    for _ in range(repetitions):
        real = seconds(lambda: asyncio.run(start_and_wait(times, *command, **pipes))) / times
        pairs.append((real, seconds(lambda: simulated(register, times, *command, **pipes)) / times))
    real, ours = (statistics.median(pair[side] for pair in pairs) * 1e6 for side in (0, 1))
    ratio = statistics.median(real / ours for real, ours in pairs)
    print(f"{what:<50}{real:>8.0f}{ours:>10.0f}{ratio:>8.1f}{wanted:>8}")


# --- none -----------------------------------------------------------------------------------------------


def enter() -> None:
    with WorldContext(Choices(0, seeded(0)), Limits()):
        pass


def race() -> None:
    """The fresh race of speed.py."""

    async def main() -> None:
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))

    simloop.run(main)


def no_process(what: str, call: Callable[[], None], repetitions: int = 51, times: int = 300) -> None:
    installation.install()
    assert installation._patch is not None
    names = {(id(owner), name) for owner, name, _ in processes.REPLACEMENTS}
    replacements = [entry for entry in installation._patch._replacements if (id(entry[0]), entry[1]) in names]
    without, having = [], []
    call()
    for _ in range(repetitions):
        for owner, name, real, _ in replacements:
            setattr(owner, name, real)
        without.append(seconds(call, times) * 1e6)
        for owner, name, _, shim in replacements:
            setattr(owner, name, shim)
        having.append(seconds(call, times) * 1e6)
    added = statistics.median(a - b for a, b in zip(having, without, strict=True))
    print(f"{what:<50}{statistics.median(without):>8.1f}{statistics.median(having):>10.1f}{added:>8.1f}{'< 1':>8}")


def main(repetitions: int = 15, times: int = 200) -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}, {time.strftime('%Y-%m-%d')}\n")
    print(f"{'one process, us':<50}{'real':>8}{'simulated':>10}{'ratio':>8}{'wanted':>8}")
    one_process("/bin/true, wait()", "10", scripted, repetitions, times, "/bin/true")
    one_process("/bin/true played by a main function, wait()", "", played, repetitions, times, "/bin/true")
    one_process("/bin/echo, its output, communicate()", "", echo, repetitions, times, "/bin/echo", "hello", stdout=PIPE)
    print(f"\n{'a run without any, us':<50}{'without':>8}{'with':>10}{'added':>8}{'wanted':>8}")
    no_process("entering and leaving a world", enter)
    no_process("a fresh 3-task race", race)


if __name__ == "__main__":
    main()
