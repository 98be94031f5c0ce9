"""Whatever the environment decides, a connection gives out the bytes that were put in, in order, then its end."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import examples

import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import random_walk
from simloop.kernel.host import Host
from simloop.kernel.net.stream import Direction
from simloop.kernel.net.tcp import TcpSocket
from simloop.kernel.scheduler import Scheduler
from simloop.network.network import Network

SEEDS = st.integers(0, 2**32)
#: Most writes are small; a few fill every buffer on the way.
WRITES = st.lists(st.one_of(st.integers(0, 100), st.sampled_from([5_000, 70_000, 400_000])), max_size=6)
READS = st.lists(st.sampled_from([1, 7, 1_000, 65_536]), min_size=1, max_size=4)
BUFFER = st.sampled_from([None, 1, 10_000])
PATTERN = bytes(range(251)) * 1_600


class Ledger:
    """Checks every direction of a run after each of its steps: what was pushed is somewhere."""

    def __init__(self) -> None:
        self.pushed: Counter[Direction] = Counter()
        self.read: Counter[Direction] = Counter()
        self.checks = 0

    def patched(self) -> Any:
        ledger = self
        push, read, arrive = Direction.push, Direction.read, Direction.arrived

        def checked_push(self: Direction, item: bytes | str) -> None:
            ledger.pushed[self] += 0 if isinstance(item, str) else len(item)
            push(self, item)
            ledger.check(self)

        def checked_read(self: Direction, limit: int) -> bytes:
            # Counted before reading, which lets the sender go on and arrivals happen.
            ledger.read[self] += min(limit, self.size)
            data = read(self, limit)
            ledger.check(self)
            return data

        def checked_arrive(self: Direction) -> None:
            arrive(self)
            ledger.check(self, nested=True)

        return mock.patch.multiple(Direction, push=checked_push, read=checked_read, arrived=checked_arrive)

    def check(self, direction: Direction, *, nested: bool = False) -> None:
        self.checks += 1
        sizes = [
            (direction.unsent_size, direction.unsent),
            (direction.flight_size, [packet.item for packet in direction.flight]),
            (direction.size, direction.chunks),
        ]
        for size, items in sizes:
            assert size >= 0
            # In the middle of an arrival the sender may be about to take note of what travelled.
            if not nested:
                assert size == sum(len(item) for item in items if not isinstance(item, str))
        if not nested and not direction.dropped and not direction.refused:
            assert sum(size for size, _ in sizes) + self.read[direction] == self.pushed[direction]


def chunks_of(writes: list[int]) -> list[bytes]:
    chunks, start = [], 0
    for size in writes:
        chunks.append(PATTERN[start % 251 :][:size])
        start += size
    return chunks


@settings(max_examples=examples(100), deadline=None)
@given(seed=SEEDS, there=WRITES, back=WRITES, reads=READS, sndbuf=BUFFER, rcvbuf=BUFFER, half=st.booleans())
def test_a_stream_gives_out_what_was_put_in_then_ends_once(
    seed: int,
    there: list[int],
    back: list[int],
    reads: list[int],
    sndbuf: int | None,
    rcvbuf: int | None,
    half: bool,
) -> None:
    sent_there, sent_back = chunks_of(there), chunks_of(back)

    async def write(writer: asyncio.StreamWriter, chunks: list[bytes]) -> None:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    async def read(reader: asyncio.StreamReader) -> bytes:
        got = bytearray()
        turn = 0
        while data := await reader.read(reads[turn % len(reads)] if len(got) < 5_000 else 65_536):
            got += data
            turn += 1
        assert reader.at_eof()
        assert await reader.read() == b""
        return bytes(got)

    def tune(sock: Any) -> None:
        if sndbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        if rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)

    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chunks: list[bytes]) -> bytes:
        if half:  # the end of one direction before the first byte of the other is written
            got = await read(reader)
            await write(writer, chunks)
        else:
            got, _ = await asyncio.gather(read(reader), write(writer, chunks))
        writer.close()
        await writer.wait_closed()
        return got

    async def main() -> tuple[bytes, bytes]:
        served: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.set_result(await both(reader, writer, sent_back))

        listener = socket.create_server(("127.0.0.1", 0))
        tune(listener)
        server = await asyncio.start_server(serve, sock=listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        tune(writer.get_extra_info("socket"))
        got, _ = await asyncio.gather(read(reader), write(writer, sent_there))
        writer.close()
        await writer.wait_closed()
        server.close()
        return await served, got

    ledger = Ledger()
    with ledger.patched():
        arrived_there, arrived_back = simloop.run(main, seed=seed)
    assert arrived_there == b"".join(sent_there)
    assert arrived_back == b"".join(sent_back)
    assert ledger.checks


@settings(max_examples=examples(150), deadline=None)
@given(
    seed=SEEDS,
    steps=st.lists(st.tuples(st.sampled_from(["send", "recv", "wait"]), st.integers(1, 40_000)), max_size=30),
    ending=st.sampled_from(["close", "shutdown", "abort"]),
)
def test_no_order_of_calls_and_arrivals_loses_or_swaps_a_byte(
    seed: int, steps: list[tuple[str, int]], ending: str
) -> None:
    """The same at the kernel, between two hosts, with an abrupt end as well."""
    scheduler = Scheduler(Choices(seed, random_walk(seed)))
    here, there = (Host(name, number, scheduler) for number, name in enumerate(("here", "there"), 1))
    network = Network(scheduler, {host.name: host for host in (here, there)})
    listener, sender = TcpSocket(network, there, socket.AF_INET), TcpSocket(network, here, socket.AF_INET)
    listener.bind(("0.0.0.0", 1234))
    listener.listen(1)

    from simloop.kernel.process.pids import PidTable
    from simloop.kernel.process.process import Process

    process = Process(here, PidTable(), 1, "here")

    def wait(done: Any, patience_ns: int = 10**10) -> None:
        scheduler.at(scheduler.clock.now + patience_ns, lambda: None)
        scheduler.block(process, done, scheduler.clock.now + patience_ns)

    with pytest.raises(BlockingIOError):
        sender.connect((there.ipv4, 1234))
    wait(lambda: sender.state == "ESTABLISHED" and bool(listener.queue))
    receiver = listener.accept()
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    sent, got = bytearray(), bytearray()

    def receive(limit: int) -> bool:
        """Whether there can be more."""
        try:
            data = receiver.recv(limit)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        got.extend(data)
        return bool(data)

    ledger = Ledger()
    with ledger.patched():
        for action, amount in steps:
            if action == "send":
                taken = sender.send(PATTERN[len(sent) % 251 :][:amount])
                sent += PATTERN[len(sent) % 251 :][:taken]
            elif action == "recv":
                assert receive(amount)
            else:
                wait(lambda: False, amount * 1_000)
        if ending == "abort":
            sender.options.linger = (1, 0)
        if ending == "shutdown":
            sender.shutdown(socket.SHUT_WR)
        else:
            sender.close()
        while receive(7_000):
            wait(lambda: bool(receiver.mask() & 1))
        assert receiver.recv(1) == b""
    assert sent.startswith(got)
    if ending != "abort":
        assert got == sent
