"""TCP sockets with the behaviour of Linux: the system calls of socket(7), their results, errors and readiness.

Calls never block; callers wait until a socket is ready. Rules follow net/ipv4/tcp.c and af_inet.c of Linux 6, whose
functions the comments name; `tests/parity` compares each call with real sockets.
"""

from __future__ import annotations

import errno
import socket as _socket  # constants only

from simloop.kernel.descriptors import ERR, HUP, IN, OUT
from simloop.kernel.errors import fail
from simloop.kernel.net.addresses import Address, any_ip, is_any, is_mapped, unmapped
from simloop.kernel.net.endpoint import Endpoint
from simloop.kernel.net.options import IPPROTO_IPV6, SOL_SOCKET
from simloop.kernel.net.sockets import MSG_ERRQUEUE

SOMAXCONN = 4096

# Plain ints: operators of the enums that the module `socket` has cost a microsecond on the hot path.
_SO_KEEPALIVE = int(_socket.SO_KEEPALIVE)
_MSG_PEEK = int(_socket.MSG_PEEK)
_MSG_OOB = int(_socket.MSG_OOB)
_UNUSUAL = _MSG_OOB | MSG_ERRQUEUE


class TcpSocket(Endpoint):
    """TCP socket of one host. Calls never block, and raise the `OSError` of Linux."""

    # --- readiness ------------------------------------------------------------------------------------

    def mask(self) -> int:
        """Return the poll mask, as tcp_poll() does."""
        state = self.state
        tx = self.tx
        if state == "ESTABLISHED" and not self.error and not self.write_shut:  # the hot path, as below
            assert tx is not None
            mask = IN if self.read_shut or (self.rx is not None and self.rx.size) else 0
            if (tx.unsent_size + tx.flight_size) * 3 <= self.options.sndbuf * 2:
                mask |= OUT
            return mask
        if self.closed:
            return 0
        if state == "LISTEN":
            return IN if self.queue else 0
        mask = ERR if self.error else 0
        if state == "CLOSED" or (self.read_shut and self.write_shut):
            mask |= HUP
        if self.read_shut:
            mask |= IN
        if state != "SYN_SENT":
            if self.rx is not None and self.rx.size:
                mask |= IN
            # sk_stream_is_writeable(): free space is at least half of what is queued.
            if self.write_shut or tx is None or (tx.unsent_size + tx.flight_size) * 3 <= self.options.sndbuf * 2:
                mask |= OUT
        return mask

    # --- names ----------------------------------------------------------------------------------------

    def bind(self, address: Address) -> None:
        ip, port = address[0] or any_ip(self.v6), address[1]
        bound = self.state != "CLOSED" or self.port
        # __inet6_bind() looks at the socket first, __inet_bind() at the address.
        if self.v6 and (bound or (is_mapped(ip) and self.options.flag(IPPROTO_IPV6, _socket.IPV6_V6ONLY))):
            raise fail(errno.EINVAL)
        if not is_any(ip) and self.net.owner(unmapped(ip), self.host) is not self.host:
            raise fail(errno.EADDRNOTAVAIL)
        if bound:
            raise fail(errno.EINVAL)
        self.ip = ip
        try:
            self.port = self.shown_port = self.host.ports.claim(self, port)
        except OSError:
            self.ip = any_ip(self.v6)
            raise
        if self.v6 and not is_any(ip) and not is_mapped(ip):
            self.options.set(IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        self._ip_locked |= not is_any(ip)
        self._port_locked |= port != 0
        self.peer = None

    def getsockname(self) -> Address:
        return self.ip, self.shown_port

    def getpeername(self) -> Address:
        if not self.connected():
            raise fail(errno.ENOTCONN)
        assert self.peer is not None
        return self.peer

    def available(self) -> int:
        if self.state == "LISTEN":
            raise fail(errno.EINVAL)
        return 0 if self.rx is None else self.rx.size

    def peer_name(self) -> Address:
        assert self.peer is not None
        return self.peer

    # --- connections ----------------------------------------------------------------------------------

    def listen(self, backlog: int) -> None:
        if self.stage != "UNCONNECTED" or self.state not in ("CLOSED", "LISTEN"):
            raise fail(errno.EINVAL)
        # A negative one is read as a huge one.
        self.backlog = min(backlog & 0xFFFFFFFF, SOMAXCONN)
        if self.state == "CLOSED":
            if not self.port:
                self.port = self.shown_port = self.host.ports.claim(self, 0)
            self.host.ports.listen(self)
            self.state = "LISTEN"
            self.changed()

    def accept(self) -> TcpSocket:
        if self.state != "LISTEN":
            raise fail(errno.EINVAL)
        if not self.queue:
            raise fail(errno.EAGAIN)
        child = self.queue.popleft()
        assert isinstance(child, TcpSocket)
        return child

    def connect(self, address: Address) -> None:
        """Start to connect, as __inet_stream_connect() does. The first call always raises `OSError` (EINPROGRESS), as
        over real loopback, where the answer is not processed before the call returns."""
        if self.stage == "CONNECTED":
            raise fail(errno.EISCONN)
        if self.stage == "DISCONNECTING":
            raise fail(errno.EINVAL)
        if self.stage == "UNCONNECTED":
            if self.state != "CLOSED":
                raise fail(errno.EISCONN)
            self._start_connect(*address)
            self.stage = "CONNECTING"
            raise fail(errno.EINPROGRESS)
        if self.state == "SYN_SENT":
            raise fail(errno.EALREADY)
        if self.state == "CLOSED":
            # What became of it is told here, once; then the socket can be used again.
            number = self.take_error() or errno.ECONNABORTED
            self.stage = "UNCONNECTED"
            self._disconnect()
            raise fail(number)
        self.stage = "CONNECTED"

    # --- data -----------------------------------------------------------------------------------------

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        """Queue as much of `data` as the send buffer has room for, as tcp_sendmsg_locked() does. Returns the number of
        bytes."""
        state = self.state
        if self.error or self.write_shut or (state != "ESTABLISHED" and state != "CLOSE_WAIT"):
            raise fail(self.take_error() or (errno.EAGAIN if state == "SYN_SENT" else errno.EPIPE))
        if flags & _MSG_OOB:
            raise fail(errno.EOPNOTSUPP)  # urgent data is not simulated
        tx = self.tx
        assert tx is not None
        room = self.options.sndbuf - tx.unsent_size - tx.flight_size
        if type(data) is not bytes:
            # Only what is taken is copied: a transport offers all that it holds, again and again.
            view = memoryview(data)
            data = bytes(view.cast("B")[: max(room, 1)] if view.c_contiguous else view)
        size = len(data)
        if size > room:
            if room <= 0:
                raise fail(errno.EAGAIN)
            data = data[:room]
            size = room
        if size:
            tx.push(data)
        return size

    def recv(self, limit: int, flags: int = 0) -> bytes:
        """Return up to `limit` received bytes, as tcp_recvmsg_locked() does."""
        if limit <= 0:
            if limit < 0:
                raise ValueError("negative buffersize in recv")
            return b""  # Python does not ask the system for nothing (sock_recv_guts())
        rx = self.rx
        if self.state == "LISTEN" and not flags & MSG_ERRQUEUE:
            raise fail(errno.ENOTCONN)
        if flags & _UNUSUAL:
            raise fail(errno.EAGAIN if flags & MSG_ERRQUEUE else errno.EINVAL)
        if rx is not None and rx.size:
            return rx.peek(limit) if flags & _MSG_PEEK else rx.read(limit)
        if self.done:
            return b""
        if self.error:
            raise fail(self.take_error())
        if self.read_shut:
            return b""
        raise fail(errno.ENOTCONN if self.state == "CLOSED" else errno.EAGAIN)

    # --- ending ---------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """Shut down one direction or both, as inet_shutdown() does."""
        if how not in (_socket.SHUT_RD, _socket.SHUT_WR, _socket.SHUT_RDWR):
            raise fail(errno.EINVAL)
        if self.stage == "CONNECTING":
            self.stage = "DISCONNECTING" if self.state in ("SYN_SENT", "CLOSED") else "CONNECTED"
        if self.state == "SYN_SENT" or (self.state == "LISTEN" and how != _socket.SHUT_WR):
            self._disconnect()
            self.stage = "UNCONNECTED"
            self.changed()
            return
        if self.state == "LISTEN":
            return
        closed = self.state == "CLOSED"
        if how != _socket.SHUT_WR:
            self.read_shut = True
        if how != _socket.SHUT_RD:
            self._send_fin()
            self.write_shut = True
        self._note_refusal()
        self.changed()
        if closed:
            # Linux takes note all the same: a socket can be shut down before it is connected.
            raise fail(errno.ENOTCONN)

    def close(self) -> None:
        """Close the socket, as __tcp_close() does. The connection may continue after that."""
        if self.closed:
            return
        self.closed = True
        if self.state == "LISTEN":
            self._stop_listening()
            self._enter_closed()
        elif self.state == "SYN_SENT":
            self._enter_closed()
        elif self.state != "CLOSED":
            assert self.rx is not None
            assert self.tx is not None
            if self.rx.size:
                # RFC 2525 section 2.17: closing with unread data resets.
                self.tx.reset()
                self._enter_closed()
            elif self.options.linger == (1, 0):
                self._disconnect()
            else:
                self._send_fin()
        self.read_shut = self.write_shut = True
        if self.rx is not None:
            self.rx.discard()
        self._note_refusal()
        if self.state == "CLOSED":
            self._release_port()
        else:
            self._settle_orphan()

    # --- options --------------------------------------------------------------------------------------

    def listening(self) -> bool:
        return self.state == "LISTEN"

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        if self.v6 and self.port and (level, name) == (IPPROTO_IPV6, _socket.IPV6_V6ONLY):
            raise fail(errno.EINVAL)
        super().setsockopt(level, name, value)
        if (level, name) == (SOL_SOCKET, _SO_KEEPALIVE) and self.tx is not None:
            from simloop.kernel.net.keepalive import watch

            watch(self)
