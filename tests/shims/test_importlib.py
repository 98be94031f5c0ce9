"""Imports in the middle of a run: outside of it, once, and no run can tell which one came first."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import posix
import random
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

Write = Callable[..., None]
Main = Callable[[], Coroutine[Any, Any, Any]]

# A world's clock begins at 2026-01-01T00:00:00Z, its monotonic clock at 1000 seconds.
LOOKS = """
import os, random, time
wall, drawn, entropy, pid = time.time(), random.random(), os.urandom(8), os.getpid()
with open(__file__) as file:
    lines = file.readlines()
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules that can be imported during the test, by name and code."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def write_modules(**modules: str) -> None:
        for name, code in modules.items():
            (tmp_path / f"{name}.py").write_text(code)
        importlib.invalidate_caches()

    yield write_modules
    for name in set(sys.modules) - before:
        del sys.modules[name]


def digests(main: Main, runs: int = 3) -> list[int]:
    outcomes = [execute(main, Choices(), Limits()) for _ in range(runs)]
    for outcome in outcomes:
        if outcome.exception is not None:
            raise outcome.exception
    return [outcome.choices.digest for outcome in outcomes]


def module(name: str) -> Any:
    return importlib.import_module(name)


def test_a_module_sees_the_real_world_and_the_run_does_not_notice(write: Write, tmp_path: Path) -> None:
    write(outer_m="import inner_m\n" + LOOKS, inner_m=LOOKS + f"open({str(tmp_path / 'written')!r}, 'w').close()")
    before, pid = time.time(), os.getpid()
    elapsed, drawn = set(), set()

    async def main() -> None:
        sim = simloop.current()
        began = sim.elapsed
        for name in ("outer_m", "outer_m", "inner_m"):
            module(name)
        elapsed.add(sim.elapsed - began)
        drawn.add((random.random(), os.urandom(8)))
        asyncio.get_running_loop().call_soon(int)

    assert len(set(digests(main))) == 1
    assert elapsed == {0.0}
    assert len(drawn) == 1
    for found in (module("outer_m"), module("inner_m")):
        assert before <= found.wall <= time.time()
        assert found.pid == pid
        assert "import os, random, time\n" in found.lines
    assert module("inner_m").drawn != module("outer_m").drawn
    assert (tmp_path / "written").exists()


def test_other_tasks_go_on_in_the_same_way(write: Write) -> None:
    write(slow_m="import time\ntime.sleep(0.002)")
    seen: list[list[str]] = []

    async def main() -> None:
        order: list[str] = []
        seen.append(order)

        async def ticks(name: str) -> None:
            for number in range(3):
                order.append(f"{name}{number}")
                await asyncio.sleep(0.001)

        async def imports() -> None:
            await asyncio.sleep(0.001)
            module("slow_m")
            order.append("imported")

        await asyncio.gather(ticks("a"), imports(), ticks("b"))

    assert len(set(digests(main))) == 1
    assert seen[0] == seen[1] == seen[2]


def test_references_in_it_are_those_of_the_run(write: Write, tmp_path: Path) -> None:
    code = "from posix import getpid\nclass C:\n    pid = getpid\n"
    write(direct_m=code, reloaded_m=code, by_hand_m=code)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("zipped_m.py", code)
    sys.path.append(str(tmp_path / "archive.zip"))
    pytest.register_assert_rewrite("reloaded_m")  # so that it has a loader which is not importlib's
    assert module("reloaded_m").getpid is posix.getpid

    async def main() -> None:
        spec = importlib.util.spec_from_file_location("by_hand_m", tmp_path / "by_hand_m.py")
        assert spec is not None
        assert spec.loader is not None
        by_hand: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(by_hand)
        importlib.reload(module("reloaded_m"))
        for _ in range(2):  # a module of the same name may be another one
            for found in (module("direct_m"), module("reloaded_m"), module("zipped_m"), by_hand):
                assert found.getpid() == found.C.pid() == os.getpid() != posix.getpid()
            del sys.modules["direct_m"]

    try:
        assert len(set(digests(main))) == 1
    finally:
        sys.path.remove(str(tmp_path / "archive.zip"))


def test_a_failed_import_fails_each_time_in_the_same_way(write: Write) -> None:
    write(broken_m="import helper_m\nimport posix\n1 / 0", helper_m="from posix import getpid")
    told = set()

    async def main() -> None:
        for name, kind in (("broken_m", ZeroDivisionError), ("no_such_module", ModuleNotFoundError)):
            began = simloop.current().elapsed
            with pytest.raises(kind) as caught:
                __import__(name)
            # The interpreter's own frames do not show, and neither do ours.
            assert len(caught.traceback) == 1 + (name == "broken_m")
            told.add(str(caught.value))
            assert simloop.current().elapsed == began
        assert module("helper_m").getpid() == os.getpid()

    assert len(set(digests(main))) == 1
    assert len(told) == 2


def test_a_loop_and_a_thread_of_a_module_are_real(write: Write) -> None:
    write(
        starts_m="""
import asyncio, threading, time
async def main():
    await asyncio.sleep(0.001)
    return type(asyncio.get_running_loop()).__module__, time.time()
loop, wall = asyncio.run(main())
seen = []
thread = threading.Thread(target=lambda: seen.append(time.time()))
thread.start()
thread.join()
"""
    )

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert not module("starts_m").loop.startswith("simloop")
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
        await asyncio.sleep(1)

    before = time.time()
    assert len(set(digests(main))) == 1
    assert before <= module("starts_m").wall <= module("starts_m").seen[0] <= time.time()


def test_threads_and_other_processes_import_in_the_same_way(write: Write) -> None:
    write(thread_m=LOOKS, process_m=LOOKS)
    elapsed = set()

    async def main() -> None:
        sim = simloop.current()

        async def serve() -> None:
            began = sim.elapsed
            module("process_m")
            elapsed.add(sim.elapsed - began)
            assert time.time() < 1767225600 + 3600

        await asyncio.gather(asyncio.to_thread(module, "thread_m"), sim.host("other").run(serve))
        assert threading.current_thread() is threading.main_thread()

    assert len(set(digests(main))) == 1
    assert elapsed == {0.0}
    for name in ("thread_m", "process_m"):
        assert abs(module(name).wall - time.time()) < 3600


def test_imports_outside_of_a_run_are_left_alone(write: Write) -> None:
    write(plain_m="from posix import getpid")
    simloop.run(lambda: asyncio.sleep(0))
    assert module("plain_m").getpid is posix.getpid


def test_numpy_is_seeded_as_soon_as_a_run_has_imported_it(write: Write, tmp_path: Path) -> None:
    generator = """
import random
class Generator(random.Random):
    get_state, set_state = random.Random.getstate, random.Random.setstate
_rand = Generator()
"""
    (tmp_path / "numpy" / "random").mkdir(parents=True)
    for path, code in [("__init__", ""), ("random/__init__", ""), ("random/mtrand", generator)]:
        (tmp_path / "numpy" / f"{path}.py").write_text(code)
    write()

    async def draws() -> float:
        mtrand = importlib.import_module("numpy.random.mtrand")
        drawn: float = mtrand._rand.random()
        return drawn

    first, again, other = (simloop.run(draws, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first == random.Random(1).random()
