"""The same non-blocking TCP calls on Linux and on the simulated kernel.

Both are driven from a plain script, without entering a world: neither knows of asyncio or of the shims.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from simloop.choices.choices import Choices
from simloop.kernel.host import Host
from simloop.kernel.net.tcp import TcpSocket
from simloop.kernel.scheduler import Scheduler
from simloop.network.network import Network

#: How long the real kernel may take until what was sent over loopback has arrived. Only a failing
#: comparison waits so long.
PATIENCE = 1.0
MASK_BITS = select.POLLIN | select.POLLOUT | select.POLLERR | select.POLLHUP

Outcome = tuple[Any, ...]


def have_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


class RealKernel:
    """Linux, over its loopback."""

    def socket(self, v6: bool) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
        sock.setblocking(False)
        # Else a small packet may wait 40 ms for the acknowledgement of the one before (tcp(7)), and what
        # is called meanwhile gives other results.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    @staticmethod
    def masks(socks: Iterable[socket.socket]) -> list[int]:
        poll = select.poll()
        numbers = [sock.fileno() for sock in socks]
        for number in numbers:
            poll.register(number, select.POLLIN | select.POLLOUT)
        found = dict(poll.poll(0))
        return [found.get(number, 0) & MASK_BITS for number in numbers]


def taken_by_others(port: int, ours: Iterable[socket.socket], our_ports: Iterable[int]) -> bool:
    """Whether another program holds this real port by now (proc_net_tcp.rst in the kernel's documentation)."""
    inodes = {os.fstat(sock.fileno()).st_ino for sock in ours}
    known = set(our_ports)
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(table) as lines:
            for fields in [line.split() for line in lines][1:]:
                local, remote = (int(fields[n].rpartition(":")[2], 16) for n in (1, 2))
                # Without an owner it is what is left of a connection: ours, if it was to a port of ours.
                inode = int(fields[9])
                if local == port and (inode not in inodes if inode else remote not in known):
                    return True
    return False


class SimKernel:
    """A simulated host on which nothing unusual happens."""

    def __init__(self) -> None:
        scheduler = Scheduler(Choices())
        self.host = Host("localhost", 1, scheduler)
        self.network = Network(scheduler, {"localhost": self.host})

    def socket(self, v6: bool) -> SimHandle:
        sock = SimHandle(TcpSocket(self.network, self.host, socket.AF_INET6 if v6 else socket.AF_INET))
        sock.file.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    @staticmethod
    def masks(socks: Iterable[SimHandle]) -> list[int]:
        return [sock.file.mask() for sock in socks]


class SimHandle:
    """A `TcpSocket` with the signatures of `socket.socket`."""

    def __init__(self, file: TcpSocket) -> None:
        self.file = file
        for name in ("bind", "listen", "getsockname", "getpeername", "setsockopt", "send", "recv", "shutdown", "close"):
            setattr(self, name, getattr(file, name))

    def connect_ex(self, address: tuple[str, int]) -> int:
        try:
            self.file.connect(address)
        except OSError as error:
            return error.errno or 0
        return 0

    def accept(self) -> tuple[SimHandle, Any]:
        child = self.file.accept()
        return SimHandle(child), child.peer

    def getsockopt(self, level: int, name: int, length: int = 0) -> Any:
        value = self.file.getsockopt(level, name)
        if isinstance(value, int):
            return value.to_bytes(4, "little", signed=True) if length else value
        return value if length else int.from_bytes(value[:4], "little")

    def sendmsg(self, buffers: Iterable[bytes]) -> int:
        return self.file.send(b"".join(buffers))

    def recv_into(self, buffer: bytearray) -> int:
        data = self.file.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


KERNELS = {"real": RealKernel, "simulated": SimKernel}


def outcome(call: Callable[[], Any]) -> Outcome:
    """What came of a call, in a form that can be compared."""
    try:
        return ("returned", call())
    except OSError as error:
        return ("raised", type(error).__name__, errno.errorcode.get(error.errno or 0, error.errno))


def settled(observe: Callable[[], Any], expected: Any) -> Any:
    """Look until it is as expected or the real kernel has had its time."""
    deadline = time.monotonic() + PATIENCE
    while (seen := observe()) != expected and time.monotonic() < deadline:
        time.sleep(0.0002)
    return seen


def mask_of(kernel: Any, sock: Any, expected: int | None = None) -> int:
    found: int = settled(lambda: kernel.masks([sock])[0], expected) if expected is not None else kernel.masks([sock])[0]
    return found


def abort(sock: Any) -> None:
    """Close without leaving anything in TIME_WAIT."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
