"""Faults of the network between hosts: partitions, holds, resets, slow and lossy links, hosts that stand still."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

import simloop
from simloop import Deliver, Drop, Packet, Pass

# Servers whose host has lost its power never close their connections.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Main = Callable[[], Coroutine[Any, Any, Any]]


async def echo(reader: Reader, writer: Writer) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def serving(handle: Callable[[Reader, Writer], Awaitable[None]] = echo) -> tuple[Reader, Writer]:
    """Returns a connection to a server on the host db."""

    async def serve() -> None:
        async with await asyncio.start_server(handle, "0.0.0.0", 80):
            await asyncio.sleep(5000)

    tasks.append(asyncio.create_task(simloop.current().host("db").run(serve)))
    await asyncio.sleep(0.1)
    reader, writer = await asyncio.open_connection("db", 80)
    writers.append(writer)
    return reader, writer


tasks: list[asyncio.Task[None]] = []
writers: list[Writer] = []


async def closing(main: Main) -> Any:
    """Runs ``main()``, and then ends what it has begun."""
    try:
        return await main()
    finally:
        while writers:
            writers.pop().transport.abort()
        simloop.current().host("db").crash()
        await asyncio.gather(*[tasks.pop() for _ in [*tasks]], return_exceptions=True)


def run(main: Main) -> Any:
    return simloop.run(lambda: closing(main))


async def asked(reader: Reader, writer: Writer, text: bytes = b"x\n") -> float:
    """Returns the virtual time that an answer takes."""
    began = simloop.current().elapsed
    writer.write(text)
    assert await reader.readline() == text
    return round(simloop.current().elapsed - began, 3)


def test_data_that_a_partition_loses_is_sent_again() -> None:
    async def main() -> None:
        network = simloop.current().network
        reader, writer = await serving()
        assert await asked(reader, writer) == 0.001
        with network.partition("localhost", "db"):
            asking = asyncio.create_task(asked(reader, writer))
            await asyncio.sleep(1)
            assert not asking.done()
        # After 0.2, 0.4 and 0.8 seconds.
        assert await asking == 1.401
        assert await asked(reader, writer) == 0.001

    run(main)


def test_a_partition_in_one_way_loses_what_is_sent_that_way() -> None:
    got: list[bytes] = []

    async def note(reader: Reader, writer: Writer) -> None:
        while line := await reader.readline():
            got.append(line)
            writer.write(line)
        writer.close()

    async def main() -> None:
        network = simloop.current().network
        reader, writer = await serving(note)
        with network.partition("localhost", "db", one_way=True):
            writer.write(b"lost\n")
            await asyncio.sleep(2)
            assert not got
        await reader.readline()
        with network.partition("db", "localhost", one_way=True):
            writer.write(b"arrives\n")
            await asyncio.sleep(2)
            assert got == [b"lost\n", b"arrives\n"]
            assert not reader._buffer  # type: ignore[attr-defined]
        assert await reader.readline() == b"arrives\n"

    run(main)


@pytest.mark.parametrize("way", [("localhost", "db"), ("db", "localhost")])
def test_a_sender_gives_up_that_gets_no_acknowledgement(way: tuple[str, str]) -> None:
    async def main() -> None:
        sim = simloop.current()
        reader, writer = await serving()
        sim.network.partition(*way, one_way=True)
        began = sim.elapsed
        writer.write(b"x\n")
        with pytest.raises(TimeoutError):
            await reader.readline()
        # net.ipv4.tcp_retries2 (ip-sysctl.rst): "a hypothetical timeout of 924.6 seconds"
        assert sim.elapsed - began == pytest.approx(924.6, abs=0.1)

    run(main)


def lost_at() -> tuple[list[float], Callable[[Packet], Drop]]:
    """The times at which packets are lost, and the rule that loses all of them."""
    times: list[float] = []

    def rule(packet: Packet) -> Drop:
        times.append(simloop.current().elapsed)
        return Drop()

    return times, rule


def test_what_is_lost_is_sent_again_twice_as_late_each_time() -> None:
    """RFC 6298, section 5.5, from TCP_RTO_MIN to TCP_RTO_MAX. Linux 6.18 over a veth that loses all: the timeout is 204
    ms, then 408, 816, 1632 and so on, each a little late, and before the first one there is a probe (RFC 8985), which
    is not simulated: nothing is found out by it but that an acknowledgement was lost."""

    async def main() -> list[float]:
        sim = simloop.current()
        reader, writer = await serving()
        times, rule = lost_at()
        sim.network.rule(rule, "localhost", "db")
        writer.write(b"x\n")
        with pytest.raises(TimeoutError):
            await reader.readline()
        return [round(after - before, 3) for before, after in pairwise(times)]

    assert run(main) == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 120, 120, 120, 120, 120]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        # Linux 6.18 over a veth that loses all: 1.02, 2.05, 3.07, 4.10, 5.12, 7.14, 11.16, and at 19.36 the end.
        (3, [1, 2, 3, 4, 5, 7, 11, 19]),
        # ip-sysctl.rst on tcp_syn_retries: "67seconds (with tcp_syn_linear_timeouts = 4) till the last retransmission",
        # and "after 131seconds" the end.
        (None, [1, 2, 3, 4, 5, 7, 11, 19, 35, 67, 131]),
    ],
)
def test_a_connection_attempt_is_made_again_and_given_up(count: int | None, expected: list[int]) -> None:
    async def main() -> list[int]:
        sim = simloop.current()
        await serving()
        times, rule = lost_at()
        sim.network.rule(rule, "localhost", "db")
        began = sim.elapsed
        with socket.socket() as sock:
            sock.setblocking(False)
            if count is not None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, count)
            with pytest.raises(TimeoutError):
                await asyncio.get_running_loop().sock_connect(sock, (sim.host("db").ip, 80))
        return [round(time - began) for time in [*times[1:], sim.elapsed]]

    assert run(main) == expected


def test_the_user_timeout_ends_the_patience() -> None:
    async def main() -> None:
        sim = simloop.current()
        reader, writer = await serving()
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
        sim.network.partition("localhost", "db")
        began = sim.elapsed
        writer.write(b"x\n")
        with pytest.raises(TimeoutError):
            await reader.readline()
        # From when it was first sent again, 0.2 s after the write. Linux 6.18 took 5.56 s (and 3.42 s for 3000 ms): its
        # timers are coarse.
        assert sim.elapsed - began == pytest.approx(5.2, abs=0.1)

    run(main)


def test_what_is_not_acknowledged_fills_the_send_buffer() -> None:
    async def main() -> None:
        reader, writer = await serving()
        sock = writer.get_extra_info("socket")._sock
        size = 50_000
        with simloop.current().network.partition("db", "localhost", one_way=True):
            writer.write(bytes(size - 1) + b"\n")
            await asyncio.sleep(0.1)
            tx = sock._file.tx
            assert tx.flight_size == size
        await reader.readline()
        assert tx.flight_size == 0

    run(main)


def test_connecting_through_a_partition_is_tried_again() -> None:
    async def main() -> None:
        sim = simloop.current()
        await serving()
        partition = sim.network.partition("localhost", {"db"})
        began = sim.elapsed
        connecting = asyncio.create_task(asyncio.open_connection("db", 80))
        await asyncio.sleep(2)
        partition.end()
        partition.end()
        writers.append((await connecting)[1])
        assert sim.elapsed - began == pytest.approx(3, abs=0.1)  # 1 + 1 + 1: tcp_syn_linear_timeouts

    run(main)


def test_what_is_held_arrives_in_order_at_the_end() -> None:
    async def main() -> None:
        sim = simloop.current()
        reader, writer = await serving()
        with sim.network.hold("localhost", "db"):
            writer.write(b"1\n")
            await asyncio.sleep(3)
            writer.write(b"2\n")
            await asyncio.sleep(3)
            assert not reader._buffer  # type: ignore[attr-defined]
        began = sim.elapsed
        assert await reader.readexactly(4) == b"1\n2\n"
        assert sim.elapsed - began < 0.01

    run(main)


def test_a_reset_reaches_both_ends() -> None:
    failed: list[str] = []

    async def reads(reader: Reader, writer: Writer) -> None:
        try:
            await reader.readline()
        except ConnectionResetError:
            failed.append("server")
        writer.close()

    async def main() -> None:
        reader, _ = await serving(reads)
        await asyncio.sleep(0.1)
        simloop.current().network.reset("db", "localhost")
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        await asyncio.sleep(0.1)
        assert failed == ["server"]

    run(main)


def test_a_reset_that_is_lost_is_told_to_who_goes_on_sending() -> None:
    async def resets(reader: Reader, writer: Writer) -> None:
        await reader.readline()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.close()

    async def main() -> None:
        reader, writer = await serving(resets)
        with simloop.current().network.partition("db", "localhost"):
            await asyncio.sleep(0)
        partition = simloop.current().network.partition("db", "localhost", one_way=True)
        writer.write(b"x\n")
        await asyncio.sleep(1)
        partition.end()
        await asyncio.sleep(100)
        assert not reader.at_eof()
        writer.write(b"more\n")
        with pytest.raises(ConnectionResetError):
            await reader.readline()

    run(main)


def test_a_link_that_is_changed_changes_open_connections() -> None:
    async def main() -> None:
        network = simloop.current().network
        reader, writer = await serving()
        slow = network.link("db", "localhost", latency=0.25)
        assert await asked(reader, writer) == 0.5
        with network.link("localhost", "db", latency=0):
            assert await asked(reader, writer) < 0.001
        assert await asked(reader, writer) == 0.5
        slow.end()
        assert await asked(reader, writer) == 0.001
        network.link("localhost", "db", bandwidth=100_000)
        assert await asked(reader, writer, bytes(49_999) + b"\n") == pytest.approx(1.0, abs=0.01)

    run(main)


def test_datagrams_are_lost_held_and_late() -> None:
    async def main() -> None:
        sim = simloop.current()
        loop = asyncio.get_running_loop()
        got: list[tuple[float, bytes]] = []

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                got.append((round(sim.elapsed - began, 1), data))

        async def receive() -> None:
            hearing, _ = await asyncio.get_running_loop().create_datagram_endpoint(Receiver, ("0.0.0.0", 53))
            await asyncio.sleep(100)
            hearing.close()

        tasks.append(asyncio.create_task(sim.host("db").run(receive)))
        await asyncio.sleep(1)
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("db", 53))
        began = sim.elapsed
        with sim.network.partition("localhost", "db"):
            transport.sendto(b"lost")
            await asyncio.sleep(1)
        with sim.network.hold("localhost", "db"):
            transport.sendto(b"held")
            await asyncio.sleep(1)
        with sim.network.rule(lambda packet: Deliver(0.5), "localhost", "db"):
            transport.sendto(b"late")
            await asyncio.sleep(1)
        transport.sendto(b"plain")
        await asyncio.sleep(1)
        transport.close()
        assert got == [(2.0, b"held"), (2.5, b"late"), (3.0, b"plain")]

    run(main)


def test_rules_are_asked_for_each_packet() -> None:
    async def main() -> None:
        sim = simloop.current()
        reader, writer = await serving()
        seen: list[Packet] = []

        def every_other(packet: Packet) -> Pass | Drop:
            seen.append(packet)
            return Drop() if len(seen) % 2 else Pass()

        with sim.network.rule(every_other, "localhost", "db"):
            assert await asked(reader, writer) == 0.201
        assert seen == [Packet("localhost", "db", "localhost>db:80#1", 2)] * 2
        with sim.network.rule(lambda packet: Deliver(2), "db", "localhost"):
            assert await asked(reader, writer) == 2.001

    run(main)


# --- by choice ----------------------------------------------------------------------------------------


async def needs_an_answer(permit: Callable[[], None], patience: float) -> None:
    reader, writer = await serving()
    permit()
    async with asyncio.timeout(patience):
        for _ in range(3):
            await asked(reader, writer)


def explored(permit: Callable[[], None], patience: float, runs: int = 100) -> simloop.Report:
    async def main() -> None:
        await closing(lambda: needs_an_answer(permit, patience))

    return simloop.explore(main, runs=runs)


def test_the_environment_may_cut_the_network_for_a_while() -> None:
    failure = explored(lambda: simloop.current().network.may_partition("localhost", "db"), 5).failure
    assert failure is not None
    assert [point.kind for point in failure.schedule.deviations] == ["net.partition"]
    told = " ".join(failure.explanation.sentences)
    assert "the network from localhost to db" in told
    assert "was cut for 10 s as 'x\\n' (2 bytes) on its way " in told
    assert "was about to arrive" in told


def test_the_environment_may_reset_connections() -> None:
    failure = explored(lambda: simloop.current().network.may_reset("localhost", "db"), 5).failure
    assert failure is not None
    assert isinstance(failure.exception, ConnectionResetError)
    assert [point.kind for point in failure.schedule.deviations] == ["net.reset"]
    assert "the connection was reset as" in " ".join(failure.explanation.sentences)


def test_the_environment_may_lose_packets() -> None:
    failure = explored(lambda: simloop.current().network.may_lose("localhost", "db"), 0.15).failure
    assert failure is not None
    assert [point.kind for point in failure.schedule.deviations] == ["net.lose"]
    assert "is lost" in " ".join(failure.explanation.sentences)
    # One lost packet costs 0.2 seconds, and there is none but that.
    assert explored(lambda: simloop.current().network.may_lose("localhost", "db"), 0.45).failure is None


def test_a_lossy_link_may_lose_anything() -> None:
    failure = explored(lambda: void(simloop.current().network.link("localhost", "db", lossy=True)), 0.15).failure
    assert failure is not None


def void(value: object) -> None:
    pass


def test_nothing_happens_in_the_canonical_run() -> None:
    def permit() -> None:
        network = simloop.current().network
        network.may_partition("localhost", "db", at_most=3)
        network.may_reset("localhost", "db")
        network.may_lose("localhost", "db")

    assert explored(permit, 5, runs=1).failure is None


# --- hosts that stand still, and convergence ----------------------------------------------------------


def test_a_host_that_stands_still_answers_nobody_and_goes_on_later() -> None:
    ticks: list[float] = []

    async def main() -> None:
        sim = simloop.current()
        reader, writer = await serving()
        host = sim.host("db")

        async def tick() -> None:
            while True:
                ticks.append(round(sim.elapsed, 1))
                await asyncio.sleep(1)

        ticking = asyncio.create_task(host.run(tick))
        await asyncio.sleep(2.5)
        host.pause()
        stood = len(ticks)
        asking = asyncio.create_task(asked(reader, writer))
        await asyncio.sleep(20)
        assert len(ticks) == stood
        assert not asking.done()
        host.resume()
        await asking
        assert len(ticks) > stood
        assert ticks[stood] - ticks[stood - 1] > 19
        ticking.cancel()

    run(main)


def test_signals_wait_for_a_host_that_stands_still() -> None:
    got: list[float] = []

    async def main() -> None:
        sim = simloop.current()
        host = sim.host("db")

        async def serve() -> None:
            asyncio.get_running_loop().add_signal_handler(15, lambda: got.append(sim.elapsed))
            await asyncio.sleep(20)

        running = asyncio.create_task(host.run(serve))
        await asyncio.sleep(1)
        host.pause()
        sim.signal("db", 15)
        await asyncio.sleep(5)
        assert not got
        host.resume()
        await running
        assert len(got) == 1

    simloop.run(main)


def test_a_wait_for_a_host_that_stands_still_is_a_deadlock_that_says_so() -> None:
    async def main() -> None:
        host = simloop.current().host("db")

        async def work() -> None:
            await asyncio.sleep(1)

        running = asyncio.create_task(host.run(work))
        await asyncio.sleep(0.5)
        host.pause()
        await running

    with pytest.raises(simloop.DeadlockError, match=r"stands still with its host, until resume\(\)"):
        simloop.run(main)


def test_a_fault_that_was_healed_ends_no_later_one() -> None:
    async def main() -> None:
        network = simloop.current().network
        reader, writer = await serving()
        earlier = network.partition("localhost", "db")
        network.heal()
        later = network.partition("localhost", "db")
        earlier.end()
        asking = asyncio.create_task(asked(reader, writer))
        await asyncio.sleep(2)
        assert not asking.done()
        later.end()
        await asking

    run(main)


def test_convergence_begins_with_the_end_of_all_faults() -> None:
    async def main() -> None:
        sim = simloop.current()
        reader, writer = await serving()
        answered: list[float] = []
        sim.network.partition("localhost", "db")
        sim.network.hold("localhost", "db")
        sim.network.rule(lambda packet: Drop(), "localhost", "db")
        sim.host("db").pause()

        async def ask() -> None:
            answered.append(await asked(reader, writer))

        asking = asyncio.create_task(ask())
        await asyncio.sleep(3)
        await sim.converges(lambda: answered, within=10)
        await asking

        async def never() -> bool:
            raise LookupError("no leader")

        with pytest.raises(AssertionError, match=r"never\(\) did not come true within 5 .*: LookupError: no leader"):
            await sim.converges(never, within=5)

    run(main)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda sim: sim.network.partition("localhost", "nowhere"), simloop.ConfigurationError, "no host 'nowhere'"),
        (
            lambda sim: sim.network.partition("db", ["a", "db"]),
            simloop.ConfigurationError,
            "'db' has no link to itself",
        ),
        (lambda sim: sim.network.link("localhost", "db", latency=-1), simloop.ConfigurationError, "latency must be"),
        (lambda sim: sim.network.link("localhost", "db", bandwidth=0), simloop.ConfigurationError, "bandwidth must be"),
        (lambda sim: sim.network.link("localhost", "db", lossy=0.1), simloop.ConfigurationError, "lossy must be"),
        (lambda sim: sim.network.may_lose("localhost", "db", at_most=0), simloop.ConfigurationError, "at_most must"),
        (lambda sim: sim.host("localhost").pause(), simloop.WorldError, "the test itself runs on"),
    ],
)
def test_bad_input_is_one_line_that_names_the_call(
    call: Callable[[simloop.Sim], object], error: type[Exception], words: str
) -> None:
    async def main() -> None:
        sim = simloop.current()
        for name in ("a", "db"):
            sim.host(name)
        with pytest.raises(error, match=words) as caught:
            call(sim)
        assert "\n" not in str(caught.value)
        if error is simloop.ConfigurationError:
            assert "test_network_faults.py:" in str(caught.value)

    simloop.run(main)


def test_a_rule_that_returns_something_else_is_an_error_that_names_it() -> None:
    async def main() -> None:
        reader, writer = await serving()
        simloop.current().network.rule(lambda packet: True, "localhost", "db")  # type: ignore[arg-type,return-value]
        await asked(reader, writer)

    with pytest.raises(simloop.ConfigurationError, match=r"test_network_faults.py:\d+: a rule must return Pass"):
        run(main)
