# ruff: noqa: SIM115
"""Pipes below asyncio: transports as on the stock loop, waiting in virtual time, what a power cut leaves."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import time
from collections.abc import Awaitable, Callable
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import seeded
from simloop.choices.schedule import Schedule
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute
from simloop.world import active

Program = Callable[[], Awaitable[list[Any]]]


class Reads(asyncio.Protocol):
    """Notes what comes, in one piece, and how it ends."""

    def __init__(self) -> None:
        self.data = b""
        self.log: list[Any] = []
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.log.append(type(transport).__name__)

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.log.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append(("lost", exc and type(exc).__name__))
        self.over.set_result(None)


class Writes(asyncio.BaseProtocol):
    """Notes when it is to pause, and how it ends."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.log.append(type(transport).__name__)

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append(("lost", exc and type(exc).__name__))
        self.over.set_result(None)


async def reading(fd: int) -> tuple[asyncio.ReadTransport, Reads]:
    return await asyncio.get_running_loop().connect_read_pipe(Reads, os.fdopen(fd, "rb", 0))


async def writing(fd: int) -> tuple[asyncio.WriteTransport, Writes]:
    return await asyncio.get_running_loop().connect_write_pipe(Writes, os.fdopen(fd, "wb", 0))


async def streams(fds: tuple[int, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fds[0]))
    flow: Any = asyncio.streams.FlowControlMixin  # type: ignore[attr-defined]
    transport, protocol = await loop.connect_write_pipe(flow, os.fdopen(fds[1], "w"))
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


# --- as on the stock loop -----------------------------------------------------------------------------------


async def there_and_back() -> list[Any]:
    """A line, and its answer, over two pipes."""
    here, there = os.pipe(), os.pipe()
    (requests, answer), (answers, ask) = await streams((here[0], there[1])), await streams((there[0], here[1]))

    async def serve() -> None:
        while line := await requests.readline():
            answer.write(line.upper())
            await answer.drain()
        answer.close()

    task = asyncio.create_task(serve())
    found: list[Any] = []
    for number in range(5):
        ask.write(b"line %d\n" % number)
        found.append(await answers.readline())
    ask.close()
    await task
    return [*found, await answers.read(), answers.at_eof()]


async def more_than_fits() -> list[Any]:
    """Drain waits for the reader; what was written comes whole."""
    r, w = os.pipe()
    reader, writer = await streams((r, w))
    size = 300_000

    async def produce() -> list[int]:
        buffered = []
        for number in range(10):
            writer.write(bytes([number]) * size)
            buffered.append(writer.transport.get_write_buffer_size() > 0)
            await writer.drain()
        writer.close()
        return buffered

    task = asyncio.create_task(produce())
    data = await reader.read()
    return [await task, len(data), all(data[number * size] == number for number in range(10))]


async def full() -> list[Any]:
    """How much a pipe takes before the transport keeps the rest, and when it says so."""
    r, w = os.pipe()
    transport, protocol = await writing(w)
    transport.write(b"x" * 50_000)
    found: list[Any] = [transport.get_write_buffer_size()]
    for _ in range(3):
        transport.write(b"y" * 50_000)
        found.append((transport.get_write_buffer_size(), list(protocol.log)))
    left, other = await reading(r)
    transport.close()
    found += [transport.is_closing(), left.is_closing()]
    await protocol.over
    await other.over
    return [*found, len(other.data), other.log, protocol.log, transport.get_write_buffer_size()]


async def pausing() -> list[Any]:
    """A reader that pauses gets nothing, and the pipe fills up."""
    r, w = os.pipe()
    (reader, got), (writer, gave) = await reading(r), await writing(w)
    writer.write(b"before")
    await asyncio.sleep(0.01)
    reader.pause_reading()
    writer.write(b"z" * 200_000)
    await asyncio.sleep(0.01)
    found: list[Any] = [got.data, writer.get_write_buffer_size(), reader.is_reading()]
    reader.resume_reading()
    while len(got.data) < 200_006:
        await asyncio.sleep(0)
    writer.close()
    await asyncio.gather(got.over, gave.over)
    return [*found, got.log, gave.log]


async def reader_goes() -> list[Any]:
    """Who writes hears that nobody reads any more: at once, and with an error if something was left."""
    found: list[Any] = []
    for size in (0, 1_000, 300_000):
        r, w = os.pipe()
        (reader, got), (writer, gave) = await reading(r), await writing(w)
        reader.pause_reading()
        writer.write(bytes(size))
        await asyncio.sleep(0.01)
        reader.close()
        await asyncio.gather(got.over, gave.over)
        writer.write(b"late")
        found += [got.log, gave.log, writer.is_closing()]
    r, w = os.pipe()
    os.close(r)
    writer, gave = await writing(w)
    writer.write(b"x")
    await gave.over
    return [*found, gave.log]


async def writer_goes() -> list[Any]:
    """What is in the pipe comes before its end; aborting loses what is not."""
    r, w = os.pipe()
    writer, gave = await writing(w)
    writer.write(bytes(100_000))
    if hasattr(writer, "write_eof"):
        writer.write_eof()
    found: list[Any] = [writer.can_write_eof(), writer.is_closing()]
    writer.abort()
    await gave.over
    reader, got = await reading(r)
    await got.over
    return [*found, gave.log, len(got.data), got.log, reader.is_closing()]


async def others() -> list[Any]:
    """What no pipe transport takes, and pipes without a transport."""
    loop = asyncio.get_running_loop()
    found: list[Any] = []
    Path("file").write_text("x")
    for connect in (loop.connect_read_pipe, loop.connect_write_pipe):
        try:
            await connect(asyncio.Protocol, open("file", "r+b", 0))
        except ValueError as error:
            found.append(str(error))
    r, w = os.pipe()
    readable, writable = loop.create_future(), loop.create_future()
    loop.add_writer(w, lambda: (loop.remove_writer(w), writable.set_result(os.write(w, b"abc"))))
    loop.add_reader(r, lambda: (loop.remove_reader(r), readable.set_result(os.read(r, 10))))
    return [*found, await readable, await writable]


async def fifo() -> list[Any]:
    """Over a name, whose two ends open each other."""
    os.mkfifo("fifo")
    loop = asyncio.get_running_loop()
    wide = loop.run_in_executor(None, lambda: open("fifo", "wb", 0))
    file = await loop.run_in_executor(None, lambda: open("fifo", "rb", 0))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    writer, gave = await loop.connect_write_pipe(Writes, await wide)
    writer.write(b"through a name")
    writer.close()
    await gave.over
    return [await reader.read(), gave.log]


PROGRAMS = [there_and_back, more_than_fits, full, pausing, reader_goes, writer_goes, others, fifo]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_transports_as_on_the_stock_loop(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("real", "simulated"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "real")
    expected = asyncio.run(program())  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path / "simulated")
    assert simloop.run(program) == expected
    for seed in range(1, 20):
        outcome = execute(program, Choices(seed, seeded(seed)), Limits())
        assert (outcome.exception, outcome.value) == (None, expected), seed


# --- determinism ----------------------------------------------------------------------------------------------


async def several() -> str:
    """Which of several pipes is heard first, where all have something."""
    loop = asyncio.get_running_loop()
    order: list[str] = []
    ends = [os.pipe() for _ in range(3)]
    for name, (r, _) in zip("abc", ends, strict=True):
        loop.add_reader(r, lambda name=name, r=r: (order.append(name), os.read(r, 1)))
    for _, w in ends:
        os.write(w, b"x")
    while len(order) < 3:
        await asyncio.sleep(0)
    for r, _ in ends:
        loop.remove_reader(r)
    return "".join(order)


def answering(kind: str, *answers: int) -> Callable[[str, str, int, int], int]:
    waiting = list(answers)
    return lambda who, asked, number, n: waiting.pop(0) if asked == kind and waiting else 0


def test_the_environment_says_which_pipe_is_heard_first() -> None:
    found = []
    for first in range(2):
        for second in range(3):
            runs = [execute(several, Choices(0, answering("poll.order", first, second)), Limits())]
            deviations = runs[0].choices.deviations()
            runs.append(execute(several, Choices(0, Schedule(deviations=deviations).decider()), Limits()))
            assert runs[0].value == runs[1].value
            assert runs[0].choices.digest == runs[1].choices.digest
            assert {point.who for point in deviations} <= {"localhost:pipe1 (read end)", "localhost:pipe2 (read end)"}
            found.append(runs[0].value)
    assert found[0] == "abc"
    assert sorted(found) == ["abc", "acb", "bac", "bca", "cab", "cba"]


# --- waiting --------------------------------------------------------------------------------------------------


def test_a_read_waits_in_virtual_time() -> None:
    async def main() -> list[Any]:
        r, w = os.pipe()

        def later() -> int:
            time.sleep(50)
            return os.write(w, b"at last")

        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = loop.run_in_executor(None, os.read, r, 100)
        await loop.run_in_executor(None, later)
        return [await waiting, round(loop.time() - began, 1)]

    assert simloop.run(main) == [b"at last", 50.0]


def test_a_read_of_what_nobody_will_write_is_a_deadlock() -> None:
    async def main() -> None:
        os.read(os.pipe()[0], 1)

    with pytest.raises(simloop.DeadlockError):
        simloop.run(main)


def test_a_write_that_fails_in_a_thread_fails_there() -> None:
    """The scheduler asks whether it can go on, and must not be hit by what it raises."""

    async def main() -> str:
        r, w = os.pipe()
        os.write(w, bytes(65_536))
        task = asyncio.get_running_loop().run_in_executor(None, os.write, w, b"x")
        await asyncio.sleep(1)
        os.close(r)
        try:
            await task
        except BrokenPipeError:
            return "there"
        return "nowhere"

    assert simloop.run(main) == "there"


def test_each_process_has_descriptors_of_its_own() -> None:
    async def main() -> list[Any]:
        r, _ = os.pipe()

        async def other() -> list[Any]:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(r)
            own = os.pipe()
            return [own[0] == r, os.write(own[1], b"x")]

        return await simloop.current().host("db").run(other)

    assert simloop.run(main) == [True, 1]


def test_a_power_cut_takes_pipes_along() -> None:
    """Those who wait at one get no further, and a fifo begins anew."""

    async def main() -> list[Any]:
        sim = simloop.current()
        db = sim.host("db")
        seen: list[Any] = []

        async def waits() -> None:
            os.mkfifo("/fifo")
            fd = os.open("/fifo", os.O_RDWR)
            os.write(fd, b"lost")
            os.sync()
            try:
                os.read(os.pipe2(0)[0], 1)
            finally:
                seen.append("unwound")

        async def looks() -> None:
            with pytest.raises(OSError, match="No such device or address"):
                os.open("/fifo", os.O_WRONLY | os.O_NONBLOCK)
            seen.append(os.read(os.open("/fifo", os.O_RDONLY | os.O_NONBLOCK), 9))

        async def cut() -> None:
            await asyncio.sleep(1)
            db.crash()
            db.restart()
            await db.run(looks)

        task = asyncio.create_task(db.run(waits))
        await cut()
        task.cancel()
        return seen

    assert simloop.run(main)[-1] == b""


# --- the real world -------------------------------------------------------------------------------------------


def test_a_real_fifo_escapes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    async def main() -> None:
        os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)

    with pytest.raises(simloop.EscapedSimulationError, match="device or fifo"):
        simloop.run(main)


def test_outside_of_a_world_pipes_are_real() -> None:
    with simloop.world():
        r, w = os.pipe()
        assert r >= 1 << 20
        with active.world_entered(None):
            ends = os.pipe()
            assert max(ends) < 1 << 20
            assert os.write(ends[1], b"real") == 4
            assert os.read(ends[0], 9) == b"real"
            for end in ends:
                os.close(end)
        os.close(r)
        os.close(w)


def test_a_socket_cannot_be_spliced_yet() -> None:
    async def main() -> None:
        with socket.socket() as sock:
            os.splice(os.pipe()[0], sock.fileno(), 1)

    with pytest.raises(simloop.EscapedSimulationError, match="splice with a socket"):
        simloop.run(main)


def test_a_transport_that_is_left_open_is_told_at_the_end_of_the_run() -> None:
    async def main() -> None:
        reading, _ = os.pipe()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reading, "rb", 0))

    with pytest.warns(ResourceWarning, match="unclosed transport <_UnixReadPipeTransport"):
        simloop.run(main)


@pytest.mark.parametrize("tracked", [False, True])
def test_a_process_of_multiprocessing_escapes(tracked: bool) -> None:
    """Which begins with a pipe, and starts it without `subprocess`; or writes to one that was there before."""
    context = multiprocessing.get_context("spawn")
    if tracked:
        resource_tracker.ensure_running()

    async def main() -> None:
        context.Process(target=print).start()

    with pytest.raises(simloop.EscapedSimulationError, match="a process of multiprocessing"):
        simloop.run(main)
