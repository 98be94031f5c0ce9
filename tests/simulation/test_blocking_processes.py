"""Processes that block, each on a stack of its own: any number, in any order, as on Linux."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import simloop
from simloop.kernel import stacks

PROGRAMS: list[Callable[[], Coroutine[Any, Any, Any]]] = []


@pytest.fixture(autouse=True, params=["greenlets", "threads"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "threads":
        monkeypatch.setattr(stacks, "_greenlet", lambda: None)
    before = threading.enumerate()
    yield
    assert threading.enumerate() == before


def program(main: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Coroutine[Any, Any, Any]]:
    PROGRAMS.append(main)
    return main


async def run_all(*names: str, pause: float = 0) -> list[int]:
    jobs = []
    for name in names:
        jobs.append(await asyncio.create_subprocess_exec(name))
        await asyncio.sleep(pause)
    async with asyncio.timeout(60):
        return [await job.wait() for job in jobs]


@program
async def polls_for_a_file() -> None:
    sim = simloop.current()
    sim.fs.write_tree({"/run": {}})

    @sim.program("writer")
    async def writer(proc: simloop.SimProcess) -> None:
        time.sleep(0.05)
        with open("/run/ready", "w"):
            pass

    @sim.program("poller")
    async def poller(proc: simloop.SimProcess) -> None:
        while not os.path.exists("/run/ready"):
            time.sleep(0.01)

    assert await run_all("writer", "poller") == [0, 0]


@program
async def talk_by_tcp() -> None:
    sim = simloop.current()

    @sim.program("server")
    async def server(proc: simloop.SimProcess) -> None:
        with socket.create_server(("127.0.0.1", 7007)) as listening:
            connection, _ = listening.accept()
            with connection:
                for _ in range(3):
                    connection.sendall(connection.recv(100).upper())

    @sim.program("client")
    async def client(proc: simloop.SimProcess) -> None:
        with socket.create_connection(("127.0.0.1", 7007)) as connection:
            for word in (b"a", b"b", b"c"):
                connection.sendall(word)
                assert connection.recv(100) == word.upper()

    assert await run_all("server", "client", pause=0.1) == [0, 0]


@program
async def take_turns_by_a_lock_file() -> None:
    sim = simloop.current()
    sim.fs.write_tree({"/run": {}})
    inside: list[int] = []

    @sim.program("job", "poll")
    @sim.program("job", "block")
    async def job(proc: simloop.SimProcess) -> None:
        for _ in range(3):
            file = os.open("/run/job.lock", os.O_CREAT)
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if proc.argv[1] == "poll" else 0))
                    break
                except BlockingIOError:
                    time.sleep(0.1)
            assert not inside
            inside.append(proc.pid)
            time.sleep(0.05)
            inside.remove(proc.pid)
            os.close(file)

    jobs = [await asyncio.create_subprocess_exec("job", how) for how in ("poll", "block", "poll", "block")]
    assert [await job.wait() for job in jobs] == [0] * 4


@program
async def end_in_another_order_than_they_began() -> None:
    sim = simloop.current()
    ended: list[str] = []

    @sim.program("sleep")
    async def sleep(proc: simloop.SimProcess) -> None:
        time.sleep(float(proc.argv[1]))
        ended.append(proc.argv[1])
        time.sleep(float(proc.argv[1]))

    jobs = [await asyncio.create_subprocess_exec("sleep", seconds) for seconds in ("1", "3", "2")]
    await asyncio.sleep(0.5)
    assert ended == []
    assert [await job.wait() for job in jobs] == [0, 0, 0]
    assert ended == ["1", "2", "3"]
    assert 6 <= sim.elapsed < 7


@program
async def pipe_to_one_another() -> None:
    sim = simloop.current()

    @sim.program("yes")
    async def yes(proc: simloop.SimProcess) -> None:
        for _ in range(100):
            os.write(1, b"y" * 4096)  # more than the pipe holds, in all

    @sim.program("count")
    async def count(proc: simloop.SimProcess) -> None:
        size = 0
        while data := os.read(0, 10_000):
            size += len(data)
        os.write(1, b"%d" % size)

    def main() -> bytes:
        source = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
        assert source.stdout is not None
        counted = subprocess.run(["count"], stdin=source.stdout, stdout=subprocess.PIPE, check=True).stdout
        source.stdout.close()
        assert source.wait() == 0
        return counted

    assert await asyncio.to_thread(main) == b"409600"


@program
async def one_on_each_host() -> None:
    sim = simloop.current()

    async def server() -> None:
        with socket.create_server(("0.0.0.0", 80)) as listening:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.sendall(connection.recv(100) * 2)

    async def client() -> bytes:
        with socket.create_connection(("server", 80), timeout=10) as connection:
            connection.sendall(b"a")
            time.sleep(0.1)
            return connection.recv(100)

    serving = asyncio.create_task(sim.host("server").run(server))
    await asyncio.sleep(0.1)
    answers = await asyncio.gather(*(sim.host(name).run(client) for name in ("one", "two")))
    await serving
    assert answers == [b"aa", b"aa"]


@pytest.mark.parametrize("main", PROGRAMS, ids=lambda main: main.__name__)
def test_programs_that_wait_for_one_another_end(main: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    report = simloop.explore(main, runs=60, max_time=100)
    assert report.failure is None, report.failure


def test_what_blocks_is_told_to_nobody_in_a_program_without_other_tasks() -> None:
    async def test() -> None:
        @simloop.current().program("sync")
        async def sync(proc: simloop.SimProcess) -> None:
            time.sleep(1)

        @simloop.current().program("async")
        async def other(proc: simloop.SimProcess) -> None:
            task = asyncio.create_task(asyncio.sleep(0.5))
            await asyncio.sleep(0)
            time.sleep(1)
            await task

        await run_all("sync", "async")

    with pytest.warns(simloop.BlockingCallWarning) as caught:
        simloop.run(test)
    assert len(caught) == 1
    assert "localhost:async" in str(caught[0].message)


def test_a_process_that_blocks_as_its_host_loses_power_is_unwound_in_between() -> None:
    seen: list[str] = []

    def blocks(name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def main() -> None:
            try:
                time.sleep(10)
                seen.append(f"{name} slept")
            finally:
                seen.append(f"{name} unwound")

        return main

    async def test() -> None:
        sim = simloop.current()
        first, second = (asyncio.create_task(sim.host(name).run(blocks(name))) for name in ("one", "two"))
        await asyncio.sleep(1)
        sim.host("one").crash()
        with pytest.raises(simloop.HostCrashedError):
            await first
        await second

    simloop.run(test)
    assert seen == ["one unwound", "two slept", "two unwound"]


def test_what_ends_the_run_is_no_business_of_the_program_that_blocks() -> None:
    seen: list[str] = []

    async def test() -> None:
        @simloop.current().program("stuck")
        async def stuck(proc: simloop.SimProcess) -> None:
            try:
                os.read(os.pipe()[0], 1)
            except Exception as error:
                seen.append(repr(error))

        subprocess.Popen(["stuck"]).wait()

    warnings.simplefilter("ignore")
    with pytest.raises(simloop.DeadlockError):
        simloop.run(test)
    assert seen == []


def test_ctrl_c_in_a_program_ends_the_test() -> None:
    async def test() -> None:
        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            time.sleep(1)
            raise KeyboardInterrupt  # as the real signal's handler does, in whichever code runs

        subprocess.Popen(["tool"]).wait()

    warnings.simplefilter("ignore")
    with pytest.raises(KeyboardInterrupt):
        simloop.run(test)


def test_each_kind_of_stack_runs_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(seed: int) -> tuple[int, int]:
        from simloop.choices.choices import Choices
        from simloop.choices.draws import seeded
        from simloop.simulation.limits import make_limits
        from simloop.simulation.run import execute

        choices = Choices(seed, seeded(seed))
        outcome = execute(take_turns_by_a_lock_file, choices, make_limits({}))
        assert outcome.exception is None
        return choices.step_digest, outcome.fingerprint

    here = [digest(seed) for seed in range(5)]
    monkeypatch.setattr(stacks, "_greenlet", lambda: None)
    assert [digest(seed) for seed in range(5)] == here
    assert sys.gettrace() is None or len(set(here)) > 1
