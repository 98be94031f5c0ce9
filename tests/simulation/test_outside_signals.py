"""Signals that the environment may send: when, to whom, how often, and how a campaign finds them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import simloop

Program = Callable[[simloop.SimProcess], Coroutine[Any, Any, None]]


def supervised(worker: Program, *, files: dict[str, Any] | None = None) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return a test that runs `worker` under a supervisor that may end it, and asserts that no temporary file stays."""

    async def main() -> None:
        sim = simloop.current()
        sim.fs.write_tree({"/run": files or {}})
        sim.program("worker")(worker)
        sim.may_signal("localhost", "worker", signal.SIGTERM)
        child = await asyncio.create_subprocess_exec("worker")
        await child.wait()
        assert not [name for name in os.listdir("/run") if name.endswith(".tmp")]

    return main


async def leaves_a_file(proc: simloop.SimProcess) -> None:
    with open("/run/a.tmp", "w") as file:
        file.write("a")
    await asyncio.sleep(1)
    os.replace("/run/a.tmp", "/run/a")


async def leaves_a_file_where_it_blocks(proc: simloop.SimProcess) -> None:
    with open("/run/a.tmp", "w") as file:
        file.write("a")
    time.sleep(1)
    os.replace("/run/a.tmp", "/run/a")


async def tidies_up(proc: simloop.SimProcess) -> None:
    proc.cancel_on(signal.SIGTERM)
    try:
        await leaves_a_file(proc)
    finally:
        if os.path.exists("/run/a.tmp"):
            os.unlink("/run/a.tmp")


async def tidies_up_where_it_blocks(proc: simloop.SimProcess) -> None:
    def stop(number: int, frame: object) -> None:
        proc.exit(1)

    signal.signal(signal.SIGTERM, stop)
    try:
        await leaves_a_file_where_it_blocks(proc)
    finally:
        if os.path.exists("/run/a.tmp"):
            os.unlink("/run/a.tmp")


@pytest.mark.parametrize(
    ("wrong", "mended"),
    [(leaves_a_file, tidies_up), (leaves_a_file_where_it_blocks, tidies_up_where_it_blocks)],
    ids=["in a poll", "in a call"],
)
def test_what_a_signal_leaves_behind_is_found(wrong: Program, mended: Program) -> None:
    failure = simloop.explore(supervised(wrong), runs=20).failure
    assert failure is not None
    assert failure.strategy == "cancel sweep"
    (told,) = failure.story
    where = r"(while it waited at|in the call in) \S+test_outside_signals\.py:\d+"
    assert re.fullmatch(rf"SIGTERM came to process worker from outside( {where})?", told)
    with pytest.raises(AssertionError):
        simloop.replay(supervised(wrong), failure.token)
    assert simloop.explore(supervised(mended), runs=200).failure is None


def test_nothing_comes_in_the_canonical_run_and_once_at_most_otherwise() -> None:
    counts: list[int] = []

    async def main() -> None:
        sim = simloop.current()
        seen: list[int] = []

        @sim.program("worker")
        async def worker(proc: simloop.SimProcess) -> None:
            signal.signal(signal.SIGHUP, lambda number, frame: seen.append(number))
            for _ in range(5):
                await asyncio.sleep(0.1)
                time.sleep(0.001)

        children = [subprocess.Popen(["worker"]) for _ in range(2)]
        sim.may_signal("localhost", "worker", signal.SIGHUP)
        await asyncio.to_thread(lambda: [child.wait() for child in children])
        counts.append(len(seen))

    simloop.run(main)
    assert counts == [0]
    assert simloop.explore(main, runs=200).failure is None
    assert set(counts) == {0, 1}


def test_it_is_for_one_process_by_its_handle_or_for_what_a_host_runs() -> None:
    async def ends(process: object, host: str) -> tuple[int, int]:
        sim = simloop.current()

        @sim.program("worker")
        async def worker(proc: simloop.SimProcess) -> None:
            await asyncio.sleep(1)

        first = await asyncio.create_subprocess_exec("worker")
        second = await asyncio.create_subprocess_exec("worker")
        sim.may_signal("localhost", second, signal.SIGTERM)
        return await first.wait(), await second.wait()

    seen = {simloop.run(lambda: ends(None, ""), seed=seed) for seed in range(60)}
    assert seen == {(0, 0), (0, -signal.SIGTERM)}

    async def hosted() -> bool:
        sim = simloop.current()

        async def serve() -> None:
            await asyncio.sleep(1)

        sim.host("web")
        sim.may_signal("web", "web", signal.SIGTERM)
        try:
            await sim.host("web").run(serve)
        except simloop.ProcessEndedError:
            return True
        return False

    assert {simloop.run(hosted, seed=seed) for seed in range(60)} == {True, False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere", "worker", signal.SIGTERM), "there is no host 'nowhere'"),
        (("localhost", "worker", 0), "0 is no signal"),
        (("localhost", "worker", 99), "99 is no signal"),
        (("localhost", "worker", "SIGTERM"), "'SIGTERM' is no signal"),
        (("localhost", None, signal.SIGTERM), "None is no process"),
        (("localhost", "", signal.SIGTERM), "'' is no process"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: tuple[Any, ...], words: str) -> None:
    async def main() -> None:
        simloop.current().may_signal(*arguments)

    with pytest.raises(simloop.ConfigurationError, match=words):
        simloop.run(main)
