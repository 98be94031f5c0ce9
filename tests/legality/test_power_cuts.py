"""What Linux guarantees after a power cut holds in each of many worlds, whenever the cut comes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sizes import examples

import simloop

RUNS = examples(1000)
Main = Callable[[], Coroutine[Any, Any, Any]]


def sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


async def cut_while(host: simloop.SimHost, main: Main) -> None:
    """Run `main` on the host, whose power is cut at some time before its end, or then."""
    host.may_crash()
    with contextlib.suppress(simloop.HostCrashedError):
        await host.run(main)
    host.crash()
    host.restart()


async def what_was_synced_is_there(host: simloop.SimHost) -> None:
    host.fs.write_tree({"/d": {}})
    synced: dict[str, bytes] = {}

    async def write() -> None:
        for name in "abc":
            with open(f"/d/{name}", "wb") as file:
                file.write(name.encode() * 5000)
                file.flush()
                os.fsync(file.fileno())
            sync("/d")
            synced[name] = name.encode() * 5000

    await cut_while(host, write)
    kept = host.fs.tree("/d")
    assert synced.items() <= kept.items()


async def a_replaced_file_is_the_old_one_or_the_new_one(host: simloop.SimHost) -> None:
    versions = [b"%d" % number * 6000 for number in range(4)]
    host.fs.write_tree({"/d/file": versions[0]})
    done = 0

    async def replace() -> None:
        nonlocal done
        for number, version in enumerate(versions[1:], 1):
            with open("/d/new", "wb") as file:
                file.write(version)
                file.flush()
                os.fsync(file.fileno())
            os.replace("/d/new", "/d/file")
            sync("/d")
            done = number

    await cut_while(host, replace)
    assert host.fs.read_bytes("/d/file") in versions[done : done + 2]


async def an_appended_file_keeps_its_beginning(host: simloop.SimHost) -> None:
    host.fs.write_tree({"/log": b""})
    records = [bytes([65 + number]) * 1700 for number in range(8)]
    synced = 0

    async def append() -> None:
        nonlocal synced
        fd = os.open("/log", os.O_WRONLY | os.O_APPEND)
        for record in records:
            os.write(fd, record)
            os.fdatasync(fd)
            synced += len(record)

    await cut_while(host, append)
    assert host.fs.read_bytes("/log")[:synced] == b"".join(records)[:synced]


async def what_is_removed_for_good_stays_away(host: simloop.SimHost) -> None:
    host.fs.write_tree({"/d": {"a": "1", "b": "2"}})
    gone = False

    async def remove() -> None:
        nonlocal gone
        os.unlink("/d/a")
        sync("/d")
        gone = True
        os.rename("/d/b", "/d/c")

    await cut_while(host, remove)
    kept = host.fs.tree("/d")
    assert not gone or "a" not in kept
    # A rename is one step on ext4; POSIX does not say so of power cuts.
    assert b"2" in kept.values() or host.fs.profile == "posix"


async def a_client_that_asks_again_is_answered(host: simloop.SimHost) -> None:
    host.fs.write_tree({"/count": "0"})

    async def serve() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                if await reader.readline():
                    with open("/asked", "a") as file:
                        file.write("x")
                    writer.write(b"yes\n")

        async with await asyncio.start_server(answer, "0.0.0.0", 80) as server:
            await server.serve_forever()

    async def keep_up() -> None:
        while True:
            with contextlib.suppress(simloop.HostCrashedError):
                await host.run(serve)
            await asyncio.sleep(5)
            host.restart()

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(host.ip, 80)
        with contextlib.closing(writer):
            writer.write(b"?\n")
            return await reader.readline()

    host.may_crash()
    keeping = asyncio.create_task(keep_up())
    await asyncio.sleep(0.1)
    for _ in range(3):
        answered = b""
        while answered != b"yes\n":
            with contextlib.suppress(OSError, TimeoutError):
                answered = await asyncio.wait_for(ask(), 10)
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


@pytest.mark.parametrize("profile", ["ext4-ordered", "posix"])
@pytest.mark.parametrize(
    "program",
    [
        what_was_synced_is_there,
        a_replaced_file_is_the_old_one_or_the_new_one,
        an_appended_file_keeps_its_beginning,
        what_is_removed_for_good_stays_away,
        a_client_that_asks_again_is_answered,
    ],
)
def test_it_holds_in_every_world(program: Callable[[simloop.SimHost], Coroutine[Any, Any, None]], profile: str) -> None:
    async def main() -> None:
        host = simloop.current().host("db")
        host.fs.profile = profile
        await program(host)

    report = simloop.explore(main, runs=RUNS, seed=7)
    assert report.failure is None, report.failure.describe()
