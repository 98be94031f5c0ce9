"""Probes, and the program that runs them: ``python probes.py`` prints one line of JSON for each.

A probe is code of a run in which a leak would show something real, or move it. It belongs to a row of the tables in
docs/reference/simulated.md, and ends in one of three ways: `simulated`, it returns, the same in both of two runs;
`escapes`, EscapedSimulationError names its line; `warned`, a warning names the library.

No probe may do harm where it leaks: it moves things of `real` and of its own process only, and calls that would change
the machine get arguments which the kernel refuses to everybody, root included.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

MODULES = ("simulated_rows", "escaping_rows", "older_things", "machine", "libraries", "readers")


@dataclass(frozen=True)
class Probe:
    """Code of a run, with the row of the table to which it belongs and how it ends."""

    row: str
    ends: str
    body: Callable[[], Any]

    @property
    def name(self) -> str:
        return f"{self.body.__module__}.{self.body.__name__}"


PROBES: list[Probe] = []


def simulated(row: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    return _ending(row, "simulated")


def escapes(row: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    return _ending(row, "escapes")


def warned(row: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    return _ending(row, "warned")


def _ending(row: str, ends: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(body: Callable[[], Any]) -> Callable[[], Any]:
        # The module that is run as a program is imported as well.
        import_module("probes").PROBES.append(Probe(row, ends, body))
        return body

    return add


def load() -> list[Probe]:
    """Imports the modules of probes, and returns these."""
    for module in MODULES:
        import_module(module)
    return list(import_module("probes").PROBES)


def outcome(body: Callable[[], Any]) -> tuple[str, str]:
    """Runs a probe twice. Returns how it ended, and what there is to say of that."""
    import simloop

    async def main() -> Any:
        result = body()
        return await result if inspect.isawaitable(result) else result

    results = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            try:
                results.append(repr(simloop.run(main, blocking="ignore")))
            except simloop.EscapedSimulationError as error:
                return "escapes", str(error)
            except BaseException as error:
                return "failed", f"{type(error).__name__}: {error}"
    real = [str(warning.message) for warning in caught if warning.category is not ResourceWarning]
    if real:
        return "warned", real[0]
    if results[0] != results[1]:
        return "differs", " / ".join(results)
    return "simulated", results[0]


def _told() -> None:
    real = import_module("real")
    # The first run starts the watchdog's thread.
    outcome(lambda: None)
    for probe in load():
        if len(sys.argv) > 1 and sys.argv[1] not in probe.name:
            continue
        before = real.state()
        ended, said = outcome(probe.body)
        wrong = real.moved(before)
        if ended != probe.ends or (ended == "escapes" and f"{probe.body.__module__}.py:" not in said):
            wrong.append(f"{ended}: {said}")
        print(json.dumps({"name": probe.name, "row": probe.row, "said": said, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    _told()
