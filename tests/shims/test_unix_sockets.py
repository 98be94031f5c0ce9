"""Unix sockets between the processes and hosts of a world: what `tests/parity` cannot compare with Linux."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import random_walk
from simloop.kernel.clock import Clock
from simloop.kernel.descriptors import DescriptorTable
from simloop.kernel.files.calls import FileCalls
from simloop.kernel.files.filesystem import FileSystem
from simloop.kernel.files.resolve import Credentials
from simloop.kernel.wall import WallClock
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

UNIX = socket.AF_UNIX


async def lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


# --- processes and hosts ----------------------------------------------------------------------------


def test_children_inherit_one_end_and_talk_over_it() -> None:
    async def main() -> list[Any]:
        sim = simloop.current()

        @sim.program("worker")
        async def worker(proc: simloop.SimProcess) -> None:
            with socket.socket(fileno=int(proc.argv[1])) as sock:
                _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                sock.sendall(b"%d %d\n" % (os.getpid(), uid == os.getuid()))
                assert sock.recv(100) == b"thanks"

        ours, theirs = socket.socketpair()
        child = await asyncio.create_subprocess_exec("worker", str(theirs.fileno()), pass_fds=[theirs.fileno()])
        theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        told = await reader.readline()
        writer.write(b"thanks")
        assert await child.wait() == 0
        assert await reader.read() == b""  # its end is closed with it
        writer.close()
        return [told, b"%d 1\n" % child.pid]

    told, expected = simloop.run(main)
    assert told == expected


def test_a_socket_as_standard_streams() -> None:
    async def main() -> bytes:
        sim = simloop.current()

        @sim.program("upper")
        async def upper(proc: simloop.SimProcess) -> None:
            while line := await proc.stdin.readline():
                proc.stdout.write(line.upper())
                await proc.stdout.drain()

        ours, theirs = socket.socketpair()
        child = subprocess.Popen(["upper"], stdin=theirs, stdout=theirs)
        theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(b"one\ntwo\n")
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await asyncio.to_thread(child.wait)
        return answer

    assert simloop.run(main) == b"ONE\nTWO\n"


def test_files_are_passed_between_processes() -> None:
    async def main() -> bytes:
        sim = simloop.current()

        @sim.program("opener")
        async def opener(proc: simloop.SimProcess) -> None:
            with socket.socket(fileno=int(proc.argv[1])) as sock, open("secret", "wb+") as file:
                file.write(b"contents")
                file.flush()
                socket.send_fds(sock, [b"x"], [file.fileno()])

        ours, theirs = socket.socketpair()
        child = await asyncio.create_subprocess_exec("opener", str(theirs.fileno()), pass_fds=[theirs.fileno()])
        assert await child.wait() == 0
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        assert os.lseek(fds[0], 0, os.SEEK_SET) == 0  # shared with the other process's file
        return os.read(fds[0], 100)

    assert simloop.run(main) == b"contents"


def test_each_host_has_names_of_its_own() -> None:
    async def main() -> list[Any]:
        sim = simloop.current()
        found: list[Any] = []

        async def service() -> None:
            async with await asyncio.start_unix_server(lines, "/tmp/service"):
                with socket.socket(UNIX) as sock:
                    sock.bind("\0taken")
                    found.append("served")
                    await asyncio.sleep(10)

        async def client(name: str) -> None:
            try:
                _, writer = await asyncio.open_unix_connection("/tmp/service")
            except OSError as error:
                found.append((name, type(error).__name__))
            else:
                writer.close()
                found.append((name, "connected"))
            with socket.socket(UNIX) as sock:
                try:
                    sock.bind("\0taken")
                except OSError as error:
                    found.append((name, error.strerror))

        here, there = sim.host("here"), sim.host("there")
        serving = asyncio.ensure_future(here.run(service))
        await asyncio.sleep(1)
        await there.run(partial(client, "there"))
        await here.run(partial(client, "here"))
        serving.cancel()
        return found

    assert simloop.run(main) == [
        "served", ("there", "FileNotFoundError"), ("here", "connected"), ("here", "Address already in use")
    ]  # fmt: skip


def test_a_power_cut_leaves_the_file_and_nobody_behind_it() -> None:
    async def main() -> list[str]:
        sim = simloop.current()
        host = sim.host("db")
        found: list[str] = []

        async def serve() -> None:
            server = await asyncio.start_unix_server(lines, "/srv.sock")
            fd = os.open("/", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            with socket.socket(UNIX) as sock:
                sock.bind("\0name")
                await server.serve_forever()

        async def look() -> None:
            for name in ("/srv.sock", "\0name"):
                try:
                    await asyncio.open_unix_connection(name)
                except OSError as error:
                    found.append(type(error).__name__)
            with socket.socket(UNIX) as sock:
                sock.bind("\0name")  # free again

        running = asyncio.ensure_future(host.run(serve))
        await asyncio.sleep(1)
        host.crash()
        await asyncio.gather(running, return_exceptions=True)
        host.restart()
        await host.run(look)
        return found

    assert simloop.run(main) == ["ConnectionRefusedError", "ConnectionRefusedError"]


def test_permissions_of_a_path() -> None:
    fs = FileSystem(WallClock(Clock()))
    root = FileCalls(fs, DescriptorTable())
    user = FileCalls(fs, DescriptorTable(), Credentials(1000, 1000))
    root.mkdir("/run", 0o755)
    root.make_socket("/run/root", 0o755)
    root.make_socket("/run/all", 0o777)
    root.chmod("/run/all", 0o777)
    with pytest.raises(PermissionError):
        user.find_socket("/run/root")
    assert user.find_socket("/run/all").ino
    with pytest.raises(PermissionError):
        user.make_socket("/run/mine", 0o777)


# --- orders -------------------------------------------------------------------------------------------


async def two_clients() -> list[bytes]:
    """Wrong: it takes for granted which of two processes is served first."""
    sim = simloop.current()
    order: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        order.append(await reader.readline())
        writer.close()

    @sim.program("client")
    async def client(proc: simloop.SimProcess) -> None:
        reader, writer = await asyncio.open_unix_connection("/tmp/order.sock")
        writer.write(f"{proc.argv[1]}\n".encode())
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(serve, "/tmp/order.sock"):
        children = [await asyncio.create_subprocess_exec("client", name) for name in ("first", "second")]
        for child in children:
            await child.wait()
    return order


async def takes_order_for_granted() -> None:
    assert await two_clients() == [b"first\n", b"second\n"]


def test_a_race_over_a_unix_socket_is_found() -> None:
    report = simloop.explore(takes_order_for_granted, runs=100)
    assert report.failure is not None
    with pytest.raises(AssertionError):
        simloop.replay(takes_order_for_granted, report.failure.token)


def test_runs_repeat_and_data_over_a_pair_are_never_late() -> None:
    async def main() -> list[bytes]:
        order = await two_clients()
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            arrived: list[bytes] = []
            loop = asyncio.get_running_loop()
            loop.add_reader(other, lambda: arrived.append(other.recv(10)))
            one.send(b"now")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            # As on Linux: the poll after a send sees it, whatever the environment does.
            assert arrived == [b"now"]
            loop.remove_reader(other)
        return order

    digests = set()
    for seed in range(20):
        found = [execute(main, Choices(seed, random_walk(seed)), Limits()) for _ in range(2)]
        assert found[0].choices.digest == found[1].choices.digest
        assert found[0].value == found[1].value
        assert found[0].exception is None
        digests.add(found[0].choices.digest)
    assert len(digests) > 1


# --- what escapes -----------------------------------------------------------------------------------------


def test_a_socket_of_the_real_machine_escapes(tmp_path: Path) -> None:
    path = tmp_path / "real.sock"
    with socket.socket(UNIX) as real:
        real.bind(str(path))
        real.listen()

        async def main() -> None:
            await asyncio.open_unix_connection(str(path))

        with pytest.raises(simloop.EscapedSimulationError, match=r"the unix socket '.*real.sock' is outside"):
            simloop.run(main)


def test_a_real_descriptor_escapes_and_a_closed_one_does_not() -> None:
    with socket.socket() as real:
        fd = real.fileno()

        async def main() -> None:
            socket.socket(fileno=fd)

        with pytest.raises(simloop.EscapedSimulationError, match="the real descriptor"):
            simloop.run(main)
    fd = 999_999
    with pytest.raises(OSError, match="Bad file descriptor"):
        simloop.run(main)


def test_sockets_of_the_c_module_escape() -> None:
    import _socket

    async def main() -> None:
        _socket.socket()

    with pytest.raises(simloop.EscapedSimulationError, match="a socket of the C module _socket"):
        simloop.run(main)
