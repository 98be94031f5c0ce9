"""Socket options: their defaults, and the values that they accept.

Options that depend on the connection (SO_ERROR, SO_ACCEPTCONN) are in `sockets`; those here are merely stored. Defaults
and ranges are those of Linux 6; their sources are given if they are not in a man page.
"""

from __future__ import annotations

import errno
import socket as _socket  # constants only
import struct
from typing import NamedTuple

from simloop.kernel.errors import fail

# Plain ints: the constants are enums here and there, whose operators cost a microsecond.
SOL_SOCKET = int(_socket.SOL_SOCKET)
IPPROTO_IP = int(_socket.IPPROTO_IP)
IPPROTO_TCP = int(_socket.IPPROTO_TCP)
IPPROTO_UDP = int(_socket.IPPROTO_UDP)
TCP_USER_TIMEOUT = int(_socket.TCP_USER_TIMEOUT)
IPPROTO_IPV6 = int(_socket.IPPROTO_IPV6)

# tcp(7): net.ipv4.tcp_wmem and tcp_rmem defaults, and what loopback's send buffer grows to on connection.
SNDBUF_FRESH = 16_384
SNDBUF = 2_626_560
RCVBUF = 131_072
# net.core.wmem_default and rmem_default (socket(7)), for sockets of other kinds.
BUFFER_DEFAULT = 212_992
SNDBUF_MIN, RCVBUF_MIN = 4_608, 2_304
BUFFER_MAX = 425_984  # twice net.core.[rw]mem_max
# include/net/tcp.h: the bounds of the keep-alive and retry options.
_MAX_SECONDS = 32_767
_MAX_COUNT = 127
_INT_MAX = 2**31 - 1


class _Option(NamedTuple):
    """Definition of a socket option: its default, and the values that it accepts."""

    default: int
    low: int = -(2**31)
    high: int = _INT_MAX
    boolean: bool = False
    #: True if setting it to -1 restores the default.
    resettable: bool = False


_FLAG = _Option(0, boolean=True)
_COMMON = {
    (SOL_SOCKET, _socket.SO_REUSEADDR): _FLAG,
    (SOL_SOCKET, _socket.SO_REUSEPORT): _FLAG,
    (SOL_SOCKET, _socket.SO_KEEPALIVE): _FLAG,
    (SOL_SOCKET, _socket.SO_BROADCAST): _FLAG,
    (SOL_SOCKET, _socket.SO_DONTROUTE): _FLAG,
    (SOL_SOCKET, _socket.SO_OOBINLINE): _FLAG,
    (SOL_SOCKET, _socket.SO_PRIORITY): _Option(0),
    (SOL_SOCKET, _socket.SO_RCVLOWAT): _Option(1),
}
_TABLE = {
    **_COMMON,
    (IPPROTO_TCP, _socket.TCP_NODELAY): _FLAG,
    (IPPROTO_TCP, _socket.TCP_CORK): _FLAG,
    (IPPROTO_TCP, _socket.TCP_QUICKACK): _Option(1, boolean=True),
    (IPPROTO_TCP, _socket.TCP_KEEPIDLE): _Option(7200, 1, _MAX_SECONDS),
    (IPPROTO_TCP, _socket.TCP_KEEPINTVL): _Option(75, 1, _MAX_SECONDS),
    (IPPROTO_TCP, _socket.TCP_KEEPCNT): _Option(9, 1, _MAX_COUNT),
    (IPPROTO_TCP, _socket.TCP_SYNCNT): _Option(6, 1, _MAX_COUNT),
    (IPPROTO_TCP, TCP_USER_TIMEOUT): _Option(0, 0),
    (IPPROTO_TCP, _socket.TCP_FASTOPEN): _Option(0, 0),
    (IPPROTO_TCP, _socket.TCP_DEFER_ACCEPT): _Option(0),
    (IPPROTO_IP, _socket.IP_TOS): _Option(0),
    (IPPROTO_IP, _socket.IP_TTL): _Option(64, 1, 255, resettable=True),
}
_TABLE_V6 = {
    (IPPROTO_IPV6, _socket.IPV6_V6ONLY): _FLAG,
    (IPPROTO_IPV6, _socket.IPV6_TCLASS): _Option(0, -1, 255, resettable=True),
    (IPPROTO_IPV6, _socket.IPV6_UNICAST_HOPS): _Option(64, -1, 255, resettable=True),
}
#: Constants that the module `socket` lacks in some Python versions (linux/in.h, linux/in6.h).
IP_PKTINFO, IPV6_RECVPKTINFO = 8, 49
IP_RECVERR, IPV6_RECVERR = 11, 25
_TABLE_UDP = {
    **_COMMON,
    (IPPROTO_IP, _socket.IP_TOS): _Option(0),
    (IPPROTO_IP, _socket.IP_TTL): _Option(64, 1, 255, resettable=True),
    (IPPROTO_IP, _socket.IP_MULTICAST_TTL): _Option(1, 0, 255, resettable=True),
    (IPPROTO_IP, _socket.IP_MULTICAST_LOOP): _Option(1, boolean=True),
    (IPPROTO_IP, IP_PKTINFO): _FLAG,
    (IPPROTO_IP, IP_RECVERR): _FLAG,
}
_TABLE_UDP_V6 = {
    **_TABLE_V6,
    (IPPROTO_IPV6, _socket.IPV6_MULTICAST_HOPS): _Option(1, -1, 255, resettable=True),
    (IPPROTO_IPV6, _socket.IPV6_MULTICAST_LOOP): _Option(1, 0, 1),
    (IPPROTO_IPV6, IPV6_RECVPKTINFO): _FLAG,
    (IPPROTO_IPV6, IPV6_RECVERR): _FLAG,
}
_TABLE_UNIX = {
    **_COMMON,
    (SOL_SOCKET, _socket.SO_PASSCRED): _FLAG,
}


class Options:
    """Options of one TCP socket, and its buffer sizes."""

    __slots__ = ("_v6", "_values", "linger", "rcvbuf", "sndbuf", "sndbuf_fixed")

    def __init__(self, v6: bool) -> None:
        self._v6 = v6
        self._values: dict[tuple[int, int], int] = {}
        #: SO_LINGER, as in struct linger: 1 or 0 for on or off, and seconds.
        self.linger = (0, 0)
        self.sndbuf = SNDBUF_FRESH
        self.rcvbuf = RCVBUF
        #: True once the program has set the send buffer, which then no longer grows by itself (socket(7), SO_SNDBUF).
        self.sndbuf_fixed = False

    def inherited(self, v6: bool) -> Options:
        """Return the options of a connection that a listener with these options accepts."""
        child = Options(v6)
        child._values = dict(self._values)
        child.linger = self.linger
        child.sndbuf, child.rcvbuf, child.sndbuf_fixed = self.sndbuf, self.rcvbuf, self.sndbuf_fixed
        return child

    def grow(self) -> None:
        """Raise the send buffer to the size that it has in an established connection, unless the program has set its
        size."""
        if not self.sndbuf_fixed:
            self.sndbuf = SNDBUF

    def flag(self, level: int, name: int) -> bool:
        return bool(self._values.get((level, name)))

    def number(self, level: int, name: int) -> int:
        """Return the value of an option, or its default if it is not set; 0 if the socket has no such option."""
        option = self._option(level, name)
        return self._values.get((level, name), 0 if option is None else option.default)

    def get(self, level: int, name: int) -> int | bytes:
        if level == SOL_SOCKET:
            if name == _socket.SO_SNDBUF:
                return self.sndbuf
            if name == _socket.SO_RCVBUF:
                return self.rcvbuf
            if name == _socket.SO_LINGER:
                return struct.pack("ii", *self.linger)
        option = self._option(level, name)
        if option is None:
            raise fail(self._unknown(level))
        return self._values.get((level, name), option.default)

    def set(self, level: int, name: int, value: int | bytes) -> None:
        if isinstance(value, bytes):
            if level == SOL_SOCKET and name == _socket.SO_LINGER and len(value) >= 8:
                on, seconds = struct.unpack("ii", value[:8])
                # Switched off, it keeps its time (sk_setsockopt() in net/core/sock.c).
                self.linger = (1, seconds) if on else (0, self.linger[1])
                return
            value = self._number(level, name, value)
        if level == SOL_SOCKET:
            if name == _socket.SO_LINGER:
                raise fail(errno.EINVAL)
            if name == _socket.SO_SNDBUF:
                self.sndbuf = _buffer_size(value, SNDBUF_MIN)
                self.sndbuf_fixed = True
                return
            if name == _socket.SO_RCVBUF:
                self.rcvbuf = _buffer_size(value, RCVBUF_MIN)
                return
        option = self._option(level, name)
        if option is None:
            raise fail(self._unwritable(level))
        if option.boolean:
            value = int(bool(value))
        elif option.resettable and value == -1:
            value = option.default
        elif not option.low <= value <= option.high:
            raise fail(errno.EINVAL)
        elif (level, name) in ((IPPROTO_IP, _socket.IP_TOS), (IPPROTO_IPV6, _socket.IPV6_TCLASS)):
            value &= 0xFC  # the two bits of ECN are TCP's own (__ip_sock_set_tos())
        elif (level, name) == (SOL_SOCKET, _socket.SO_RCVLOWAT):
            value = _INT_MAX if value < 0 else value or 1
        self._values[level, name] = value

    def _number(self, level: int, name: int, value: bytes) -> int:
        if len(value) >= 4:
            return int(struct.unpack("i", value[:4])[0])
        if self._option(level, name) is None and level not in (SOL_SOCKET, IPPROTO_TCP):
            raise fail(errno.ENOPROTOOPT)
        if level != IPPROTO_IP:
            raise fail(errno.EINVAL)
        return value[0] if value else 0  # do_ip_setsockopt() takes a single byte, too

    def _option(self, level: int, name: int) -> _Option | None:
        option = _TABLE.get((level, name))
        return _TABLE_V6.get((level, name)) if option is None and self._v6 else option

    def _unknown(self, level: int) -> int:
        """Return the errno of getsockopt(2) for an option that does not exist for this socket."""
        # ip_getsockopt() does not know the level at all, ipv6_getsockopt() only not the name.
        levels = (SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP)
        return errno.ENOPROTOOPT if self._v6 or level in levels else errno.EOPNOTSUPP

    def _unwritable(self, level: int) -> int:
        """Return the errno of setsockopt(2) for an option that does not exist for this socket."""
        return errno.ENOPROTOOPT


class UdpOptions(Options):
    """Options of one UDP socket."""

    __slots__ = ()

    def __init__(self, v6: bool) -> None:
        super().__init__(v6)
        self.sndbuf = self.rcvbuf = BUFFER_DEFAULT

    def _option(self, level: int, name: int) -> _Option | None:
        option = _TABLE_UDP.get((level, name))
        return _TABLE_UDP_V6.get((level, name)) if option is None and self._v6 else option

    def _number(self, level: int, name: int, value: bytes) -> int:
        if not value and level == IPPROTO_IP and name in (_socket.IP_MULTICAST_TTL, _socket.IP_MULTICAST_LOOP):
            raise fail(errno.EINVAL)
        if level == IPPROTO_TCP and len(value) < 4:
            raise fail(errno.ENOPROTOOPT)
        if level == IPPROTO_UDP and len(value) < 4:
            raise fail(errno.EINVAL)
        return super()._number(level, name, value)

    def _unknown(self, level: int) -> int:
        levels = (SOL_SOCKET, IPPROTO_UDP, IPPROTO_IP)
        return errno.ENOPROTOOPT if self._v6 or level in levels else errno.EOPNOTSUPP


class UnixOptions(Options):
    """Options of one unix socket."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(False)
        self.sndbuf = self.rcvbuf = BUFFER_DEFAULT

    def _option(self, level: int, name: int) -> _Option | None:
        return _TABLE_UNIX.get((level, name))

    def _unknown(self, level: int) -> int:
        # Only the options of every socket: do_sock_getsockopt().
        return errno.ENOPROTOOPT if level == SOL_SOCKET else errno.EOPNOTSUPP

    _unwritable = _unknown

    def _number(self, level: int, name: int, value: bytes) -> int:
        if level != SOL_SOCKET:
            raise fail(errno.EOPNOTSUPP)
        return super()._number(level, name, value)


def _buffer_size(wanted: int, least: int) -> int:
    # The kernel doubles what is asked for, and reads a negative size as a huge one (socket(7)).
    return BUFFER_MAX if wanted < 0 else max(min(wanted * 2, BUFFER_MAX), least)
