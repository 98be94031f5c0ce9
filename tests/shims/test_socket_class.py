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


class Derived(socket.socket):
    """Made before any run, and known by its own class everywhere."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def test_derived_classes_are_real_outside_and_simulated_inside() -> None:
    async def connect() -> bytes:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            with Derived("simulated") as sock:
                assert isinstance(sock, Derived)
                assert sock.__class__ is Derived
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, server.sockets[0].getsockname())
                await loop.sock_sendall(sock, sock.name.encode())
                return await loop.sock_recv(sock, 100)

    for _ in range(2):
        assert simloop.run(connect) == b"simulated"
        with Derived("it") as sock:
            assert (type(sock), sock.name, sock.fileno() > 0) == (Derived, "it", True)


def test_a_derived_class_of_a_derived_class() -> None:
    class Mixin:
        def shout(self) -> bytes:
            data: bytes = self.recv(100)  # type: ignore[attr-defined]
            return data.upper()

    class More(Mixin, Derived):
        def recv(self, *args: int) -> bytes:
            return super().recv(*args) + b"!"

    async def main() -> bytes:
        with More("more") as sock, socket.create_server(("127.0.0.1", 0)) as listener:
            sock.connect(listener.getsockname())
            listener.accept()[0].send(b"hello")
            return sock.shout()

    assert simloop.run(main, blocking="ignore") == b"HELLO!"
