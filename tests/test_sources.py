"""Which line of the program calls: neither ours nor the standard library's, whatever was asked for before."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import timeit
from typing import Any

import pytest

import simloop
from simloop import sources
from simloop.sources import call_site


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_skipped", {})


def line() -> str:
    frame: Any = inspect.currentframe()
    return f"{__file__}:{frame.f_back.f_lineno}"


def test_it_is_the_innermost_line_of_the_program_each_time() -> None:
    async def main() -> None:
        simloop.current().program("tool")
        places = []
        for _ in range(2):
            subprocess.Popen(["tool"]).wait()
            places.append((list(simloop.current()._world.processes)[-1].started_at, line()))
            process = await asyncio.create_subprocess_exec("tool")
            places.append((list(simloop.current()._world.processes)[-1].started_at, line()))
            await process.wait()
        for place, after in places:
            assert place == before(after)

    simloop.run(main, blocking="ignore")


def test_generated_code_says_nothing_of_the_file_whose_globals_it_has() -> None:
    places: list[str] = []
    namespace: Any = {"__file__": timeit.__file__, "ask": call_site, "places": places}
    generated = compile("places.append(ask())", "<made>", "exec")
    of_the_library = compile("places.append(ask())", timeit.__file__, "exec")
    exec(generated, namespace)
    exec(of_the_library, namespace)
    assert places == ["<made>:1", before(line())]


def before(place: str) -> str:
    file, _, number = place.rpartition(":")
    return f"{file}:{int(number) - 1}"
