"""How many runs it takes to find the races of `kernels`, and how small they become. Everything runs in this process.

    python benchmarks/races/measure_kernels.py [name ...] [--seeds N] [--runs N] [--clean N]

A race counts as found as well as can be where its median is at most 10 runs and its worst at most 100. "least" is the
smallest number of deviations in any report, and how many of the reports have it. The exit status is 1 when a mended
version failed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import platform
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kernels import Kernel, named

import simloop

# Numbers far from one another: seeds of campaigns that people would choose.
SEED_DISTANCE = 10_000
WIDTHS = (38, 8, 6, 9, 10, 10, 14, 0)


def show(*cells: str) -> None:
    print(" ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip(), flush=True)


def measure(kernel: Kernel, seeds: int, runs: int, clean: int) -> tuple[list[int], bool]:
    """Run the campaigns of one kernel and print a line on them. Return the number of runs that each needed, and True if
    the mended version passed."""
    for main in (kernel.wrong, kernel.mended):
        for attempt in range(3):
            try:
                asyncio.run(main())
                break
            except Exception:
                # It is a race: on a busy machine it may happen in earnest.
                if attempt == 2:
                    raise
    needed, deviations, seconds = [], [], []
    strategies: Counter[str] = Counter()
    for seed in range(SEED_DISTANCE, SEED_DISTANCE * (seeds + 1), SEED_DISTANCE):
        began = time.perf_counter()
        report = simloop.explore(kernel.wrong, runs=runs, seed=seed, **kernel.options)
        if (failure := report.failure) is None:
            needed.append(runs + 1)
            continue
        seconds.append(time.perf_counter() - began)
        needed.append(failure.run_number)
        deviations.append(len(failure.schedule.deviations))
        strategies[failure.strategy] += 1
    least = min(deviations, default=0)
    passed = not clean or bool(simloop.explore(kernel.mended, runs=clean, seed=1, **kernel.options))
    show(
        kernel.name,
        f"{statistics.median(needed):g}",
        str(max(needed)) if max(needed) <= runs else "-",
        f"{len(deviations)}/{seeds}",
        f"{least}: {deviations.count(least)}/{len(deviations)}" if least else "-",
        f"{max(seconds, default=0):.1f} s",
        "clean" if passed else "NOT CLEAN",
        ", ".join(f"{name} {count}" for name, count in strategies.most_common()),
    )
    return needed, passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help="parts of names; all kernels without any")
    parser.add_argument("--seeds", type=int, default=20, help="how many campaigns of each kernel")
    parser.add_argument("--runs", type=int, default=100, help="the budget of each campaign")
    parser.add_argument("--clean", type=int, default=2000, help="how many runs of the mended version; 0: none")
    options = parser.parse_args()
    chosen = named(options.names)
    if not chosen or options.seeds < 1 or options.runs < 1 or options.clean < 0:
        parser.error("no such kernel, or a number that is none")
    # Most failures are in handlers of connections, which asyncio logs.
    logging.disable(logging.CRITICAL)
    print(f"{options.seeds} campaigns of {options.runs} runs each; {platform.machine()}, {platform.python_version()}")
    show("kernel", "median", "worst", "found", "least", "longest", f"{options.clean} mended", "by")
    medians, found, all_clean = [], 0, True
    for kernel in chosen:
        needed, passed = measure(kernel, options.seeds, options.runs, options.clean)
        medians.append(statistics.median(needed))
        found += sum(runs <= options.runs for runs in needed)
        all_clean &= passed
    print(
        f"{found} of {options.seeds * len(chosen)} campaigns found theirs; "
        f"median of medians {statistics.median(medians):g}, {sum(median <= 10 for median in medians)} of "
        f"{len(medians)} at most 10"
    )
    raise SystemExit(not all_clean)


if __name__ == "__main__":
    main()
