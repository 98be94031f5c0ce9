"""Blocking and timeouts of `socket.socket` in plain synchronous code inside of a world."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest

import simloop

HOST = "127.0.0.1"


@pytest.fixture
def sim() -> Any:
    with simloop.world() as sim:
        yield sim


def connection() -> tuple[socket.socket, socket.socket]:
    with socket.create_server((HOST, 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


def test_a_timeout_is_virtual_time(sim: simloop.Sim) -> None:
    client, _ = connection()
    client.settimeout(1)
    before = sim.elapsed
    with pytest.raises(TimeoutError, match="timed out"):
        client.recv(1)
    assert sim.elapsed - before == pytest.approx(1, abs=0.001)
    listener = socket.create_server((HOST, 0))
    listener.settimeout(3)
    with pytest.raises(TimeoutError):
        listener.accept()
    assert sim.elapsed - before == pytest.approx(4, abs=0.001)


def test_the_timeout_of_sendall_is_for_all_of_it(sim: simloop.Sim) -> None:
    client, _ = connection()
    client.settimeout(2)
    before = sim.elapsed
    with pytest.raises(TimeoutError):
        client.sendall(bytes(10_000_000))
    assert sim.elapsed - before == pytest.approx(2, abs=0.001)


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_connecting_to_nobody_is_refused(sim: simloop.Sim, timeout: float | None) -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        address = unused.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout)
        with socket.socket() as sock:
            sock.settimeout(timeout)
            assert sock.connect_ex(address) == errno.ECONNREFUSED
            # A kernel that waits itself makes the socket fresh again; Python only asks for the error.
            assert sock.connect_ex(address) == (errno.ECONNREFUSED if timeout is None else errno.ECONNABORTED)


def test_who_connects_blocking_is_connected(sim: simloop.Sim) -> None:
    listener = socket.create_server((HOST, 0))
    for timeout, second in ((None, errno.EISCONN), (5.0, 0)):
        with socket.socket() as sock:
            sock.settimeout(timeout)
            assert sock.connect_ex(listener.getsockname()) == 0
            assert sock.connect_ex(listener.getsockname()) == second


def test_a_full_backlog_times_out(sim: simloop.Sim) -> None:
    listener = socket.create_server((HOST, 0), backlog=0)
    first = socket.create_connection(listener.getsockname())
    with pytest.raises(TimeoutError):
        socket.create_connection(listener.getsockname(), timeout=0.5)
    with pytest.raises(TimeoutError) as raised, socket.socket() as sock:
        sock.connect(listener.getsockname())
    assert raised.value.errno == errno.ETIMEDOUT
    assert sim.elapsed > 60
    first.close()


@pytest.mark.parametrize("call", [("recv", 1), ("send", bytes(10_000_000)), ("sendall", bytes(10_000_000))])
def test_waiting_for_nothing_is_a_deadlock(sim: simloop.Sim, call: tuple[str, Any]) -> None:
    client, _server = connection()
    with pytest.raises(simloop.DeadlockError):
        getattr(client, call[0])(call[1])


def test_an_end_and_a_reset_wake_who_waits(sim: simloop.Sim) -> None:
    client, server = connection()
    server.send(b"bye")
    server.close()
    assert client.recv(10, socket.MSG_WAITALL) == b"bye"
    assert client.recv(10) == b""
    client, server = connection()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(BrokenPipeError):
        client.send(b"x")


def test_a_blocking_socket_can_be_asked_without_blocking(sim: simloop.Sim) -> None:
    client, server = connection()
    with pytest.raises(BlockingIOError):
        client.recv(1, socket.MSG_DONTWAIT)
    server.sendmsg([b"ab", b"cd"])
    assert client.recv(2, socket.MSG_PEEK) == b"ab"
    buffers = [bytearray(3), bytearray(3)]
    assert client.recvmsg_into(buffers)[0] == 4
    assert buffers == [b"abc", b"d\0\0"]


def test_makefile(sim: simloop.Sim) -> None:
    client, server = connection()
    with client.makefile("w", encoding="utf-8") as out:
        out.write("one\ntwo\n")
    client.close()
    with server.makefile("r", encoding="utf-8") as lines:
        server.close()  # the file goes on
        assert list(lines) == ["one\n", "two\n"]
    assert server.fileno() == -1


def test_a_closed_socket_is_a_bad_descriptor(sim: simloop.Sim) -> None:
    client, _ = connection()
    client.close()
    client.close()
    calls: list[Any] = [
        lambda: client.send(b"x"), lambda: client.sendall(b"x"), lambda: client.recv(1), client.accept,
        client.getsockname, client.getpeername, lambda: client.bind((HOST, 0)), lambda: client.listen(),
        lambda: client.connect((HOST, 1)), lambda: client.connect_ex((HOST, 1)), lambda: client.settimeout(1),
        lambda: client.shutdown(socket.SHUT_WR), lambda: client.getsockopt(1, 4), lambda: client.setsockopt(1, 2, 1),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()
    assert client.recv(0) == b""  # as real ones: nobody is asked
    assert client.fileno() == -1


@pytest.mark.parametrize("data", ["text", 5, [1, 2], None])
@pytest.mark.parametrize("blocking", [True, False])
def test_only_bytes_can_be_sent(sim: simloop.Sim, data: Any, blocking: bool) -> None:
    client, _ = connection()
    client.setblocking(blocking)
    for call in (client.send, client.sendall):
        with pytest.raises(TypeError):
            call(data)
    with pytest.raises(ValueError, match="negative buffersize"):
        client.recv(-1)


def test_anything_with_a_buffer_can_be_sent(sim: simloop.Sim) -> None:
    import array

    client, server = connection()
    client.setblocking(False)
    assert client.send(array.array("H", [1, 2])) == 4
    assert client.send(memoryview(bytearray(b"xyz"))[1:]) == 2
    assert server.recv(10) == b"\1\0\2\0yz"


def test_create_server_and_create_connection(sim: simloop.Sim) -> None:
    server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    for host, seen in (("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")):
        with socket.create_connection((host, server.getsockname()[1]), timeout=1):
            child, peer = server.accept()
            assert peer[0] == child.getpeername()[0] == seen
    with pytest.raises(OSError, match="Address already in use"):
        socket.create_server(("", server.getsockname()[1]))


def test_an_address_of_the_other_family_does_not_resolve(sim: simloop.Sim) -> None:
    for family, host in ((socket.AF_INET, "::1"), (socket.AF_INET6, "127.0.0.1")):
        with socket.socket(family) as sock, pytest.raises(socket.gaierror) as raised:
            sock.bind((host, 0))
        assert raised.value.errno == socket.EAI_ADDRFAMILY
