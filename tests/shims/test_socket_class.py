"""`socket.socket` in a world, and after one: the same class, of simulated sockets inside and of real ones outside."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

import simloop
from simloop.simulation.install import install, uninstall

Before = socket.socket


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    install()
    yield
    uninstall()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(100))
    writer.close()


async def from_a_name_taken_before() -> bytes:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        with Before() as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
            await asyncio.get_running_loop().sock_sendall(sock, b"hello")
            assert isinstance(sock, socket.socket)
            return await asyncio.get_running_loop().sock_recv(sock, 100)


def test_real_sockets_are_of_that_very_class() -> None:
    assert simloop.run(from_a_name_taken_before) == b"hello"
    assert socket.socket is Before
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        accepted, _ = listener.accept()
        with accepted:
            assert {type(each) for each in (listener, sock, accepted)} == {Before}
    uninstall()
    with socket.socket() as sock:
        assert type(sock) is Before


def test_derived_classes_are_real_outside_and_escape_inside() -> None:
    class Derived(socket.socket):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    with Derived("it") as sock:
        assert (type(sock), sock.name, sock.fileno() > 0) == (Derived, "it", True)

    async def main() -> None:
        Derived("it")

    with pytest.raises(simloop.EscapedSimulationError, match=r"test_socket_class.py:\d+: a socket of a derived class"):
        simloop.run(main)
