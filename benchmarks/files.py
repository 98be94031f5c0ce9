"""What simulated files cost: to a run that touches none, and in bytes a second beside a real tmpfs.

    python benchmarks/files.py

The sides take turns in one process, and each figure is a median: of the paired differences for entering a world, of
the paired ratios for the throughput. Time is this process's CPU time, which has the kernel's part in it. The real side
uses the real functions, not the shims, which outside of a world would add a call to each.
"""

from __future__ import annotations

import _io
import gc
import os
import platform
import posix
import statistics
import time
from collections.abc import Callable
from typing import Any

import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import seeded
from simloop.shims import io as files
from simloop.shims.os import descriptors, listing, paths
from simloop.simulation import install as installation
from simloop.simulation.context import WorldContext
from simloop.simulation.limits import Limits

# Held in a list: simloop changes references that modules hold by name to its own clocks.
CLOCK: list[Callable[[], float]] = [time.process_time]
TOTAL = 100 * 1000 * 1000
PIECES = (8 << 10, 64 << 10, 1 << 20)
FOLDER = "/dev/shm"
MODULES = (files, paths, listing, descriptors)


def seconds(call: Callable[[], object], times: int = 1) -> float:
    gc.collect()
    clock = CLOCK[0]
    began = clock()
    for _ in range(times):
        call()
    return (clock() - began) / times


# --- entering a world -----------------------------------------------------------------------------------


def enter() -> None:
    with WorldContext(Choices(0, seeded(0)), Limits()):
        pass


def enter_and_look() -> None:
    with WorldContext(Choices(0, seeded(0)), Limits()):
        os.stat("/")


def entering(repetitions: int = 51, times: int = 300) -> None:
    installation.install()
    assert installation._patch is not None
    names = {(id(owner), name) for module in MODULES for owner, name, _ in module.REPLACEMENTS}
    replacements = [entry for entry in installation._patch._replacements if (id(entry[0]), entry[1]) in names]
    without, empty, looking = [], [], []
    enter()
    for _ in range(repetitions):
        for owner, name, real, _ in replacements:
            setattr(owner, name, real)
        without.append(seconds(enter, times) * 1e6)
        for owner, name, _, shim in replacements:
            setattr(owner, name, shim)
        empty.append(seconds(enter, times) * 1e6)
        looking.append(seconds(enter_and_look, times) * 1e6)
    added = [a - b for a, b in zip(empty, without, strict=True)]
    first = [a - b for a, b in zip(looking, empty, strict=True)]
    print(f"{'entering and leaving a world':<50}{'us':>8}{'wanted':>10}")
    print(f"{'without the shims of files':<50}{statistics.median(without):>8.1f}")
    print(f"{'with them, no file touched':<50}{statistics.median(empty):>8.1f}")
    print(f"{'  what they add':<50}{statistics.median(added):>8.1f}{'< 20':>10}")
    print(f"{'  what the first look at a file adds':<50}{statistics.median(first):>8.1f}")


# --- throughput -----------------------------------------------------------------------------------------


def through_open(opener: Any, path: str, size: int, data: bytes) -> tuple[float, float]:
    def write() -> None:
        with opener(path, "wb") as file:
            for _ in range(TOTAL // size):
                file.write(data)

    def read() -> None:
        with opener(path, "rb") as file:
            while file.read(size):
                pass

    return seconds(write), seconds(read)


def through_os(module: Any, path: str, size: int, data: bytes) -> tuple[float, float]:
    def write() -> None:
        fd = module.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for _ in range(TOTAL // size):
            module.write(fd, data)
        module.close(fd)

    def read() -> None:
        fd = module.open(path, os.O_RDONLY)
        while module.read(fd, size):
            pass
        module.close(fd)

    return seconds(write), seconds(read)


def throughput(name: str, way: Callable[..., tuple[float, float]], real: Any, size: int, repetitions: int) -> None:
    path, data = f"{FOLDER}/simloop-benchmark-{posix.getpid()}", bytes(range(256)) * (size // 256)
    pairs = []
    for _ in range(repetitions):
        try:
            outside = way(real, path, size, data)
        finally:
            posix.unlink(path)
        with simloop.world():
            inside = way(open if real is _io.open else os, path, size, data)
        pairs.append((outside, inside))
    rates = [TOTAL * 2 / 1e6 / statistics.median(sum(pair[side]) for pair in pairs) for side in (0, 1)]
    ratios = [
        statistics.median(outside[part] / inside[part] for outside, inside in pairs) for part in (0, 1)
    ] + [statistics.median(sum(outside) / sum(inside) for outside, inside in pairs)]  # fmt: skip
    row = f"{rates[0]:>8.0f}{rates[1]:>10.0f}{ratios[0]:>8.2f}{ratios[1]:>8.2f}{ratios[2]:>8.2f}{0.5:>8}"
    print(f"{name}, {size >> 10} KiB".ljust(28) + row)


def main(repetitions: int = 11) -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}, {time.strftime('%Y-%m-%d')}\n")
    entering()
    print(f"\n{'100 MB, written and read':<28}{'tmpfs':>8}{'simulated':>10}{'ratio of':>24}")
    print(f"{'':<28}{'MB/s':>8}{'MB/s':>10}{'writing':>8}{'reading':>8}{'both':>8}{'wanted':>8}")
    for size in PIECES:
        throughput("open()", through_open, _io.open, size, repetitions)
    for size in PIECES:
        throughput("os.write, os.read", through_os, posix, size, repetitions)


if __name__ == "__main__":
    main()
