"""Shim of `socket.socket` over the simulated kernel: blocking and timeouts, argument checks, forms of addresses."""

from __future__ import annotations

import errno
import os
import socket as _socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from simloop.errors import WorldError
from simloop.kernel.clock import SECOND
from simloop.kernel.descriptors import HUP, IN, OUT
from simloop.kernel.errors import fail
from simloop.kernel.net.tcp import TcpSocket
from simloop.shims.late import real
from simloop.shims.opened import refuse
from simloop.shims.patch import builtin
from simloop.shims.socket.names import addresses, sockaddr
from simloop.world import active

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.world.world import World

real_socket = _socket.socket

_INET = (_socket.AF_INET, _socket.AF_INET6)
# Plain ints, whose operators are faster than those of the enums.
_MSG_DONTWAIT, _MSG_WAITALL, _MSG_PEEK = int(_socket.MSG_DONTWAIT), int(_socket.MSG_WAITALL), int(_socket.MSG_PEEK)
# More than any send buffer takes, in bytes.
_SENT_MAX = 8_388_608
_TYPE_MASK = ~(_socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)


_real_new = real(__name__, real_socket)["__new__"]


def new(cls: type[_socket.socket], *args: Any, **kwargs: Any) -> Any:
    """Create a socket object, in place of `socket.socket.__new__`: inside a world a simulated one, if the class is
    exactly `socket.socket`.

    `socket.socket` stays the same class, since libraries compare the types of real sockets with it, as trio does.
    Instances of derived classes are real sockets, and escape.
    """
    return _real_new(SimSocket if cls is real_socket and active.world() is not None else cls)


class SimSocket(real_socket):
    """TCP socket object of the current simulated process. The real socket object underneath is never opened."""

    _file: TcpSocket
    _proto: int

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        world = active.world()
        if world is None:
            raise WorldError("a simulated socket can only be made inside a run")
        process = world.current
        if fileno is not None:
            file = process.files.get(fileno)
            if not isinstance(file, TcpSocket):
                raise fail(errno.EBADF)
            self._adopt(world, process, file, fileno)
            self._proto = _socket.IPPROTO_TCP if proto == -1 else proto
            return
        family = _socket.AF_INET if family == -1 else family
        kind = _socket.SOCK_STREAM if type == -1 else type
        if family not in _INET:
            raise active.escape(f"a socket of family {_family_name(family)}", "only TCP is simulated yet")
        if kind & _TYPE_MASK != _socket.SOCK_STREAM:
            raise active.escape(f"a socket of type {_type_name(kind)}", "only TCP is simulated yet")
        if proto not in (-1, 0, _socket.IPPROTO_TCP):
            raise fail(errno.EPROTONOSUPPORT)
        file = TcpSocket(world.network, process.host, int(family))
        self._adopt(world, process, file, process.open(file))
        self._proto = max(proto, 0)
        if kind & _socket.SOCK_NONBLOCK:
            self.settimeout(0.0)
        elif (default := _socket.getdefaulttimeout()) is not None:
            self.settimeout(default)

    def _adopt(self, world: World, process: Process, file: TcpSocket, fd: int) -> None:
        self._world = world
        self._process = process
        self._file = file
        self._fd = fd
        self._timeout: float | None = None
        self._io_refs = 0
        self._closed = False

    # --- waiting --------------------------------------------------------------------------------------

    def _call(self, attempt: Callable[[], Any], mask: int, deadline_ns: int | None = None) -> Any:
        """Make a non-blocking call. If it would block and this socket is a blocking one, wait for `mask` and repeat the
        call, until the deadline or else for this socket's timeout in all."""
        if self._fd < 0:
            raise fail(errno.EBADF)
        while True:
            try:
                return attempt()
            except BlockingIOError as error:
                if self._timeout == 0.0 or error.errno != errno.EAGAIN:
                    raise
            if deadline_ns is None:
                deadline_ns = self._deadline_ns()
            self._wait(mask, deadline_ns)

    def _deadline_ns(self) -> int | None:
        if self._timeout is None:
            return None
        return self._world.scheduler.clock.now + round(self._timeout * SECOND)

    def _wait(self, mask: int, deadline_ns: int | None) -> None:
        file = self._file
        timeout = None if deadline_ns is None else (deadline_ns - self._world.scheduler.clock.now) / SECOND
        if not self._world.block(lambda: bool(file.mask() & mask), timeout):
            raise TimeoutError("timed out")

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def settimeout(self, value: float | None) -> None:
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        if self._fd < 0:
            raise fail(errno.EBADF)
        self._timeout = None if value is None else float(value)
        if self._timeout == 0.0 and self.__class__ is SimSocket:
            # The hot path of a non-blocking socket: straight to the kernel, whose calls have the same
            # signatures. close() takes these away again.
            self.__dict__.update(recv=self._file.recv, send=self._file.send)
        else:
            self._forget_shortcuts()

    def _forget_shortcuts(self) -> None:
        self.__dict__.pop("recv", None)
        self.__dict__.pop("send", None)

    def gettimeout(self) -> float | None:
        return self._timeout

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    # --- what it is -----------------------------------------------------------------------------------

    @property
    def family(self) -> _socket.AddressFamily:
        return _socket.AddressFamily(self._file.family)

    @property
    def type(self) -> _socket.SocketKind:
        return _socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        # As the program gave it: 0 stands for TCP, too, but asyncio sets TCP_NODELAY only where it is TCP.
        return self._proto

    @property
    def timeout(self) -> float | None:
        return self._timeout

    def fileno(self) -> int:
        return self._fd

    def __repr__(self) -> str:
        names = f", laddr={self.getsockname()}" if self._fd >= 0 else ""
        if self._fd >= 0 and self._file.connected():
            names += f", raddr={self.getpeername()}"
        closed = " [closed]" if self._closed else ""
        return f"<socket.socket{closed} fd={self._fd}, family={int(self.family)}, type=1, proto={self._proto}{names}>"

    def __del__(self) -> None:
        # The collector runs at no particular time: nothing of the world may depend on it.
        pass

    def __getstate__(self) -> Any:
        raise TypeError(f"cannot pickle {self.__class__.__name__!r} object")

    # --- names ----------------------------------------------------------------------------------------

    def _resolve(self, address: Any, caller: str) -> tuple[str, int]:
        v6 = self._file.v6
        family = "AF_INET6" if v6 else "AF_INET"
        if not isinstance(address, tuple):
            raise TypeError(f"{caller}(): {family} address must be tuple, not {type(address).__name__}")
        if len(address) != 2 and not (v6 and 2 <= len(address) <= 4):
            shape = "a tuple (host, port[, flowinfo[, scopeid]])" if v6 else "a pair (host, port)"
            raise TypeError(f"{family} address must be {shape}")
        host, port = address[0], address[1]
        if not isinstance(port, int):
            raise TypeError(f"'{type(port).__name__}' object cannot be interpreted as an integer")
        if not 0 <= port <= 0xFFFF:
            raise OverflowError(f"{caller}(): port must be 0-65535.")
        if isinstance(host, (bytes, bytearray)):
            host = bytes(host).decode()
        if host == "":
            return ("::" if v6 else "0.0.0.0"), port
        if host == "<broadcast>":
            return "255.255.255.255", port
        wanted = _socket.AF_INET6 if v6 else _socket.AF_INET
        for found, ip in addresses(self._world, host):
            if found == wanted:
                return ip, port
        raise _socket.gaierror(_socket.EAI_ADDRFAMILY, "Address family for hostname not supported")

    def _shown(self, address: tuple[str, int]) -> tuple[Any, ...]:
        return sockaddr(self._file.family, *address)

    def bind(self, address: Any) -> None:
        self._check_open()
        self._file.bind(self._resolve(address, "bind"))

    def getsockname(self) -> Any:
        self._check_open()
        return self._shown(self._file.getsockname())

    def getpeername(self) -> Any:
        self._check_open()
        return self._shown(self._file.getpeername())

    def _check_open(self) -> None:
        if self._fd < 0:
            raise fail(errno.EBADF)

    # --- connections ----------------------------------------------------------------------------------

    def listen(self, backlog: int = 128) -> None:
        self._check_open()
        self._file.listen(max(0, backlog))

    def accept(self) -> tuple[_socket.socket, Any]:
        child: TcpSocket = self._call(self._file.accept, IN)
        sock = _real_new(SimSocket)
        sock._adopt(self._world, self._process, child, self._process.open(child))
        sock._proto = self._proto
        # As Lib/socket.py: a fresh socket blocks, unless there is a default timeout.
        sock.settimeout(_socket.getdefaulttimeout())
        assert child.peer is not None
        return sock, sock._shown(child.peer)

    def connect(self, address: Any) -> None:
        number = self._connect(address)
        if number:
            raise fail(number)

    def connect_ex(self, address: Any) -> int:
        return self._connect(address)

    def _connect(self, address: Any) -> int:
        self._check_open()
        target = self._resolve(address, "connect")
        try:
            self._file.connect(target)
        except OSError as error:
            number = error.errno or 0
            if number != errno.EINPROGRESS or self._timeout == 0.0:
                return number
        else:
            return 0
        self._wait(IN | OUT | HUP, self._deadline_ns())
        if self._timeout is not None:
            # With a timeout Python itself does the waiting, and then asks (sock_connect_impl()).
            return self._file.take_error()
        try:
            self._file.connect(target)  # as the system tells a program that it has kept waiting
        except OSError as error:
            return error.errno or 0
        return 0

    def shutdown(self, how: int) -> None:
        self._check_open()
        self._file.shutdown(how)

    def _real_close(self, _unused: Any = None) -> None:
        fd, self._fd = self._fd, -1
        self._forget_shortcuts()
        if fd in self._process.files:
            self._process.close(fd)

    def close(self) -> None:
        self._closed = True
        if self._io_refs <= 0:
            self._real_close()

    def detach(self) -> int:
        self._closed = True
        fd, self._fd = self._fd, -1
        self._forget_shortcuts()
        return fd

    def dup(self) -> Any:
        raise active.escape("socket.dup", "descriptors cannot be duplicated yet; pass the socket object on")

    def get_inheritable(self) -> bool:
        return False

    def set_inheritable(self, inheritable: bool) -> None:
        pass

    # --- data -----------------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if bufsize == 0:
            return b""  # Python does not even look at the descriptor
        if self._timeout is None:
            # The kernel's own waiting knows these two; Python's, for a timeout, does not.
            if flags & _MSG_DONTWAIT and self._fd >= 0:
                return self._file.recv(bufsize, flags)
            if flags & _MSG_WAITALL and not flags & _MSG_PEEK:
                return self._recv_all(bufsize)
        data: bytes = self._call(lambda: self._file.recv(bufsize, flags), IN)
        return data

    def _recv_all(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece: bytes = self._call(partial(self._file.recv, size - len(data)), IN)
            if not piece:
                break
            data += piece
        return bytes(data)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        if nbytes < 0:
            raise ValueError("negative buffersize in recv_into")
        if nbytes > len(view):
            raise ValueError("buffer too small for requested bytes")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
        return self.recv(bufsize, flags), None

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        return self.recv_into(buffer, nbytes, flags), None

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
        return self.recv(bufsize, flags), [], 0, None

    def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, list[Any], int, Any]:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data = memoryview(self.recv(sum(map(len, views)), flags))
        total = len(data)
        for view in views:
            view[: len(data)] = data[: len(view)]
            data = data[len(view) :]
        return total, [], 0, None

    def send(self, data: Any, flags: int = 0) -> int:
        if flags & _MSG_DONTWAIT and self._timeout is None and self._fd >= 0:
            return self._file.send(data, flags)
        if self._timeout is None:
            # Left to itself a blocking send(2) goes on until everything is queued.
            self.sendall(data, flags)
            return memoryview(data).nbytes
        count: int = self._call(lambda: self._file.send(data, flags), OUT)
        return count

    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        deadline_ns = self._deadline_ns()
        while True:
            view = view[self._call(partial(self._file.send, view, flags), OUT, deadline_ns) :]
            if not view:
                return

    def sendto(self, data: Any, *rest: Any) -> int:
        # On a connected stream the address is ignored (send(2)).
        return self.send(data, rest[0] if len(rest) == 2 else 0)

    def sendmsg(self, buffers: Iterable[Any], ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        if ancdata:
            raise fail(errno.EINVAL)
        parts: list[Any] = []
        left = None if self._timeout is None else _SENT_MAX
        for buffer in buffers:
            parts.append(buffer)
            if left is not None and (left := left - memoryview(buffer).nbytes) <= 0:
                break
        return self.send(parts[0] if len(parts) == 1 else b"".join(map(bytes, parts)), flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        sent: int = self._sendfile_use_send(file, offset, count)  # type: ignore[attr-defined]
        return sent

    # --- options --------------------------------------------------------------------------------------

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        self._check_open()
        if buflen is not None and not 0 <= buflen <= 1024:
            raise OSError("getsockopt buflen out of range")
        value = self._file.getsockopt(level, optname)
        if isinstance(value, bytes):
            return value[:buflen] if buflen else int.from_bytes(value[:4], "little")
        return value.to_bytes(4, "little", signed=True)[:buflen] if buflen else value

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        self._check_open()
        if value is None:
            raise fail(errno.EFAULT)  # a null pointer: only what has no value takes one, and nothing here has
        self._file.setsockopt(level, optname, value if isinstance(value, int) else bytes(value))


def _family_name(family: int) -> str:
    return next((member.name for member in _socket.AddressFamily if member == family), str(int(family)))


def _type_name(kind: int) -> str:
    base = kind & _TYPE_MASK
    return next((member.name for member in _socket.SocketKind if member == base), str(int(kind)))


_real_close = real(__name__)["close"]


def close_fd(fd: int, /) -> None:
    """Close a descriptor, simulated or real. Shim of `socket.close` and `os.close`."""
    world = active.world()
    if world is not None and fd in world.current.files:
        world.current.close(fd)
    else:
        if world is not None and not world.reaching_out:
            refuse(fd)
        _real_close(fd)


REPLACEMENTS: list[tuple[object, str, object]] = [
    (real_socket, "__new__", builtin(new)),
    (_socket, "close", builtin(close_fd)),
    (os, "close", builtin(close_fd)),
]
