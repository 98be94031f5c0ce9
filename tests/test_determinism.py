"""The same schedule gives the same run in another process, and under another string hashing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from simloop.choices.choices import Choices
from simloop.choices.draws import seeded
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

PROGRAM = """
import asyncio, random, sys, uuid
import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import seeded
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

async def main():
    seen = []
    async def serve(reader, writer):
        try:
            while line := await reader.readline():
                await asyncio.sleep(random.random() / 100)
                writer.write(line)
        finally:
            writer.close()
    server = await asyncio.start_server(serve, "localhost", 7000)
    async def client(name):
        reader, writer = await asyncio.open_connection("localhost", 7000)
        for i in range(3):
            writer.write(f"{name} {i} {uuid.uuid4()}\\n".encode())
            seen.append((await reader.readline(), simloop.current().elapsed))
        writer.close()
        await writer.wait_closed()
    tasks = {asyncio.create_task(client(name)) for name in "abcd"}
    simloop.current().may_cancel(min(tasks, key=asyncio.Task.get_name))
    done, _ = await asyncio.wait(tasks)
    seen.append([task.get_name() for task in done])
    seen.append(await asyncio.to_thread(random.random))
    server.close()
    return seen

for seed in range(40):
    outcome = execute(main, Choices(seed, seeded(seed)), Limits())
    print(seed, outcome.choices.digest, outcome.value, outcome.exception)
"""


def output(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    return child.stdout


def test_processes_and_hash_seeds_agree() -> None:
    first = output("random")
    assert len(set(first.splitlines())) == 40
    assert len({line.split()[1] for line in first.splitlines()}) > 20
    for hash_seed in ("0", "1", "random"):
        assert output(hash_seed) == first


# A cancelled open_connection() leaves its transport behind, on stock asyncio too.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("profile", ["cpython", "portable", "hostile"])
def test_one_process_agrees_with_itself(profile: str) -> None:
    namespace: dict[str, object] = {}
    exec(PROGRAM.split("for seed")[0], namespace)
    for seed in range(20):
        runs = [
            execute(namespace["main"], Choices(seed, seeded(seed)), Limits(profile=profile))  # type: ignore[arg-type]
            for _ in range(2)
        ]
        assert runs[0].choices.digest == runs[1].choices.digest
        assert runs[0].value == runs[1].value


def digest_of(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    outcome = execute(main, Choices(), Limits())
    assert outcome.exception is None
    return outcome.choices.digest


@pytest.mark.parametrize(("one", "other"), [((2, 1), (1, 2)), ((1, 2, 1), (2, 1, 1)), ((1, 1), (1,)), ((0, 3), (3, 0))])
def test_the_digest_tells_turns_from_others_that_ran_as_many_callbacks(
    one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    def program(batches: tuple[int, ...]) -> Callable[[], Coroutine[Any, Any, None]]:
        async def main() -> None:
            for size in batches:
                for _ in range(size):
                    asyncio.get_running_loop().call_soon(int)
                await asyncio.sleep(0)

        return main

    assert digest_of(program(one)) == digest_of(program(one))
    assert digest_of(program(one)) != digest_of(program(other))


def test_the_digest_tells_how_often_the_clock_was_read_and_when_timers_fired() -> None:
    def program(reads: int, *delays: float) -> Callable[[], Coroutine[Any, Any, None]]:
        async def main() -> None:
            for delay in delays:
                await asyncio.sleep(delay)
            for _ in range(reads):
                time.monotonic()

        return main

    waits = ((1.0, 2.0), (2.0, 1.0), (3.0, 1.0))
    assert len({digest_of(program(reads, *delays)) for reads in (1, 2) for delays in waits}) == 6
