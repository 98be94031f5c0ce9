"""The same calls on unix sockets, made on Linux and on the simulated kernel. None of them waits."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from pathlib import Path
from typing import Any

from simloop.kernel.clock import Clock
from simloop.kernel.descriptors import DescriptorTable
from simloop.kernel.files.calls import FileCalls
from simloop.kernel.files.filesystem import FileSystem
from simloop.kernel.files.resolve import Credentials
from simloop.kernel.ipc.pipes import make_pipe
from simloop.kernel.net.sockets import Socket
from simloop.kernel.net.unix import Ids, UnixSocket, UnixSpace
from simloop.kernel.wall import WallClock
from simloop.shims.socket.addresses import shown
from simloop.shims.socket.ancillary import passed

MASK_BITS = select.POLLIN | select.POLLOUT | select.POLLERR | select.POLLHUP | select.POLLRDHUP
SOL = socket.SOL_SOCKET
#: What paths and abstract names have in front on Linux, where others have some, too.
ABSTRACT = f"simloop-{os.getpid()}-"


class RealUnix:
    """Linux."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir()
        self.made: list[socket.socket] = []
        self.pipes: set[int] = set()

    def finish(self) -> None:
        for sock in self.made:
            sock.close()
        for fd in self.pipes:
            with contextlib.suppress(OSError):
                os.close(fd)

    def name(self, name: str) -> str | bytes:
        return f"\0{ABSTRACT}{name[1:]}".encode() if name[:1] == "@" else f"{self.root}/{name}" if name else ""

    def plain(self, address: Any) -> Any:
        """A name as `name` gets it."""
        if isinstance(address, bytes) and address:
            head = f"\0{ABSTRACT}".encode()
            return "@" + address.removeprefix(head).decode() if address.startswith(head) else "chosen"
        return address.removeprefix(f"{self.root}/") if address else address

    def adopt(self, sock: socket.socket) -> socket.socket:
        sock.setblocking(False)
        self.made.append(sock)
        return sock

    def socket(self, kind: int) -> socket.socket:
        return self.adopt(socket.socket(socket.AF_UNIX, kind))

    def pair(self, kind: int) -> tuple[socket.socket, socket.socket]:
        one, other = socket.socketpair(socket.AF_UNIX, kind)
        return self.adopt(one), self.adopt(other)

    def dup(self, sock: socket.socket) -> socket.socket:
        return self.adopt(sock.dup())

    def bind(self, sock: socket.socket, name: str) -> None:
        sock.bind(self.name(name))

    def connect(self, sock: socket.socket, name: str) -> None:
        sock.connect(self.name(name))

    def accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        child, address = sock.accept()
        return self.adopt(child), self.plain(address)

    def names(self, sock: socket.socket) -> tuple[Any, Any]:
        try:
            peer = self.plain(sock.getpeername())
        except OSError as error:
            peer = error.errno
        return self.plain(sock.getsockname()), peer

    def send(self, sock: socket.socket, data: bytes, flags: int) -> int:
        return sock.send(data, flags)

    def sendto(self, sock: socket.socket, data: bytes, name: str) -> int:
        return sock.sendto(data, self.name(name))

    def send_files(self, sock: socket.socket, data: bytes, fds: list[int]) -> int:
        return socket.send_fds(sock, [data], fds)

    def recv(self, sock: socket.socket, size: int, flags: int) -> bytes:
        return sock.recv(size, flags)

    def recvmsg(self, sock: socket.socket, size: int, room: int, flags: int) -> Any:
        data, ancillary, flags, address = sock.recvmsg(size, room, flags)
        fds = [fd for _, kind, raw in ancillary if kind == socket.SCM_RIGHTS for fd in memoryview(raw).cast("i")]
        for fd in fds:
            os.close(fd)
        told = [(kind, len(raw)) for _, kind, raw in ancillary]
        return data, told, flags, self.plain(address)

    @staticmethod
    def getsockopt(sock: socket.socket, name: int) -> int:
        return sock.getsockopt(SOL, name)

    @staticmethod
    def read(sock: socket.socket, size: int) -> bytes:
        return os.read(sock.fileno(), size)

    @staticmethod
    def write(sock: socket.socket, data: bytes) -> int:
        return os.write(sock.fileno(), data)

    def unlink(self, name: str) -> None:
        os.unlink(self.name(name))

    def rename(self, name: str, to: str) -> None:
        os.rename(self.name(name), self.name(to))

    def mode(self, name: str) -> str:
        return oct(os.stat(self.name(name)).st_mode)

    def mkdir(self, name: str) -> None:
        os.mkdir(self.name(name))

    def mknod(self, name: str) -> None:
        os.mknod(self.name(name), 0o100644)

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self.pipes.update(ends)
        return ends

    def close_fd(self, fd: int) -> None:
        os.close(fd)
        self.pipes.discard(fd)

    @staticmethod
    def masks(socks: list[Any]) -> list[int]:
        poll = select.poll()
        numbers = [sock if isinstance(sock, int) else sock.fileno() for sock in socks]
        for number in numbers:
            poll.register(number, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
        found = dict(poll.poll(0))
        return [found.get(number, 0) & MASK_BITS for number in numbers]


class SimUnix:
    """One process of a simulated host, without a world."""

    def __init__(self, root: Path) -> None:
        self.table = DescriptorTable()
        calls = FileCalls(FileSystem(WallClock(Clock())), self.table, Credentials(os.geteuid(), os.getegid()))
        calls.set_umask(0o022)
        self.calls = calls

        class Current:
            def ids(self) -> Ids:
                return Ids(os.getpid(), os.geteuid(), os.getegid())

            def files(self) -> FileCalls:
                return calls

        self.space = UnixSpace("localhost", Current())

    def finish(self) -> None:
        for fd in list(self.table.files):
            self.table.close(fd)

    def name(self, name: str) -> bytes:
        return f"\0{name[1:]}".encode() if name[:1] == "@" else f"/{name}".encode() if name else b""

    def plain(self, address: Any) -> Any:
        if not address:
            return None if address is None else ""
        if address[0]:
            return os.fsdecode(address)[1:]
        # A name that the kernel has chosen is five hexadecimal digits.
        return "@" + address[1:].decode() if len(address) < 6 else "chosen"

    def adopt(self, file: UnixSocket) -> SimHandle:
        file.flags |= os.O_NONBLOCK
        return SimHandle(self.table, file)

    def socket(self, kind: int) -> SimHandle:
        return self.adopt(UnixSocket(self.space, kind))

    def pair(self, kind: int) -> tuple[SimHandle, SimHandle]:
        one, other = self.space.pair(kind)
        return self.adopt(one), self.adopt(other)

    def dup(self, sock: SimHandle) -> SimHandle:
        return self.adopt(sock.file)

    def bind(self, sock: SimHandle, name: str) -> None:
        sock.file.bind(self.name(name))

    def connect(self, sock: SimHandle, name: str) -> None:
        sock.file.connect(self.name(name))

    def accept(self, sock: SimHandle) -> tuple[SimHandle, Any]:
        child = sock.file.accept()
        return self.adopt(child), self.plain(child.peer_name())

    def names(self, sock: SimHandle) -> tuple[Any, Any]:
        try:
            peer = self.plain(sock.file.getpeername())
        except OSError as error:
            peer = error.errno
        assert shown(socket.AF_UNIX, sock.file.getsockname()) is not None
        return self.plain(sock.file.getsockname()), peer

    def send(self, sock: SimHandle, data: bytes, flags: int) -> int:
        return sock.file.send(data, flags)

    def sendto(self, sock: SimHandle, data: bytes, name: str) -> int:
        return sock.file.sendmsg(data, 0, self.name(name))

    def send_files(self, sock: SimHandle, data: bytes, fds: list[int]) -> int:
        return sock.file.sendmsg(data, 0, None, tuple(self.table.files[fd] for fd in fds))

    def recv(self, sock: SimHandle, size: int, flags: int) -> bytes:
        return sock.file.recv(size, flags)

    def recvmsg(self, sock: SimHandle, size: int, room: int, flags: int) -> Any:
        found = sock.file.recvmsg(size, flags)
        ancillary, more = passed(self.table, found, room, bool(flags & socket.MSG_PEEK))
        for _, kind, raw in ancillary:
            if kind == socket.SCM_RIGHTS:
                for fd in memoryview(raw).cast("i"):
                    self.table.close(fd)
        told = [(kind, len(raw)) for _, kind, raw in ancillary]
        return found.data, told, found.flags | more, self.plain(found.address)

    @staticmethod
    def getsockopt(sock: SimHandle, name: int) -> int:
        value = sock.file.getsockopt(SOL, name)
        return value if isinstance(value, int) else int.from_bytes(value[:4], "little")

    @staticmethod
    def read(sock: SimHandle, size: int) -> bytes:
        return sock.file.read(size)

    @staticmethod
    def write(sock: SimHandle, data: bytes) -> int:
        return sock.file.write(memoryview(data))

    def unlink(self, name: str) -> None:
        self.calls.unlink(f"/{name}")

    def rename(self, name: str, to: str) -> None:
        self.calls.rename(f"/{name}", f"/{to}")

    def mode(self, name: str) -> str:
        return oct(self.calls.stat(f"/{name}").mode)

    def mkdir(self, name: str) -> None:
        self.calls.mkdir(f"/{name}")

    def mknod(self, name: str) -> None:
        self.calls.mknod(f"/{name}", 0o100644)

    def pipe(self) -> tuple[int, int]:
        reader, writer = make_pipe()
        return self.table.open(reader), self.table.open(writer)

    def close_fd(self, fd: int) -> None:
        self.table.close(fd)

    def masks(self, socks: list[Any]) -> list[int]:
        files = [self.table.files[sock] if isinstance(sock, int) else sock.file for sock in socks]
        return [file.mask() | (select.POLLRDHUP if file.hung_up else 0) for file in files]


class SimHandle:
    """A descriptor of a `UnixSocket`, with some signatures of `socket.socket`."""

    def __init__(self, table: DescriptorTable, file: UnixSocket) -> None:
        assert isinstance(file, Socket)
        self.file = file
        self._table = table
        self.fd = table.open(file)
        for name in ("listen", "shutdown", "setsockopt"):
            setattr(self, name, getattr(file, name))

    def close(self) -> None:
        self._table.close(self.fd)


SIDES = {"real": RealUnix, "simulated": SimUnix}
