"""Programs over UDP that end alike on Linux's loopback and in a world: the same functions, run in both."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

import simloop

DGRAM = socket.SOCK_DGRAM
HOST = "127.0.0.1"
LO = socket.inet_aton(HOST)

Run = Callable[..., Any]


@pytest.fixture(params=["real", "simulated"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs an async function on stock asyncio or in a world."""

    def run(main: Callable[..., Any]) -> Any:
        return asyncio.run(main()) if request.param == "real" else simloop.run(main, blocking="ignore")

    return run


def error_of(call: Callable[..., Any], *args: Any) -> Any:
    """The name of the errno, or the exception's type and words."""
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno] if error.errno else str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


class Collector(asyncio.DatagramProtocol):
    """Keeps what comes."""

    def __init__(self, answer: Callable[[bytes], bytes] | None = None) -> None:
        self.answer = answer
        self.got: list[Any] = []
        self.errors: list[str] = []
        self.lost = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.got.append((data, address))
        if self.answer is not None:
            self.transport.sendto(self.answer(data), address)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(type(exc).__name__)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    async def wait_for(self, count: int) -> list[bytes]:
        while len(self.got) < count:
            await asyncio.sleep(0.001)
        return [data for data, _ in self.got]


def test_endpoints_echo_over_both_families(run: Run) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        seen: list[Any] = []
        for host in (HOST, "::1"):
            server, _ = await loop.create_datagram_endpoint(lambda: Collector(bytes.upper), (host, 0))
            address = server.get_extra_info("sockname")
            client, protocol = await loop.create_datagram_endpoint(Collector, remote_addr=address[:2])
            for piece in (b"one", b"two"):
                client.sendto(piece)
            seen.append(await protocol.wait_for(2))
            seen.append(client.get_extra_info("peername") == address)
            seen.append(all(source == address for _, source in protocol.got))
            client.close()
            server.close()
            await protocol.lost.wait()
        return seen

    assert run(main) == [[b"ONE", b"TWO"], True, True] * 2


def test_a_connected_endpoint_is_told_that_nobody_is_there(run: Run) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, DGRAM) as unused:
            unused.bind((HOST, 0))
            address = unused.getsockname()
        client, protocol = await loop.create_datagram_endpoint(Collector, remote_addr=address)
        client.sendto(b"anybody?")
        while not protocol.errors:
            await asyncio.sleep(0.001)
        client.close()
        other, silent = await loop.create_datagram_endpoint(Collector, (HOST, 0))
        other.sendto(b"anybody?", address)
        await asyncio.sleep(0.01)
        other.close()
        return [protocol.errors, silent.errors]

    assert run(main) == [["ConnectionRefusedError"], []]


def test_loop_methods(run: Run) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, DGRAM) as one, socket.socket(socket.AF_INET, DGRAM) as other:
            for sock in (one, other):
                sock.setblocking(False)
                sock.bind((HOST, 0))
            seen: list[Any] = [await loop.sock_sendto(one, b"hello", other.getsockname())]
            data, address = await loop.sock_recvfrom(other, 100)
            seen.append((data, address == one.getsockname()))
            waiting = asyncio.ensure_future(loop.sock_recvfrom(one, 3))
            await asyncio.sleep(0.001)
            await loop.sock_connect(other, one.getsockname())
            await loop.sock_sendall(other, b"cut off")
            seen.append((await waiting)[0])
            buffer = bytearray(10)
            await loop.sock_sendto(one, b"into", other.getsockname())
            size, _ = await loop.sock_recvfrom_into(other, buffer)
            seen.append(bytes(buffer[:size]))
            return seen

    assert run(main) == [5, (b"hello", True), b"cut", b"into"]


def test_sharing_a_port(run: Run) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        first, one = await loop.create_datagram_endpoint(Collector, (HOST, 0), reuse_port=True)
        address = first.get_extra_info("sockname")
        second, two = await loop.create_datagram_endpoint(Collector, address, reuse_port=True)
        try:
            await loop.create_datagram_endpoint(Collector, address)
        except OSError as error:
            refused = errno.errorcode[error.errno or 0]
        client, _ = await loop.create_datagram_endpoint(Collector, (HOST, 0))
        for _ in range(5):
            client.sendto(b"x", address)
        while len(one.got) + len(two.got) < 5:
            await asyncio.sleep(0.001)
        for transport in (first, second, client):
            transport.close()
        # All that one sender sends goes to one of them.
        return [refused, sorted([len(one.got), len(two.got)])]

    assert run(main) == ["EADDRINUSE", [0, 5]]


def test_broadcast_and_groups(run: Run) -> None:
    async def main() -> list[Any]:
        seen: list[Any] = []
        with (
            socket.socket(socket.AF_INET, DGRAM) as sender,
            socket.socket(socket.AF_INET, DGRAM) as one,
            socket.socket(socket.AF_INET, DGRAM) as other,
        ):
            for sock in (one, other):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.settimeout(2)
            one.bind(("", 0))
            port = one.getsockname()[1]
            other.bind(("", port))
            seen.append(error_of(sender.sendto, b"all", ("127.255.255.255", port)))
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.sendto(b"all", ("127.255.255.255", port))
            seen += [one.recv(10), other.recv(10)]
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, LO)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.9.9.9") + LO)
            one.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
            sender.sendto(b"group", ("224.9.9.9", port))
            data, ancillary, _, address = one.recvmsg(10, 100)
            seen += [data, struct.unpack("i4s4s", ancillary[0][2])[2], address == (HOST, sender.getsockname()[1])]
            seen.append(other.recv(10))  # IP_MULTICAST_ALL
            sender.sendto(b"nobody", ("224.9.9.10", port))
            one.settimeout(0.01)
            seen.append(error_of(one.recv, 10))
        return seen

    assert run(main) == [
        "EACCES", b"all", b"all", b"group", socket.inet_aton("224.9.9.9"), True, b"group", "timed out"
    ]  # fmt: skip


def test_an_ipv6_socket_takes_both_families(run: Run) -> None:
    async def main() -> list[Any]:
        with (
            socket.socket(socket.AF_INET6, DGRAM) as both,
            socket.socket(socket.AF_INET, DGRAM) as four,
            socket.socket(socket.AF_INET6, DGRAM) as six,
        ):
            both.bind(("::", 0))
            both.settimeout(2)
            port = both.getsockname()[1]
            four.sendto(b"four", (HOST, port))
            six.sendto(b"six", ("::1", port))
            found = sorted([both.recvfrom(10), both.recvfrom(10)])
            both.sendto(b"back", found[0][1])
            return [[(data, address[0]) for data, address in found], four.recv(10), error_of(four.bind, (HOST, port))]

    assert run(main) == [[(b"four", "::ffff:127.0.0.1"), (b"six", "::1")], b"back", "EINVAL"]


def test_more_than_the_buffer_holds_is_dropped(run: Run) -> None:
    async def main() -> list[Any]:
        with socket.socket(socket.AF_INET, DGRAM) as sender, socket.socket(socket.AF_INET, DGRAM) as receiver:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 5_000)
            receiver.bind((HOST, 0))
            receiver.setblocking(False)
            for number in range(100):
                sender.sendto(b"%d" % number, receiver.getsockname())
            await asyncio.sleep(0.01)
            got = []
            while error_of(lambda: got.append(receiver.recv(10))) is None:
                pass
            # The first ones, in their order.
            return [0 < len(got) < 50, got == [b"%d" % number for number in range(len(got))]]

    assert run(main) == [True, True]


def test_blocking_calls_and_ends(run: Run) -> None:
    async def main() -> list[Any]:
        with socket.socket(socket.AF_INET, DGRAM) as one, socket.socket(socket.AF_INET, DGRAM) as other:
            one.bind((HOST, 0))
            other.connect(one.getsockname())
            waiting = asyncio.ensure_future(asyncio.to_thread(one.recvfrom, 100))
            await asyncio.sleep(0.01)
            other.send(b"late")
            seen: list[Any] = [(await waiting)[0]]
            one.settimeout(0.01)
            seen.append(error_of(one.recv, 1))
            other.shutdown(socket.SHUT_RDWR)
            seen += [other.recv(1), error_of(other.send, b"x"), error_of(one.shutdown, socket.SHUT_RD)]
            return seen

    assert run(main) == [b"late", "timed out", b"", "EPIPE", "ENOTCONN"]


@pytest.mark.parametrize(
    ("host", "options"),
    [
        (HOST, [(socket.IPPROTO_IP, 11), (socket.IPPROTO_IP, 8)]),
        ("::1", [(socket.IPPROTO_IPV6, 25), (socket.IPPROTO_IPV6, 49)]),
        ("::ffff:127.0.0.1", [(socket.IPPROTO_IP, 11), (socket.IPPROTO_IP, 8), (socket.IPPROTO_IPV6, 49)]),
    ],
)
def test_the_queue_of_errors(host: str, options: list[tuple[int, int]]) -> None:
    """Who asks for IP_RECVERR is told of refusals without being connected, with the datagram that was refused."""

    async def main() -> list[Any]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        seen: list[Any] = []
        with socket.socket(family, DGRAM) as sock, socket.socket(family, DGRAM) as gone:
            for option in options:
                sock.setsockopt(*option, 1)
            gone.bind((host, 0))
            address = gone.getsockname()
            gone.close()
            sock.settimeout(None)
            poll = select.epoll()
            poll.register(sock, select.EPOLLIN)
            for size in (2000, 2):
                sock.sendto(b"x" * size, address)
                await asyncio.sleep(0.001)
                seen.append(error_of(sock.sendto, b"not sent", address))
            seen.append(error_of(sock.sendto, bytes(65_530), address))
            for _ in range(4):
                seen.append([events for _, events in poll.poll(0)])
                try:
                    # It does not wait, although the socket would.
                    data, ancillary, flags, sender = sock.recvmsg(100, 1000, socket.MSG_ERRQUEUE)
                except BlockingIOError:
                    continue
                seen.append((data, ancillary, flags, sender[0], sender[1] in (0, address[1]), sender[1] > 0))
            poll.close()
        with socket.socket() as connection:
            seen.append(error_of(connection.recvmsg, 1, 0, socket.MSG_ERRQUEUE))
        return seen

    expected = asyncio.run(main())
    errors = [entry for entry in expected if isinstance(entry, tuple)]
    assert [(len(data), flags) for data, _, flags, *_ in errors] == [
        (100, socket.MSG_ERRQUEUE | socket.MSG_TRUNC), (2, socket.MSG_ERRQUEUE), (0, socket.MSG_ERRQUEUE)
    ]  # fmt: skip
    assert [entry for entry in expected if isinstance(entry, str)] == ["ECONNREFUSED"] * 2 + ["EMSGSIZE", "EAGAIN"]
    assert simloop.run(main, blocking="ignore") == expected
