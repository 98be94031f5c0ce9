"""UDP between the hosts of a world: delays, order, losses on lossy links, groups, and who is told of what."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import random_walk
from simloop.kernel.net.udp import FATES
from simloop.network.links import LATENCY_NS
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

DGRAM = socket.SOCK_DGRAM


async def numbers_to_a_server(count: int = 5) -> list[bytes]:
    """What a server gets of the numbers that a client on another host sends."""
    sim = simloop.current()
    got: list[bytes] = []

    async def serve() -> None:
        with socket.socket(socket.AF_INET, DGRAM) as sock:
            sock.bind(("", 53))
            sock.setblocking(False)
            while True:
                got.append((await asyncio.get_running_loop().sock_recvfrom(sock, 100))[0])

    async def send() -> None:
        with socket.socket(socket.AF_INET, DGRAM) as sock:
            for number in range(count):
                sock.sendto(b"%d" % number, ("server", 53))
                await asyncio.sleep(0.001)

    serving = asyncio.ensure_future(sim.host("server").run(serve))
    await asyncio.sleep(1)  # the server may be late by less
    await sim.host("client").run(send)
    await asyncio.sleep(1)
    serving.cancel()
    return got


def outcomes(main: Callable[..., Any], seeds: int = 40) -> list[Any]:
    found = []
    for seed in range(seeds):
        runs = [execute(main, Choices(seed, random_walk(seed)), Limits()) for _ in range(2)]
        assert runs[0].exception is None, runs[0].exception
        assert runs[0].choices.digest == runs[1].choices.digest
        found.append(runs[0].value)
    return found


def test_nothing_is_lost_and_order_is_kept_on_an_ordinary_link() -> None:
    expected = [b"%d" % number for number in range(5)]
    assert all(got == expected for got in outcomes(numbers_to_a_server))


def test_a_lossy_link_loses_repeats_and_swaps() -> None:
    async def main() -> list[bytes]:
        sim = simloop.current()
        sim.host("server"), sim.host("client")
        sim.network.link("client", "server", lossy=True)
        return await numbers_to_a_server()

    assert simloop.run(main) == [b"%d" % number for number in range(5)]  # canonically nothing happens

    def fated(fate: int) -> Any:
        """What arrives if that becomes of the second datagram."""
        choices = Choices(0, lambda who, kind, number, n: fate if (kind, number) == ("net.lose", 2) else 0)
        return execute(main, choices, Limits()).value

    assert [fated(fate) for fate in range(1, len(FATES))] == [
        [b"0", b"2", b"3", b"4"],
        [b"0", b"1", b"1", b"2", b"3", b"4"],
        [b"0", b"2", b"3", b"4", b"1"],
    ]


def test_a_late_datagram_holds_up_those_behind_it() -> None:
    async def main() -> list[bytes]:
        with socket.socket(socket.AF_INET, DGRAM) as one, socket.socket(socket.AF_INET, DGRAM) as other:
            other.bind(("127.0.0.1", 53))
            other.setblocking(False)
            for data in (b"late", b"behind it"):
                one.sendto(data, ("127.0.0.1", 53))
            return [(await asyncio.get_running_loop().sock_recvfrom(other, 100))[0] for _ in range(2)]

    def delayed(answer: int) -> Any:
        choices = Choices(0, lambda who, kind, number, n: answer if number == 1 else 0)
        return execute(main, choices, Limits()).value

    assert [delayed(answer) for answer in range(5)] == [[b"late", b"behind it"]] * 5


async def two_senders() -> None:
    """Wrong: it takes for granted that what was sent first arrives first, over two sockets."""
    sim = simloop.current()
    got: list[bytes] = []

    async def serve() -> None:
        with socket.socket(socket.AF_INET, DGRAM) as sock:
            sock.bind(("", 53))
            sock.setblocking(False)
            for _ in range(2):
                got.append((await asyncio.get_running_loop().sock_recvfrom(sock, 100))[0])

    async def send() -> None:
        for data in (b"first", b"second"):
            with socket.socket(socket.AF_INET, DGRAM) as sock:
                sock.sendto(data, ("server", 53))

    serving = asyncio.ensure_future(sim.host("server").run(serve))
    await asyncio.sleep(1)  # the server may be late by less
    await sim.host("client").run(send)
    await serving
    assert got == [b"first", b"second"]


def test_a_race_of_datagrams_is_found_and_told() -> None:
    report = simloop.explore(two_senders, runs=100)
    assert report.failure is not None
    assert "server:53/udp#" in str(report.failure.schedule)
    with pytest.raises(AssertionError):
        simloop.replay(two_senders, report.failure.token)


def test_a_refusal_comes_back_from_another_host_after_a_while() -> None:
    async def main() -> Any:
        sim = simloop.current()
        sim.host("server")

        async def ask() -> Any:
            with socket.socket(socket.AF_INET, DGRAM) as sock:
                sock.connect(("server", 53))
                sock.settimeout(1)
                began = sim.elapsed
                sock.send(b"anybody?")
                try:
                    sock.recv(10)
                except ConnectionRefusedError:
                    return sim.elapsed - began

        return await sim.host("client").run(ask)

    assert simloop.run(main, blocking="ignore") == pytest.approx(2 * LATENCY_NS / 1e9, abs=1e-4)


def test_a_host_without_power_answers_nothing() -> None:
    async def main() -> Any:
        sim = simloop.current()
        server = sim.host("server")
        server.crash()

        async def ask() -> Any:
            with socket.socket(socket.AF_INET, DGRAM) as sock:
                sock.connect(("server", 53))
                sock.settimeout(0.5)
                sock.send(b"anybody?")
                with pytest.raises(TimeoutError):
                    sock.recv(10)
                sock.sendto(b"nor there", ("10.0.9.9", 53))
                with pytest.raises(TimeoutError):
                    sock.recv(10)

        await sim.host("client").run(ask)

    simloop.run(main, blocking="ignore")


def test_groups_and_broadcast_reach_the_hosts_that_listen() -> None:
    async def main() -> list[Any]:
        sim = simloop.current()
        got: list[Any] = []

        def listener(name: str, joins: bool) -> Callable[[], Any]:
            async def listen() -> None:
                loop = asyncio.get_running_loop()
                with socket.socket(socket.AF_INET, DGRAM) as sock:
                    sock.bind(("", 5353))
                    sock.setblocking(False)
                    if joins:
                        group = socket.inet_aton("224.0.0.251") + socket.inet_aton("0.0.0.0")
                        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
                    while True:
                        data, address = await loop.sock_recvfrom(sock, 100)
                        got.append((name, data, address[0] == socket.gethostbyname("a")))

            return listen

        async def send() -> None:
            with socket.socket(socket.AF_INET, DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.sendto(b"group", ("224.0.0.251", 5353))
                await asyncio.sleep(0.1)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
                sock.sendto(b"others", ("224.0.0.251", 5353))
                await asyncio.sleep(0.1)
                sock.sendto(b"all", ("<broadcast>", 5353))

        running = [
            asyncio.ensure_future(sim.host(name).run(listener(name, joins)))
            for name, joins in (("a", True), ("b", True), ("c", False))
        ]
        await asyncio.sleep(0.1)
        await sim.host("a").run(send)
        await asyncio.sleep(1)
        for each in running:
            each.cancel()
        return sorted(got)

    assert simloop.run(main) == [
        ("a", b"all", True), ("a", b"group", True), ("b", b"all", True), ("b", b"group", True), ("b", b"others", True),
        ("c", b"all", True),
    ]  # fmt: skip
