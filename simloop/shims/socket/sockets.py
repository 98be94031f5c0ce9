"""Shim of `socket.socket` over the simulated kernel: adds blocking, timeouts and the checks of arguments."""

from __future__ import annotations

import _socket as _c_socket
import errno
import os
import socket as _socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from simloop.errors import WorldError
from simloop.kernel.clock import SECOND
from simloop.kernel.descriptors import ERR, FIRST_FD, HUP, IN, OUT
from simloop.kernel.errors import fail
from simloop.kernel.net.sockets import MSG_ERRQUEUE, Socket
from simloop.shims.late import real
from simloop.shims.opened import refuse
from simloop.shims.patch import builtin
from simloop.shims.socket.addresses import resolve, shown
from simloop.shims.socket.ancillary import file_behind, given, passed
from simloop.shims.waiting import wait
from simloop.world import active

if TYPE_CHECKING:
    from simloop.kernel.net.sockets import Received
    from simloop.kernel.process.process import Process
    from simloop.world.world import World

real_socket = _socket.socket

_INET = (_socket.AF_INET, _socket.AF_INET6)
_AF_UNIX = int(_socket.AF_UNIX)
_STREAM, _DGRAM = int(_socket.SOCK_STREAM), int(_socket.SOCK_DGRAM)
# Plain ints, whose operators are faster than those of the enums.
_MSG_DONTWAIT, _MSG_WAITALL, _MSG_PEEK = int(_socket.MSG_DONTWAIT), int(_socket.MSG_WAITALL), int(_socket.MSG_PEEK)
_MSG_TRUNC = int(_socket.MSG_TRUNC)
# More than any send buffer takes, in bytes.
_SENT_MAX = 8_388_608
_TYPE_MASK = ~(_socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)


_real_new = real(__name__, real_socket)["__new__"]


def new(cls: type[_socket.socket], *args: Any, **kwargs: Any) -> Any:
    """Create a socket object, in place of `socket.socket.__new__`: inside a world, a simulated one.

    `socket.socket` itself is not replaced, since libraries compare the types of sockets with it, as trio does.
    """
    if active.world() is not None:
        if cls is real_socket:
            return _real_new(SimSocket)
        if not issubclass(cls, SimSocket):
            from simloop.shims.socket.subclasses import simulated

            return _real_new(simulated(cls, SimSocket))
    return _real_new(cls)


def make_file(world: World, family: int, kind: int, proto: int) -> Socket:
    """Return a new socket of the kernel, as socket(2) does, but without a descriptor."""
    host = world.current.host
    if family == _AF_UNIX:
        if proto not in (0, _AF_UNIX):
            raise fail(errno.EPROTONOSUPPORT)
        from simloop.shims.socket.unix import unix_socket

        return unix_socket(world, kind)
    if family not in _INET:
        raise active.escape(
            f"a socket of family {_family_name(family)}", "only TCP, UDP and unix sockets are simulated"
        )
    if kind == _DGRAM:
        if proto not in (0, _socket.IPPROTO_UDP):
            raise fail(errno.EPROTONOSUPPORT)
        from simloop.kernel.net.udp import UdpSocket

        return UdpSocket(world.network, host, family)
    if kind != _STREAM:
        if kind != _socket.SOCK_RAW:
            raise fail(errno.ESOCKTNOSUPPORT)
        raise active.escape("a raw socket", "only TCP, UDP and unix sockets are simulated")
    if proto not in (0, _socket.IPPROTO_TCP):
        raise fail(errno.EPROTONOSUPPORT)
    from simloop.kernel.net.tcp import TcpSocket

    return TcpSocket(world.network, host, family)


class SimSocket(real_socket):
    """Socket object of the current simulated process. It derives from the real class, whose own socket is never
    opened."""

    #: The class `SimSocket` itself, also as an attribute of derived classes.
    simulated_class: type[SimSocket]

    _file: Any  # a `Socket`; those of different families take addresses of different types
    _kind: int
    _proto: int

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        world = active.world()
        if world is None:
            raise WorldError("a simulated socket can only be made inside a run")
        process = world.current
        if fileno is not None:
            file = _opened(process, fileno)
            self._adopt(world, process, file, fileno, type, proto)
        else:
            family = int(_socket.AF_INET if family == -1 else family)
            kind = int(_socket.SOCK_STREAM if type == -1 else type)
            file = make_file(world, family, kind & _TYPE_MASK, max(proto, 0))
            self._adopt(world, process, file, process.open(file), kind & _TYPE_MASK, max(proto, 0))
            if kind & _socket.SOCK_NONBLOCK:
                self.settimeout(0.0)
                return
        if (default := _socket.getdefaulttimeout()) is not None:
            self.settimeout(default)

    def _adopt(self, world: World, process: Process, file: Socket, fd: int, kind: int = -1, proto: int = -1) -> None:
        self._world = world
        self._process = process
        self._file = file
        self._fd = fd
        self._kind = file.kind if kind == -1 else kind
        # As the program gave it: 0 stands for TCP, too, but asyncio sets TCP_NODELAY only where it is TCP.
        self._proto = file.protocol if proto == -1 else proto
        self._timeout: float | None = None
        self._io_refs = 0
        self._closed = False

    # --- waiting --------------------------------------------------------------------------------------

    def _call(self, attempt: Callable[[], Any], mask: int, deadline_ns: int | None = None) -> Any:
        """Make a non-blocking call, and return its result. If it would block and this is a blocking socket, wait for
        one of the events in `mask` and repeat the call, until the deadline, or else for at most this socket's
        timeout."""
        if self._fd < 0:
            raise fail(errno.EBADF)
        while True:
            try:
                return attempt()
            except BlockingIOError as error:
                if error.errno != errno.EAGAIN or not self._waits():
                    raise
            if deadline_ns is None:
                deadline_ns = self._deadline_ns()
            if self._file.mask() & (mask | ERR | HUP):
                # Of datagrams the mask does not tell all: it is about the buffers, and not about a receiver's queue.
                return wait(self._world, attempt, lambda: False, self._seconds_until(deadline_ns))
            self._wait(mask, deadline_ns)

    def _waits(self) -> bool:
        """Return True if calls on this socket object block. Its open file may also be shared by a non-blocking socket
        object."""
        return self._timeout != 0.0 and not (self._timeout is None and self._file.flags & os.O_NONBLOCK)

    def _deadline_ns(self) -> int | None:
        if self._timeout is None:
            return None
        return self._world.scheduler.clock.now + round(self._timeout * SECOND)

    def _wait(self, mask: int, deadline_ns: int | None) -> None:
        file = self._file
        mask |= ERR | HUP  # poll(2) tells of these always
        if not self._world.block(lambda: bool(file.mask() & mask), self._seconds_until(deadline_ns)):
            raise TimeoutError("timed out")

    def _seconds_until(self, deadline_ns: int | None) -> float | None:
        return None if deadline_ns is None else (deadline_ns - self._world.scheduler.clock.now) / SECOND

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def settimeout(self, value: float | None) -> None:
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        if self._fd < 0:
            raise fail(errno.EBADF)
        self._timeout = None if value is None else float(value)
        file = self._file
        # internal_setblocking(): Python itself does the waiting for a timeout.
        file.flags = file.flags & ~os.O_NONBLOCK if value is None else file.flags | os.O_NONBLOCK
        if self._timeout == 0.0 and self.__class__ is SimSocket:
            # The hot path of a non-blocking socket: straight to the kernel, whose calls have the same
            # signatures. close() takes these away again.
            self.__dict__.update(recv=file.recv, send=file.send)
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
        return _socket.SocketKind(self._kind)

    @property
    def proto(self) -> int:
        return self._proto

    @property
    def timeout(self) -> float | None:
        return self._timeout

    def fileno(self) -> int:
        return self._fd

    def __repr__(self) -> str:
        # As Lib/socket.py.
        names = ""
        if self._fd >= 0:
            for word, name in (("laddr", self.getsockname), ("raddr", self.getpeername)):
                try:
                    address = name()
                except OSError:
                    continue
                if address:
                    names += f", {word}={address}"
        closed = " [closed]" if self._closed else ""
        cls = self.__class__
        kind = "socket.socket" if cls is SimSocket else f"{cls.__module__}.{cls.__qualname__}"
        return (
            f"<{kind}{closed} fd={self._fd}, family={self._file.family}, type={self._kind}, proto={self._proto}{names}>"
        )

    def __del__(self) -> None:
        # The collector runs at no particular time: nothing of the world may depend on it.
        pass

    def __getstate__(self) -> Any:
        raise TypeError(f"cannot pickle {self.__class__.__name__!r} object")

    # --- names ----------------------------------------------------------------------------------------

    def _resolve(self, address: Any, caller: str) -> Any:
        return resolve(self._world, self._file.family, address, caller)

    def _named(self, call: Callable[[Any], Any], target: Any) -> Any:
        """Make a system call that takes an address, such as bind(2) or connect(2). Looking up the path of a unix socket
        accesses the disk, which takes its time and may fail."""
        if self._file.family != _AF_UNIX or target is None:
            return call(target)
        from simloop.shims.socket.unix import call as call_by_name

        return call_by_name(self._world, call, target)

    def _shown(self, address: Any) -> Any:
        return shown(self._file.family, address)

    def bind(self, address: Any) -> None:
        self._check_open()
        self._named(self._file.bind, self._resolve(address, "bind"))

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
        child = self._call(self._file.accept, IN)
        sock = _real_new(SimSocket)
        sock._adopt(self._world, self._process, child, self._process.open(child), self._kind, self._proto)
        # As Lib/socket.py: a fresh socket blocks, unless there is a default timeout.
        sock.settimeout(_socket.getdefaulttimeout())
        return sock, sock._shown(child.peer_name())

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
            self._named(self._file.connect, target)
        except OSError as error:
            number = error.errno or 0
            if number == errno.EAGAIN and self._timeout is None and self._waits():
                # The queue of a unix socket's listener is full.
                try:
                    wait(self._world, partial(self._file.connect, target), lambda: False)
                except OSError as later:
                    return later.errno or 0
                return 0
            if number != errno.EINPROGRESS or not self._waits():
                return number
        else:
            return 0
        self._wait(IN | OUT | HUP, self._deadline_ns())
        if self._timeout is not None:
            # With a timeout Python itself does the waiting, and then asks (sock_connect_impl()).
            return int(self._file.take_error())
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

    # --- data -----------------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if bufsize == 0:
            return b""  # Python does not even look at the descriptor
        if self._timeout is None:
            # The kernel's own waiting knows these; Python's, for a timeout, does not.
            if flags & (_MSG_DONTWAIT | MSG_ERRQUEUE) and self._fd >= 0:
                return self._file.recv(bufsize, flags)  # type: ignore[no-any-return]
            if flags & _MSG_WAITALL and not flags & _MSG_PEEK and self._file.kind == _STREAM:
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
        view = _room(buffer, nbytes, "recv_into")
        if flags & _MSG_TRUNC and self._file.kind != _STREAM:
            return self._received_into(view, flags)[0]
        data = self.recv(len(view), flags)
        view[: len(data)] = data
        return len(data)

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        found = self._receive(bufsize, flags)
        self._drop_files(found, flags)
        return found.data, self._sender(found)

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        return self._received_into(_room(buffer, nbytes, "recvfrom_into"), flags)

    def _received_into(self, view: memoryview, flags: int) -> tuple[int, Any]:
        found = self._receive(len(view), flags)
        self._drop_files(found, flags)
        view[: len(found.data)] = found.data
        return found.size if flags & _MSG_TRUNC and found.size else len(found.data), self._sender(found)

    def _receive(self, size: int, flags: int) -> Received:
        """Receive a message together with its ancillary data."""
        if flags & _MSG_WAITALL and self._timeout is None and not flags & _MSG_PEEK and self._file.kind == _STREAM:
            first: Received = self._call(lambda: self._file.recvmsg(size), IN)
            if first.files or not first.data or len(first.data) == size:
                return first
            return first._replace(data=first.data + self._recv_all(size - len(first.data)))
        if flags & (_MSG_DONTWAIT | MSG_ERRQUEUE) and self._timeout is None and self._fd >= 0:
            return self._file.recvmsg(size, flags)  # type: ignore[no-any-return]
        found: Received = self._call(lambda: self._file.recvmsg(size, flags), IN)
        return found

    def _sender(self, found: Received) -> Any:
        return None if found.address is None else self._shown(found.address)

    def _drop_files(self, found: Received, flags: int) -> None:
        """Close the open files that were passed with a message, for calls that do not return them."""
        if found.files:
            passed(self._process, found, 0, bool(flags & _MSG_PEEK))

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
        if bufsize < 0:
            raise ValueError("negative buffer size in recvmsg()")
        _check_ancillary(ancbufsize, "recvmsg")
        found = self._receive(bufsize, flags)
        ancillary, more = passed(self._process, found, ancbufsize, bool(flags & _MSG_PEEK))
        return found.data, ancillary, found.flags | more, self._sender(found)

    def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, list[Any], int, Any]:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        _check_ancillary(ancbufsize, "recvmsg_into")
        found = self._receive(sum(map(len, views)), flags)
        ancillary, more = passed(self._process, found, ancbufsize, bool(flags & _MSG_PEEK))
        data = memoryview(found.data)
        for view in views:
            view[: len(data)] = data[: len(view)]
            data = data[len(view) :]
        return len(found.data), ancillary, found.flags | more, self._sender(found)

    def send(self, data: Any, flags: int = 0) -> int:
        return self._send(data, flags, lambda view: self._file.send(view, flags))

    def _send(self, data: Any, flags: int, attempt: Callable[[Any], int]) -> int:
        if flags & _MSG_DONTWAIT and self._timeout is None and self._fd >= 0:
            return attempt(data)
        if self._timeout is None and self._file.kind == _STREAM and self._waits():
            # Left to itself a blocking send(2) goes on until everything is queued.
            self._send_all(data, attempt)
            return memoryview(data).nbytes
        count: int = self._call(lambda: attempt(data), OUT)
        return count

    def sendall(self, data: Any, flags: int = 0) -> None:
        self._send_all(data, lambda view: self._file.send(view, flags))

    def _send_all(self, data: Any, attempt: Callable[[Any], int]) -> None:
        view = memoryview(data).cast("B")
        deadline_ns = self._deadline_ns()
        while True:
            view = view[self._call(partial(attempt, view), OUT, deadline_ns) :]
            if not view:
                return

    def sendto(self, data: Any, *rest: Any) -> int:
        if not 1 <= len(rest) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({1 + len(rest)} given)")
        flags = rest[0] if len(rest) == 2 else 0
        target = self._resolve(rest[-1], "sendto")

        def attempt(view: Any) -> int:
            count: int = self._named(lambda name: self._file.sendmsg(view, flags, name), target)
            return count

        return self._send(data, flags, attempt)

    def sendmsg(self, buffers: Iterable[Any], ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        parts: list[Any] = []
        left = None if self._timeout is None or self._file.kind != _STREAM else _SENT_MAX
        for buffer in buffers:
            parts.append(buffer)
            if left is not None and (left := left - memoryview(buffer).nbytes) <= 0:
                break
        data = parts[0] if len(parts) == 1 else b"".join(map(bytes, parts))
        if not ancdata and address is None:
            return self.send(data, flags)
        target = None if address is None else self._resolve(address, "sendmsg")
        files, more = given(self._world, self._process, self._file, ancdata)

        def attempt(view: Any) -> int:
            nonlocal files
            count: int = self._named(lambda name: self._file.sendmsg(view, flags, name, files, more), target)
            files = ()  # they go with the first bytes of a stream
            return count

        return self._send(data, flags, attempt)

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


SimSocket.simulated_class = SimSocket


def _family_name(family: int) -> str:
    return next((member.name for member in _socket.AddressFamily if member == family), str(int(family)))


def _room(buffer: Any, nbytes: int, caller: str) -> memoryview:
    """Return the part of a buffer that a receiving call fills: the first `nbytes` bytes, or all of it if that is 0."""
    view = memoryview(buffer).cast("B")
    if nbytes < 0:
        raise ValueError(f"negative buffersize in {caller}")
    if nbytes > len(view):
        what = "buffer too small for requested bytes"
        raise ValueError(what if caller == "recv_into" else "nbytes is greater than the length of the buffer")
    return view[: nbytes or len(view)]


def _check_ancillary(size: int, caller: str) -> None:
    if not 0 <= size < 1 << 31:
        raise ValueError(f"invalid ancillary data buffer length in {caller}()")


def _opened(process: Process, fd: Any) -> Socket:
    """Return the open socket of a descriptor that the program passes, with the checks of sock_initobj_impl()."""
    if isinstance(fd, float):
        raise TypeError("integer argument expected, got float")
    if not isinstance(fd, int):
        raise TypeError(f"'{type(fd).__name__}' object cannot be interpreted as an integer")
    if fd < 0:
        raise ValueError("negative file descriptor")
    file = file_behind(process, fd)
    if not isinstance(file, Socket):
        raise fail(errno.ENOTSOCK)
    return file


_real_close = real(__name__)["close"]


def close_fd(fd: int, /) -> None:
    """Close a descriptor, simulated or real. Shim of `socket.close` and `os.close`. Outside of a world, a simulated one
    is passed over: its world has ended, but not the object that closes it."""
    world = active.world()
    if world is not None and fd in world.current.files:
        world.current.close(fd)
    elif world is not None or not isinstance(fd, int) or fd < FIRST_FD:
        if world is not None and not world.reaching_out:
            refuse(fd)
        _real_close(fd)


_real_dup = real(__name__, _socket)["dup"]
_real_socketpair = real(__name__, _c_socket)["socketpair"]


def dup(fd: Any, /) -> int:
    """Duplicate a descriptor of a socket. Shim of `socket.dup`, which `socket.fromfd` and `socket.socket.dup` call."""
    world = active.world()
    if world is None or not isinstance(fd, int):
        copy: int = _real_dup(fd)
        return copy
    return world.current.open(file_behind(world.current, fd))


def socketpair(family: int = _AF_UNIX, type: int = _STREAM, proto: int = 0, /) -> tuple[Any, Any]:
    """Create two sockets that are connected to one another. Shim of the C function that `socket.socketpair` calls."""
    world = active.world()
    if world is None:
        ends: tuple[Any, Any] = _real_socketpair(family, type, proto)
        return ends
    from simloop.shims.socket.unix import unix_pair

    kind = int(type) & _TYPE_MASK
    if family != _AF_UNIX:
        make_file(world, int(family), kind, proto)
        raise fail(errno.EOPNOTSUPP)
    if proto not in (0, _AF_UNIX):
        raise fail(errno.EPROTONOSUPPORT)
    made = []
    for file in unix_pair(world, kind):
        sock = _real_new(SimSocket)
        sock._adopt(world, world.current, file, world.current.open(file), kind, proto)
        sock.settimeout(0.0 if type & _socket.SOCK_NONBLOCK else _socket.getdefaulttimeout())
        made.append(sock)
    return made[0], made[1]


REPLACEMENTS: list[tuple[object, str, object]] = [
    (real_socket, "__new__", builtin(new)),
    (_socket, "dup", builtin(dup)),
    (_c_socket, "socketpair", builtin(socketpair)),
    (_socket, "close", builtin(close_fd)),
    (os, "close", builtin(close_fd)),
]
