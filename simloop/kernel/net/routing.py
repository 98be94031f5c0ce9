"""Source addresses of the packets of one host, which has two interfaces: loopback and one to the other hosts."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from simloop.kernel.errors import fail
from simloop.kernel.net.addresses import is_any, is_loopback, is_mapped, mapped, unmapped

if TYPE_CHECKING:
    from simloop.kernel.net.wire import Machine


def source_of(host: Machine, own: str, ip: str, target: Machine | None, *, v6: bool, v6only: bool) -> str:
    """Return the source address of packets from a socket bound to `own` to `ip`, an address of the machine `target`
    (None if no machine has it), as tcp_v6_connect() and __ip4_datagram_connect() do. Raises `OSError` if `ip` cannot be
    reached from `own`."""
    if not is_any(own) or is_mapped(own):
        if is_mapped(own) and not is_mapped(ip):
            raise fail(errno.EAFNOSUPPORT)
        if is_mapped(ip) and not is_mapped(own) and v6:
            raise fail(errno.ENETUNREACH)
        if is_loopback(own) and not is_loopback(ip) and target is not host:
            raise fail(errno.EINVAL)
        if not is_any(own):
            return own
    if is_mapped(ip) and v6only:
        raise fail(errno.ENETUNREACH)
    if target is host:
        # The route to 127.0.0.0/8 has 127.0.0.1 as its source; one's other addresses answer themselves.
        return mapped("127.0.0.1", v6) if unmapped(ip).startswith("127.") else ip
    if v6 and not is_mapped(ip):
        return host.ipv6
    return mapped(host.ipv4, v6)
