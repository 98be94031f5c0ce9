"""Programs over unix sockets that end alike on Linux and in a world: the same functions, run in both."""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import os
import select
import socket
import stat
import struct
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simloop

UNIX, STREAM, DGRAM, SEQPACKET = socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
SOL = socket.SOL_SOCKET

Run = Callable[..., Any]


@pytest.fixture(params=["real", "simulated"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls a function, or runs an async one, on stock asyncio or in a world; in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(function: Callable[..., Any], *args: Any) -> Any:
        async def main() -> Any:
            found = function(*args)
            return await found if asyncio.iscoroutine(found) else found

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


# --- asyncio ----------------------------------------------------------------------------------------


def test_a_server_at_a_path_echoes_and_tells_its_names(run: Run) -> None:
    async def main() -> list[Any]:
        seen: list[Any] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append((writer.get_extra_info("sockname"), writer.get_extra_info("peername")))
            writer.write(await reader.read())
            writer.write_eof()
            await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(serve, "service.sock")
        reader, writer = await asyncio.open_unix_connection("service.sock")
        seen.append((writer.get_extra_info("sockname"), writer.get_extra_info("peername")))
        writer.write(b"x" * 500_000)  # more than fits into all buffers
        writer.write_eof()
        seen.append(len(await reader.read()))
        seen.append(stat.S_ISSOCK(os.stat("service.sock").st_mode))
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return seen

    assert sorted(run(main), key=str) == [("", "service.sock"), ("service.sock", ""), 500_000, True]


def test_the_errors_of_open_unix_connection(run: Run) -> None:
    async def main() -> list[Any]:
        found = []
        Path("file").touch()
        with socket.socket(UNIX) as stale:
            stale.bind("stale")
        with socket.socket(UNIX, DGRAM) as other:
            other.bind("datagrams")
            for name in ("nowhere", "file", "stale", "datagrams", "file/x", "x" * 200):
                try:
                    await asyncio.open_unix_connection(name)
                except OSError as error:
                    found.append(errno.errorcode[error.errno] if error.errno else str(error))
        server = await asyncio.start_unix_server(lambda r, w: None, "stale")  # which takes a stale one away
        server.close()
        try:
            await asyncio.start_unix_server(lambda r, w: None, "file")
        except OSError as error:
            found.append((error.errno, str(error)))
        return found

    assert run(main) == [
        "ENOENT", "ECONNREFUSED", "ECONNREFUSED", "EPROTOTYPE", "ENOTDIR", "AF_UNIX path too long",
        (errno.EADDRINUSE, "[Errno 98] Address 'file' is already in use"),
    ]  # fmt: skip


def test_a_socket_passed_to_a_server_or_a_client(run: Run) -> None:
    async def main() -> bytes:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        listener = socket.socket(UNIX)
        listener.bind("\0simloop-passed")
        # As uvicorn does with its `fd=`.
        copy = socket.fromfd(listener.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)
        listener.close()
        server = await asyncio.start_unix_server(serve, sock=copy)
        client = socket.socket(UNIX)
        client.connect("\0simloop-passed")
        reader, writer = await asyncio.open_unix_connection(sock=client)
        writer.write(b"hello\n")
        answer = await reader.read()
        writer.close()
        server.close()
        return answer

    assert run(main) == b"hello\n"


def test_loop_methods_over_a_socketpair(run: Run) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            filling = asyncio.create_task(loop.sock_sendall(one, bytes(1_000_000)))
            got = 0
            while got < 1_000_000:
                got += len(await loop.sock_recv(other, 65_536))
            await filling
            called: list[int] = []
            loop.add_reader(other, called.append, 1)
            await asyncio.sleep(0)
            one.send(b"x")
            assert not called
            await asyncio.sleep(0.01)
            loop.remove_reader(other)
            return [got, bool(called)]

    assert run(main) == [1_000_000, True]


def test_datagram_endpoints_at_paths(run: Run) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        seen: list[Any] = []

        class Receiver(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, address: Any) -> None:
                seen.append((data, address))
                if data.islower():
                    self.transport.sendto(data.upper(), address)

        server, _ = await loop.create_datagram_endpoint(Receiver, "server", family=UNIX)
        client, _ = await loop.create_datagram_endpoint(Receiver, "client", "server", family=UNIX)
        client.sendto(b"one")
        client.sendto(b"two")
        while len(seen) < 4:
            await asyncio.sleep(0.001)
        client.close()
        server.close()
        return sorted(seen)

    assert run(main) == [(b"ONE", "server"), (b"TWO", "server"), (b"one", "client"), (b"two", "client")]


# --- blocking calls ---------------------------------------------------------------------------------


def in_a_thread(function: Callable[..., Any], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def test_blocking_calls_wait(run: Run) -> None:
    def main() -> list[Any]:
        seen: list[Any] = []
        one, other = socket.socketpair()
        thread = in_a_thread(lambda: seen.append(other.recv(10)))
        one.send(b"hello")
        thread.join()
        thread = in_a_thread(one.sendall, bytes(400_000))
        got = 0
        while got < 400_000:
            got += len(other.recv(100_000))
        thread.join()
        seen.append(got)
        thread = in_a_thread(lambda: seen.append(other.recv(6, socket.MSG_WAITALL)))
        one.send(b"abc")
        one.send(b"def")
        thread.join()
        other.settimeout(0.01)
        seen.append(error_of(other.recv, 1))
        one.close()
        seen.append(other.recv(1))
        other.close()
        return seen

    assert run(main) == [b"hello", 400_000, b"abcdef", "timed out", b""]


def test_a_blocking_connect_waits_for_room_in_the_queue(run: Run) -> None:
    def main() -> list[Any]:
        with socket.socket(UNIX) as listener, socket.socket(UNIX) as first, socket.socket(UNIX) as second:
            listener.bind("@listener")
            listener.listen(0)
            first.connect("@listener")
            second.setblocking(False)
            seen = [error_of(second.connect, "@listener")]
            second.settimeout(5)
            seen.append(error_of(second.connect, "@listener"))
            second.setblocking(True)
            thread = in_a_thread(second.connect, "@listener")
            listener.accept()[0].close()
            listener.accept()[0].close()
            thread.join()
            seen += [first.recv(1), second.recv(1)]
            return seen

    assert run(main) == ["EAGAIN", "EAGAIN", b"", b""]


def test_a_blocking_datagram_waits_for_room_at_its_receiver(run: Run) -> None:
    def main() -> list[Any]:
        with socket.socket(UNIX, DGRAM) as receiver, socket.socket(UNIX, DGRAM) as sender:
            receiver.bind("receiver")
            sender.settimeout(0.02)
            count = 0
            while error_of(sender.sendto, b"x", "receiver") is None:
                count += 1
            seen: list[Any] = [error_of(sender.sendto, b"x", "receiver"), count > 1]
            sender.settimeout(None)
            thread = in_a_thread(lambda: seen.append(sender.sendto(b"late", "receiver")))
            for _ in range(count):
                assert receiver.recv(10) == b"x"
            seen.append(receiver.recv(10))
            thread.join()
            return sorted(seen, key=str)

    assert run(main) == [4, True, b"late", "timed out"]


def test_a_datagram_socket_that_was_shut_down_reads_nothing(run: Run) -> None:
    def main() -> list[Any]:
        one, other = socket.socketpair(UNIX, DGRAM)
        with one, other:
            one.shutdown(socket.SHUT_RD)
            seen = [one.recv(1), error_of(one.recv, 1, socket.MSG_DONTWAIT), error_of(other.send, b"x")]
            one.settimeout(0.01)
            return [*seen, error_of(one.recv, 1)]

    assert run(main) == [b"", "EAGAIN", "EPIPE", "timed out"]


# --- what sockets say of themselves ---------------------------------------------------------------------


def test_objects_descriptors_and_their_errors(run: Run) -> None:
    def main() -> list[Any]:
        one, other = socket.socketpair()
        seen: list[Any] = [(one.family, one.type, one.proto, one.getsockname(), one.getpeername())]
        copy = one.dup()
        made = socket.socket(fileno=other.detach())
        seen.append((copy.family, made.type, other.fileno(), one.getblocking(), copy.get_inheritable()))
        copy.send(b"abc")
        one.close()
        seen.append((made.recv(10), made.family, made.type))
        copy.setblocking(False)
        again = socket.fromfd(copy.fileno(), UNIX, STREAM)
        # O_NONBLOCK belongs to the open file, which both have.
        seen.append((os.get_blocking(again.fileno()), again.gettimeout(), error_of(again.recv, 1)))
        os.set_blocking(again.fileno(), True)
        made.set_inheritable(True)
        seen.append((made.get_inheritable(), os.get_inheritable(made.fileno())))
        for sock in (copy, again):
            sock.close()
        seen.append(made.recv(1))
        with open("file", "w") as file:
            seen.append(error_of(lambda: socket.socket(fileno=file.fileno())))
        seen.append(error_of(lambda: socket.socket(fileno=-1)))
        fd = made.fileno()
        made.close()
        seen.append(error_of(lambda: socket.socket(fileno=fd)))
        seen += [error_of(socket.socketpair, socket.AF_INET), error_of(socket.socketpair, UNIX, 99)]
        seen += [error_of(socket.socket, UNIX, socket.SOCK_RDM), error_of(socket.socket, UNIX, STREAM, 6)]
        return seen

    assert run(main) == [
        (UNIX, STREAM, 0, "", ""),
        (UNIX, STREAM, -1, True, False),
        (b"abc", UNIX, STREAM),
        (False, None, "EAGAIN"),
        (True, True),
        b"",
        "ENOTSOCK",
        "ValueError: negative file descriptor",
        "EBADF",
        errno.errorcode[errno.EOPNOTSUPP],
        "EINVAL",
        "ESOCKTNOSUPPORT",
        "EPROTONOSUPPORT",
    ]


def test_names_in_all_their_forms(run: Run) -> None:
    def main() -> list[Any]:
        seen: list[Any] = []
        for name in ("path", b"bytes", "\0simloop-abstract", b"\0simloop-bytes", "cut\0off"):
            with socket.socket(UNIX) as sock:
                sock.bind(name)
                seen.append(sock.getsockname())
        with socket.socket(UNIX) as sock:
            sock.bind("")
            seen.append((sock.getsockname()[:1], len(sock.getsockname())))
            seen.append(error_of(sock.bind, "x" * 108))
            seen.append(error_of(sock.bind, b"\0" + b"x" * 108))
        with socket.socket(UNIX) as sock:
            sock.bind("x" * 107)
            seen += [error_of(sock.bind, 5), error_of(sock.connect, "")]
        return [*seen, sorted(os.listdir())]

    assert run(main) == [
        "path", "bytes", b"\0simloop-abstract", b"\0simloop-bytes", "cut", (b"\0", 6), "AF_UNIX path too long",
        "AF_UNIX path too long", "TypeError: a bytes-like object is required, not 'int'", "EINVAL",
        ["bytes", "cut", "path", "x" * 107],
    ]  # fmt: skip


def test_the_file_of_a_socket(run: Run) -> None:
    def main() -> list[Any]:
        before = os.umask(0o027)
        try:
            with socket.socket(UNIX) as sock:
                os.fchmod(sock.fileno(), 0o766)
                sock.bind("name")
                seen: list[Any] = [oct(os.stat("name").st_mode), oct(os.fstat(sock.fileno()).st_mode)]
                seen += [error_of(os.open, "name", os.O_RDWR), error_of(sock.bind, "name")]
                sock.listen()
                os.rename("name", "other")
                os.link("other", "third")
                with socket.socket(UNIX) as client:
                    client.connect("third")
                    seen.append(client.getpeername())
        finally:
            os.umask(before)
        return seen

    assert run(main) == ["0o140740", "0o140766", "ENXIO", "EADDRINUSE", "name"]


def test_read_write_and_files_over_sockets(run: Run) -> None:
    def main() -> list[Any]:
        one, other = socket.socketpair()
        with one, other:
            seen: list[Any] = [os.write(one.fileno(), b"hello"), os.read(other.fileno(), 3), os.read(other.fileno(), 9)]
            with one.makefile("rw") as text:
                text.write("a line\n")
                text.flush()
                seen.append(other.recv(100))
                other.send(b"and\nmore\n")
                seen += [text.readline(), text.readline()]
            with open("file", "wb") as file:
                file.write(b"contents")
            with open("file", "rb") as file:
                seen += [one.sendfile(file), other.recv(100)]
            seen += [error_of(os.lseek, one.fileno(), 0, 0), error_of(os.pread, one.fileno(), 1, 0)]
            seen += [error_of(os.ftruncate, one.fileno(), 0), error_of(os.fsync, one.fileno())]
            poll = select.poll()
            poll.register(other, select.POLLIN | select.POLLRDHUP)
            seen.append(poll.poll(0))
            one.shutdown(socket.SHUT_WR)
            seen.append([mask for _, mask in poll.poll(0)])
            return seen

    assert run(main) == [
        5, b"hel", b"lo", b"a line\n", "and\n", "more\n", 8, b"contents", "ESPIPE", "ESPIPE", "EINVAL", "EINVAL", [],
        [select.POLLIN | select.POLLRDHUP],
    ]  # fmt: skip


def test_credentials_and_files_are_passed(run: Run) -> None:
    def main() -> list[Any]:
        one, other = socket.socketpair()
        with one, other:
            pid, uid, gid = struct.unpack("3i", one.getsockopt(SOL, socket.SO_PEERCRED, 12))
            seen: list[Any] = [(pid == os.getpid(), uid == os.geteuid(), gid == os.getegid())]
            read_end, write_end = os.pipe()
            socket.send_fds(one, [b"da", b"ta"], [write_end, write_end])
            os.close(write_end)
            data, fds, flags, address = socket.recv_fds(other, 100, 2)
            seen.append((data, len(fds), flags, address, [os.get_inheritable(fd) for fd in fds]))
            os.write(fds[0], b"through a copy")
            seen.append(os.read(read_end, 100))
            for fd in fds:
                os.close(fd)
            seen.append(os.read(read_end, 1))
            other.setsockopt(SOL, socket.SO_PASSCRED, 1)
            one.sendmsg([b"x"], [(SOL, socket.SCM_RIGHTS, array.array("i", [read_end] * 3))])
            data, ancillary, flags, _ = other.recvmsg(10, 60)
            kinds = [(kind, len(raw)) for _, kind, raw in ancillary]
            seen.append((kinds, flags, struct.unpack("3i", ancillary[0][2])[0] == os.getpid()))
            for fd in memoryview(ancillary[1][2]).cast("i"):
                os.close(fd)
            os.close(read_end)
            seen.append(error_of(socket.send_fds, one, [b"x"], [read_end]))
            seen.append(error_of(one.sendmsg, [b"x"], [(SOL, 77, b"")]))
            return seen

    assert run(main) == [
        (True, True, True),
        (b"data", 2, 0, None, [True, True]),
        b"through a copy",
        b"",
        ([(socket.SCM_CREDENTIALS, 12), (socket.SCM_RIGHTS, 12)], 0, True),
        "EBADF",
        "EINVAL",
    ]


def test_how_much_can_be_received(run: Run) -> None:
    def available(sock: socket.socket) -> Any:
        try:
            return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def main() -> list[Any]:
        seen: list[Any] = []
        for kind in (STREAM, DGRAM, SEQPACKET):
            one, other = socket.socketpair(UNIX, kind)
            with one, other:
                seen.append(available(other))
                one.send(b"abc")
                one.send(b"defgh")
                seen.append(available(other))
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            client.connect(listener.getsockname())
            server = listener.accept()[0]
            server.send(b"1234")
            client.recv(1)
            seen += [available(client), available(listener)]
            server.close()
        with socket.socket(socket.AF_INET, DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            udp.sendto(b"12", udp.getsockname())
            udp.sendto(b"3456", udp.getsockname())
            seen.append(available(udp))
        with socket.socket(UNIX) as listener:
            listener.bind("listener")
            listener.listen()
            seen.append(available(listener))
        return seen

    assert run(main) == [0, 8, 0, 3, 0, 8, 3, "EINVAL", 2, "EINVAL"]


def test_packets_keep_their_bounds(run: Run) -> None:
    def main() -> list[Any]:
        seen: list[Any] = []
        for kind in (DGRAM, SEQPACKET):
            one, other = socket.socketpair(UNIX, kind)
            with one, other:
                one.send(b"first")
                one.sendall(b"second")
                one.send(b"")
                buffer = bytearray(3)
                seen.append(other.recvmsg(3)[:3:2])
                seen.append(other.recv_into(buffer, 0, socket.MSG_PEEK | socket.MSG_TRUNC))
                seen.append((bytes(buffer), other.recv(100), other.recv(100)))
                seen.append(error_of(one.send, bytes(300_000)))
        return seen

    expected = [(b"fir", socket.MSG_TRUNC), 6, (b"sec", b"second", b""), "EMSGSIZE"]
    assert run(main) == expected * 2


# --- classes of one's own -------------------------------------------------------------------------------


class Counting(socket.socket):
    """Calls its bases both by `super()` and by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        socket.socket.__init__(self, *args, **kwargs)
        self.calls = 0

    def recv(self, *args: Any) -> bytes:
        self.calls += 1
        return super().recv(*args)

    def send(self, *args: Any) -> int:  # type: ignore[override]
        self.calls += 1
        return socket.socket.send(self, *args)


def test_classes_derived_from_socket(run: Run) -> None:
    class Inside(Counting):
        __slots__ = ("more",)

    async def main(cls: type[Counting]) -> list[Any]:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        mine = cls(fileno=one.detach())
        with mine, other:
            mine.setblocking(False)
            other.setblocking(False)
            mine.send(b"hello")
            seen: list[Any] = [await loop.sock_recv(other, 10)]
            other.send(b"answer")
            seen.append(await loop.sock_recv(mine, 10))
            copy = mine.dup()
            seen += [mine.calls, isinstance(mine, cls), copy.__class__ is cls, repr(mine).partition(" fd=")[0]]
            copy.close()
            return seen

    for cls in (Counting, Inside):
        shown = f"<{cls.__module__}.{cls.__qualname__}"
        assert run(main, cls) == [b"hello", b"answer", 2, True, True, shown]
