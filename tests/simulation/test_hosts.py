"""Hosts as machines: they lose their power, and come back with what their disk kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.schedule import Schedule
from simloop.loop import crashed_tasks as stopped
from simloop.loop.crashed_tasks import KEPT_MAX
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute
from simloop.world.world import World

Main = Callable[[], Coroutine[Any, Any, Any]]


async def until_crash(host: simloop.SimHost, main: Main, after: float = 0.5) -> None:
    """Run `main` on the host and cut the power while it runs."""
    running = asyncio.create_task(host.run(main))
    await asyncio.sleep(after)
    host.crash()
    with pytest.raises(simloop.HostCrashedError, match="lost power while it ran"):
        await running


def test_tasks_stop_where_they_are() -> None:
    seen: list[str] = []

    async def victim() -> None:
        async def child() -> None:
            try:
                await asyncio.sleep(1)
                seen.append("child went on")
            finally:
                seen.append("finally of the child")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
        except BaseException:
            seen.append("except")
            raise
        finally:
            seen.append("finally")

    async def test() -> None:
        host = simloop.current().host("db")
        await until_crash(host, victim)
        await asyncio.sleep(5)

    simloop.run(test)
    assert seen == []


def test_a_blocking_call_is_unwound_and_reaches_nothing_on_its_way_out() -> None:
    seen: list[str] = []

    async def victim() -> None:
        try:
            time.sleep(10)
        except Exception:
            seen.append("except")
        finally:
            for call in (lambda: os.open("/b", os.O_CREAT), lambda: time.sleep(1), lambda: os.mkdir("/c")):
                try:
                    call()
                except BaseException as error:
                    seen.append(type(error).__name__)

    async def test() -> dict[str, bytes]:
        host = simloop.current().host("db")
        host.fs.write_tree({"/d": {"a": "kept"}})
        await until_crash(host, victim)
        assert simloop.current().elapsed < 1
        with pytest.raises(FileNotFoundError):
            host.fs.read_bytes("/b")
        return host.fs.tree("/d")

    assert simloop.run(test) == {"a": b"kept"}
    assert seen == ["ProcessGone"] * 3


def test_a_thread_goes_no_further() -> None:
    seen: list[str] = []

    def work() -> None:
        time.sleep(1)
        seen.append("went on")

    async def victim() -> None:
        await asyncio.to_thread(work)

    async def test() -> None:
        await until_crash(simloop.current().host("db"), victim)
        await asyncio.sleep(10)

    simloop.run(test)
    assert seen == []


async def echo() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while data := await reader.read(100):
                writer.write(data)

    async with await asyncio.start_server(serve, "0.0.0.0", 7000) as server:
        await server.serve_forever()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected(host: simloop.SimHost) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(host.ip, 7000)
    try:
        writer.write(b"hello")
        assert await reader.read(100) == b"hello"
        yield reader, writer
    finally:
        writer.close()


def on_a_host(body: Callable[[simloop.SimHost, asyncio.Task[None]], Awaitable[Any]]) -> Any:
    """Run `body` beside an echo server on a host of its own."""

    async def test() -> Any:
        host = simloop.current().host("db")
        server = asyncio.create_task(host.run(echo))
        await asyncio.sleep(0.1)
        try:
            return await body(host, server)
        finally:
            host.crash()
            with contextlib.suppress(simloop.HostCrashedError):
                await server

    return simloop.run(test)


def test_a_peer_that_waits_hears_nothing() -> None:
    async def body(host: simloop.SimHost, server: asyncio.Task[None]) -> None:
        async with connected(host) as (reader, _):
            host.crash()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(), 3600)

    on_a_host(body)


def test_a_peer_that_sends_gives_up_after_fifteen_minutes() -> None:
    async def body(host: simloop.SimHost, server: asyncio.Task[None]) -> float:
        async with connected(host) as (reader, writer):
            host.crash()
            began = simloop.current().elapsed
            writer.write(b"more")
            with pytest.raises(TimeoutError, match="timed out"):
                await reader.read()
        return simloop.current().elapsed - began

    # ip-sysctl.rst on tcp_retries2: "a hypothetical timeout of 924.6 seconds".
    assert 924 < on_a_host(body) < 926


def test_a_peer_that_sends_is_reset_once_the_host_is_up_again() -> None:
    async def body(host: simloop.SimHost, server: asyncio.Task[None]) -> float:
        async with connected(host) as (reader, writer):
            host.crash()
            writer.write(b"more")
            await asyncio.sleep(1)
            host.restart()
            began = simloop.current().elapsed
            with pytest.raises(ConnectionResetError):
                await reader.read()
        return simloop.current().elapsed - began

    assert on_a_host(body) < 2  # at the next retransmission


def test_data_that_were_on_their_way_still_arrive() -> None:
    async def answer() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                writer.write(await reader.read(100))

        async with await asyncio.start_server(serve, "0.0.0.0", 7000) as server:
            await server.serve_forever()

    async def test() -> bytes:
        host = simloop.current().host("db")
        running = asyncio.create_task(host.run(answer))
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_connection(host.ip, 7000)
        writer.write(b"question")
        await asyncio.sleep(0.0006)  # there, and half-way back: a link takes half a millisecond
        host.crash()
        data = await reader.read(100)
        writer.close()
        with pytest.raises(simloop.HostCrashedError):
            await running
        return data

    assert simloop.run(test) == b"question"


def test_nobody_answers_connections_to_a_host_without_power_and_nobody_listens_after_it() -> None:
    async def body(host: simloop.SimHost, server: asyncio.Task[None]) -> None:
        host.crash()
        began = simloop.current().elapsed
        with pytest.raises(TimeoutError):
            await asyncio.open_connection(host.ip, 7000)
        assert 131 <= simloop.current().elapsed - began < 132  # ip-sysctl.rst on tcp_syn_retries
        host.restart()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host.ip, 7000)

    on_a_host(body)


def test_a_host_that_is_up_again_serves_on_the_same_port() -> None:
    async def body(host: simloop.SimHost, server: asyncio.Task[None]) -> None:
        async with connected(host):
            host.crash()
        host.restart()
        again = asyncio.create_task(host.run(echo))
        await asyncio.sleep(0.1)
        async with connected(host):
            pass
        again.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await again

    on_a_host(body)


def test_its_disk_keeps_what_was_synced() -> None:
    async def write() -> None:
        with open("/a", "w") as file:
            file.write("synced")
            file.flush()
            os.fsync(file.fileno())
            file.write(", and more")
            file.flush()
            await asyncio.sleep(1)

    async def read() -> str:
        with open("/a") as file:
            return file.read()

    async def test() -> str:
        host = simloop.current().host("db")
        await until_crash(host, write)
        host.restart()
        return await host.run(read)

    assert simloop.run(test) == "synced, and more"
    worst = execute(test, Choices(0, lambda who, kind, number, n: n - 1 if kind == "disk.crash" else 0), Limits())
    assert worst.value == "synced"


def test_hosts_have_files_of_their_own() -> None:
    async def write() -> None:
        with open("/tmp/mine", "w") as file:
            file.write(simloop.current().host("a").name)

    async def test() -> tuple[bool, bool, bool]:
        sim = simloop.current()
        await sim.host("a").run(write)
        return tuple("/tmp/mine" in sim.host(name).fs.tree() for name in ("a", "b", "localhost"))  # type: ignore[return-value]

    assert simloop.run(test) == (True, False, False)


def test_what_cannot_be() -> None:
    async def test() -> None:
        sim = simloop.current()
        with pytest.raises(simloop.WorldError, match="the test itself runs on 'localhost'"):
            sim.host("localhost").crash()
        with pytest.raises(simloop.WorldError, match="the test itself runs"):
            sim.host("localhost").may_crash()
        host = sim.host("db")
        assert host.up
        host.restart()
        host.crash()
        host.crash()
        assert not host.up
        with pytest.raises(simloop.WorldError, match="host 'db' has no power"):
            await host.run(echo)

    simloop.run(test)


def test_a_process_can_pull_its_own_plug() -> None:
    seen: list[str] = []

    async def main() -> None:
        simloop.current().host("db").crash()
        seen.append("went on")

    async def test() -> None:
        with pytest.raises(simloop.HostCrashedError):
            await simloop.current().host("db").run(main)

    simloop.run(test)
    assert seen == []


# --- may_crash ------------------------------------------------------------------------------------------


async def promises() -> None:
    """Says that something is on disk before it is."""
    host = simloop.current().host("db")
    host.fs.write_tree({"/d": {}})
    said: list[str] = []

    async def write() -> None:
        for name in "abc":
            fd = os.open(f"/d/{name}", os.O_CREAT | os.O_WRONLY)
            os.write(fd, b"data")
            said.append(name)
            os.fsync(fd)

    host.may_crash()
    with contextlib.suppress(simloop.HostCrashedError):
        await host.run(write)
    host.crash()
    kept = host.fs.tree("/d")
    assert all(kept.get(name) == b"data" for name in said), said


def test_the_environment_may_cut_the_power_before_each_change_of_a_file() -> None:
    host_points: list[tuple[str, int]] = []
    found = execute(promises, Choices(0, None), Limits())
    assert found.exception is None
    host_points = [(who, number) for who, kind, number, _, _ in found.choices.recorded if kind == "host.crash"]
    assert host_points == [
        (f"db:before {what} /d/{name}", 1) for name in "abc" for what in ("making", "writing to", "syncing")
    ]  # fmt: skip


def test_it_is_found_shrunk_and_told() -> None:
    report = simloop.explore(promises)
    failure = report.failure
    assert failure is not None
    assert failure.strategy == "crash sweep"
    assert sorted(point.kind for point in failure.schedule.deviations) == ["disk.journal", "host.crash"]
    cut, lost = failure.story
    here = r" \(\S*test_hosts.py:\d+\)"
    assert re.fullmatch(f"the power of db was cut right before syncing /d/[abc]{here}", cut)
    assert re.fullmatch(f"the power cut of db came before making /d/[abc] was on disk{here}", lost)
    with pytest.raises(AssertionError):
        simloop.replay(promises, failure.token)


def test_a_cut_by_choice_comes_once_and_unwinds_a_thread_like_any_other() -> None:
    async def test() -> None:
        host = simloop.current().host("db")

        async def write() -> None:
            def both() -> None:
                with contextlib.suppress(Exception):
                    os.mkdir("/x")
                os.mkdir("/y")

            await asyncio.to_thread(both)

        host.may_crash()
        with pytest.raises(simloop.HostCrashedError):
            await host.run(write)
        host.restart()
        with pytest.raises(FileNotFoundError):
            host.fs.tree("/y")
        await host.run(write)  # is not cut off again

    def cut(who: str, kind: str, number: int, n: int) -> int:
        return int(kind == "host.crash" and who == "db:before making /x")

    assert execute(test, Choices(0, cut), Limits()).exception is None


async def counts_in_memory() -> None:
    sim = simloop.current()
    host = sim.host("db")

    async def count() -> None:
        number = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal number
            await reader.readline()
            number += 1
            writer.write(b"%d\n" % number)
            writer.close()

        async with await asyncio.start_server(answer, "0.0.0.0", 80) as server:
            await server.serve_forever()

    async def keep_running() -> None:
        while True:
            with contextlib.suppress(simloop.HostCrashedError):
                await host.run(count)
            host.restart()

    host.may_crash()
    running = asyncio.create_task(keep_running())
    await asyncio.sleep(1)
    answers = []
    for _ in range(2):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("db", 80)
            writer.write(b"next\n")
            answers.append(await reader.readline())
            writer.close()
        await asyncio.sleep(1)
    running.cancel()
    await asyncio.wait([running])
    assert answers == [b"1\n", b"2\n"]


def test_the_power_may_be_cut_as_data_have_left_a_host() -> None:
    """What is in memory alone is lost, and somebody has heard of it."""
    failure = simloop.explore(counts_in_memory).failure
    assert failure is not None
    assert failure.story == [r"the power of db was cut right after '1\n' (2 bytes) on its way from db:80 had left"]
    assert failure.exception.args[0].startswith("assert [b'1\\n', b'1\\n']")
    with pytest.raises(AssertionError):
        simloop.replay(counts_in_memory, failure.token)


def test_two_losses_are_never_taken_for_the_same_run() -> None:
    def outcome(answer: int) -> int:
        def decide(who: str, kind: str, number: int, n: int) -> int:
            return min(answer, n - 1) if kind == "disk.journal" else 0

        return execute(promises, Choices(0, decide), Limits()).fingerprint

    assert len({outcome(answer) for answer in range(3)}) == 1  # fsync of a file commits everything in ext4

    async def unsynced() -> None:
        host = simloop.current().host("db")

        async def make() -> None:
            for name in "ab":
                os.mkdir(f"/{name}")

        await host.run(make)
        host.crash()

    def run(answer: int) -> int:
        decide = Schedule(deviations={}).decider() if not answer else lambda who, kind, number, n: min(answer, n - 1)
        return execute(unsynced, Choices(0, decide if answer else None), Limits()).fingerprint

    assert len({run(answer) for answer in range(3)}) == 3


# --- what is left of it ---------------------------------------------------------------------------------


def test_what_was_stopped_is_kept_up_to_a_number_and_then_closed_where_nothing_can_be_reached() -> None:
    stopped.close(0)
    seen: list[object] = []

    async def victim() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            try:
                os.mkdir("/real")
            except BaseException as error:
                seen.append(type(error).__name__)

    async def test() -> None:
        host = simloop.current().host("db")

        async def many() -> None:
            for _ in range(KEPT_MAX // 3 - 1):
                asyncio.create_task(victim())  # noqa: RUF006
            await asyncio.sleep(1)

        await until_crash(host, many)

    for _ in range(3):
        simloop.run(test)
    assert seen == []
    simloop.run(test)
    assert len(seen) == 3 * (KEPT_MAX // 3 - 1)
    stopped.close(0)
    assert set(seen) == {"ProcessGone"}
    assert not os.path.exists("/real")


def test_a_crash_leaves_nothing_to_the_collector() -> None:
    import gc

    def worlds() -> int:
        return sum(isinstance(thing, World) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = worlds()
        for seed in range(20):
            execute(promises, Choices(seed, lambda who, kind, number, n: int(kind == "host.crash")), Limits())
        assert worlds() == before
    finally:
        gc.enable()
