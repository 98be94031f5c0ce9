"""Keep-alive: who has asked for it finds out that nobody is there any more, at the times of tcp(7).

The times of `MEASURED` were measured on Linux 6.18, over a pair of virtual interfaces, with a wrong hardware address
for the peer from 0.3 seconds after the connection on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

import simloop

TCP = socket.IPPROTO_TCP
ON = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
TIMES = (ON, (TCP, socket.TCP_KEEPIDLE, 2), (TCP, socket.TCP_KEEPINTVL, 1), (TCP, socket.TCP_KEEPCNT, 3))
Option = tuple[int, int, int]


async def connected(*options: Option) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a server on host ``db`` that echoes, with options of the client's socket."""

    async def serve() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while line := await reader.readline():
                    writer.write(line)
            writer.close()

        async with await asyncio.start_server(echo, "0.0.0.0", 7):
            await asyncio.sleep(100_000)

    sim = simloop.current()
    serving.append(asyncio.create_task(sim.host("db").run(serve)))
    await asyncio.sleep(1)
    reader, writer = await asyncio.open_connection("db", 7)
    for option in options:
        writer.get_extra_info("socket").setsockopt(*option)
    writers.append(writer)
    return reader, writer


writers: list[asyncio.StreamWriter] = []
serving: list[asyncio.Task[Any]] = []


async def gone_after(reader: asyncio.StreamReader, within: float = 100_000) -> tuple[float | None, type | None]:
    """Seconds until the reader fails, and the error; None for both if it does not."""
    began = simloop.current().elapsed
    try:
        async with asyncio.timeout(within) as scope:
            await reader.read(1)
    except OSError as error:
        if scope.expired():
            return None, None
        return round(simloop.current().elapsed - began, 1), type(error)
    return None, None


def run(main: Callable[[], Any]) -> Any:
    async def whole() -> Any:
        try:
            return await main()
        finally:
            for writer in writers:
                writer.transport.abort()
            writers.clear()
            await asyncio.sleep(1)
            simloop.current().host("db").crash()
            await asyncio.gather(*[serving.pop() for _ in [*serving]], return_exceptions=True)

    return simloop.run(whole, max_time=200_000)


MEASURED: list[tuple[tuple[Option, ...], float]] = [
    (TIMES, 5.08),
    ((*TIMES, (TCP, socket.TCP_USER_TIMEOUT, 2_500)), 3.04),
    ((*TIMES, (TCP, socket.TCP_USER_TIMEOUT, 10_000)), 10.21),
]


@pytest.mark.parametrize(("options", "seconds"), MEASURED)
@pytest.mark.parametrize("fault", ["partition", "one way", "crash", "pause"])
def test_a_dead_peer_is_found_out(options: tuple[Option, ...], seconds: float, fault: str) -> None:
    async def main() -> Any:
        sim = simloop.current()
        reader, _ = await connected(*options)
        await asyncio.sleep(0.3)
        if fault == "crash":
            sim.host("db").crash()
        elif fault == "pause":
            sim.host("db").pause()
        else:
            sim.network.partition("db", "localhost", one_way=fault == "one way")
        return await gone_after(reader)

    took, error = run(main)
    assert error is TimeoutError
    assert took == pytest.approx(seconds - 0.3, abs=0.3)


def test_the_defaults_are_two_hours_and_nine_probes() -> None:
    async def main() -> Any:
        reader, _ = await connected(ON)
        with simloop.current().network.partition("localhost", "db"):
            return await gone_after(reader)

    took, error = run(main)
    # tcp(7): tcp_keepalive_time 7200, tcp_keepalive_intvl 75, tcp_keepalive_probes 9.
    assert took == pytest.approx(7200 + 9 * 75, abs=0.1)
    assert error is TimeoutError


def test_who_has_not_asked_waits_for_ever() -> None:
    async def main() -> Any:
        reader, _ = await connected(*TIMES[1:])
        with simloop.current().network.partition("localhost", "db"):
            return await gone_after(reader, 50_000)

    assert run(main) == (None, None)


def test_a_fault_that_ends_in_time_is_not_noticed() -> None:
    async def main() -> Any:
        sim = simloop.current()
        reader, writer = await connected(*TIMES)
        for _ in range(3):
            with sim.network.partition("localhost", "db"):
                assert await gone_after(reader, 1.9) == (None, None)  # two probes are lost
            await asyncio.sleep(2)
        writer.write(b"still there\n")
        assert await reader.readline() == b"still there\n"
        # And the next one is found out like the first.
        with sim.network.partition("localhost", "db"):
            return await gone_after(reader)

    took, error = run(main)
    assert 3 <= took <= 5
    assert error is TimeoutError


def test_a_machine_that_is_up_again_answers_with_a_reset() -> None:
    async def main() -> Any:
        host = simloop.current().host("db")
        reader, _ = await connected(*TIMES)
        host.crash()
        host.restart()
        return await gone_after(reader)

    took, error = run(main)
    assert took == pytest.approx(2, abs=0.1)
    assert error is ConnectionResetError


def test_it_can_be_asked_for_later() -> None:
    async def main() -> Any:
        reader, writer = await connected()
        with simloop.current().network.partition("localhost", "db"):
            assert await gone_after(reader, 60) == (None, None)
            for option in (*TIMES[1:], TIMES[0]):
                writer.get_extra_info("socket").setsockopt(*option)
            return await gone_after(reader)

    took, error = run(main)
    assert 3 <= took <= 5
    assert error is TimeoutError


def test_a_healthy_connection_has_no_timer() -> None:
    async def main() -> None:
        async def serve() -> None:
            listener = socket.create_server(("0.0.0.0", 7))
            listener.setblocking(False)
            await asyncio.get_running_loop().sock_accept(listener)

        serve_task = asyncio.create_task(simloop.current().host("db").run(serve))
        await asyncio.sleep(1)
        with socket.socket() as sock:
            for option in TIMES:
                sock.setsockopt(*option)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("10.0.0.2", 7))
            await serve_task
            await asyncio.get_running_loop().create_future()

    with pytest.raises(simloop.DeadlockError):
        simloop.run(main)
