"""The races of `kernels` under simloop, detangle and simloom, each with its defaults, kernel by kernel in turns; and
under detangle with packets that take up to 50 ms, as they may in simloop.

    python benchmarks/races/compare.py [name ...] [--seeds N] [--runs N] [--mended N]

Each tool has an environment of its own in `.venvs`, made on first use with pip and this interpreter (3.12 at least,
which simloom needs). For each it is printed in how many campaigns the race was found, the median of the runs that
needed, and of how many runs of the mended version some failed: the programs are right then, so that these are false
alarms, unless the simulated network breaks a promise of the real one. "cannot" stands where the tool has no means for
what the race needs, or where the mended version fails in the very first run.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kernels import Kernel, named

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# What pip installs for each tool, and what the tool is asked for.
TOOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "simloop": (f"--editable={ROOT}", {}),
    "detangle": ("detangle==0.1.0", {}),
    "detangle, 50 ms": ("detangle==0.1.0", {"net": {"latency": (0.0, 0.05)}}),
    "simloom": ("simloom==0.5.0", {}),
}
SEED_DISTANCE = 10_000

#: Function that makes up to so many runs from a seed. Returns the number of the first run that failed, 0 for none.
FirstFailure = Callable[[Any, int, int], int]


def with_simloop(options: dict[str, Any]) -> FirstFailure:
    import simloop

    def first_failure(main: Any, runs: int, seed: int) -> int:
        failure = simloop.explore(main, runs=runs, seed=seed, **options).failure
        return 0 if failure is None else failure.run_number

    return first_failure


def with_detangle(options: dict[str, Any]) -> FirstFailure:
    import detangle  # type: ignore[import-not-found, unused-ignore]

    def first_failure(main: Any, runs: int, seed: int) -> int:
        try:
            detangle.explore(main, runs=runs, seed=seed, shrink=True, database=False, **options)
        except detangle.BugFound as found:
            return int(found.report.runs)
        return 0

    return first_failure


def with_simloom(options: dict[str, Any]) -> FirstFailure:
    import simloom  # type: ignore[import-not-found, unused-ignore]

    def first_failure(main: Any, runs: int, seed: int) -> int:
        failures = simloom.explore(main, runs=runs, start_seed=seed, **options).failures
        return failures[0].seed - seed + 1 if failures else 0

    return first_failure


USES = {"simloop": with_simloop, "detangle": with_detangle, "simloom": with_simloom}


def measure(tool: str, kernel: Kernel, seeds: int, runs: int, mended: int) -> dict[str, Any]:
    """Measure one kernel under one tool, in this process."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    _, options = TOOLS[tool]
    use = tool.partition(",")[0]
    if kernel.by == "cancel" and use != "simloop":
        return {"cannot": "no cancellation from outside, without a change of the program"}
    first_failure = USES[use]({**options, **kernel.options} if use == "simloop" else options)
    if first_failure(kernel.mended, 1, 0):
        return {"cannot": "the mended version fails in the first run"}
    began = time.process_time()
    needed = [first_failure(kernel.wrong, runs, SEED_DISTANCE * at) for at in range(1, seeds + 1)]
    return {
        "needed": [number or runs + 1 for number in needed],
        "seconds": time.process_time() - began,
        "false": first_failure(kernel.mended, mended, 1),
    }


def interpreter(tool: str) -> str:
    """Return the interpreter of a tool's environment, which is made if it is not there."""
    requirement, _ = TOOLS[tool]
    place = HERE / ".venvs" / f"compare-{tool.partition(',')[0]}"
    if not (place / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "-q", requirement], check=True)
    return str(place / "bin" / "python")


def told(result: dict[str, Any], runs: int, mended: int) -> str:
    if "cannot" in result:
        return "cannot"
    needed = result["needed"]
    found = [number for number in needed if number <= runs]
    median = f"{statistics.median(needed):g}" if len(found) * 2 > len(needed) else "-"
    alarm = f", false in {result['false']}" if result["false"] else ""
    return f"{len(found)}/{len(needed)} {median}{alarm}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help="parts of names; all kernels without any")
    parser.add_argument("--seeds", type=int, default=10, help="how many campaigns of each kernel")
    parser.add_argument("--runs", type=int, default=100, help="the budget of each campaign")
    parser.add_argument("--mended", type=int, default=200, help="how many runs of the mended version")
    parser.add_argument("--in-this-process", metavar="TOOL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    numbers = options.seeds, options.runs, options.mended
    chosen = named(options.names)
    if not chosen or min(numbers) < 1:
        parser.error("no such kernel, or a number that is none")
    if options.in_this_process:
        print(json.dumps(measure(options.in_this_process, chosen[0], *numbers)))
        return
    interpreters = {tool: interpreter(tool) for tool in TOOLS}
    print(f"{'found, median runs':38}" + "".join(f"{tool:22}" for tool in TOOLS))
    found, alarms, seconds = (dict.fromkeys(TOOLS, 0.0) for _ in range(3))
    ran = dict.fromkeys(TOOLS, 0)
    for kernel in chosen:
        cells = []
        for tool, python in interpreters.items():
            command = [python, __file__, kernel.name, "--in-this-process", tool]
            command += [f"--seeds={numbers[0]}", f"--runs={numbers[1]}", f"--mended={numbers[2]}"]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            result = json.loads(output.splitlines()[-1])
            cells.append(told(result, *numbers[1:]))
            if "cannot" not in result:
                ran[tool] += 1
                found[tool] += sum(number <= options.runs for number in result["needed"])
                alarms[tool] += bool(result["false"])
                seconds[tool] += result["seconds"]
        print((f"{kernel.name:38}" + "".join(f"{cell:22}" for cell in cells)).rstrip(), flush=True)
    for tool in TOOLS:
        print(
            f"{tool}: found {found[tool]:g} of {ran[tool] * options.seeds} in {ran[tool]} kernels that it can run, "
            f"{alarms[tool]:g} of which fail when mended; {seconds[tool]:.0f} s of processor time"
        )


if __name__ == "__main__":
    main()
