"""Conversion of socket addresses between the forms that Python has for each address family and those of the kernel."""

from __future__ import annotations

import os
import socket as _socket
from typing import TYPE_CHECKING, Any

from simloop.shims.socket.names import addresses, literal, no_address, sockaddr

if TYPE_CHECKING:
    from simloop.world.world import World

_AF_UNIX, _AF_INET6 = int(_socket.AF_UNIX), int(_socket.AF_INET6)
# sizeof(sun_path) in struct sockaddr_un.
_PATH_MAX = 108


def resolve(world: World, family: int, address: Any, caller: str) -> Any:
    """Return the kernel's form of an address that the program passes to the socket method `caller`, checked as
    getsockaddrarg() in Modules/socketmodule.c does."""
    return _unix_name(address) if family == _AF_UNIX else _ip_address(world, family == _AF_INET6, address, caller)


def shown(family: int, address: Any) -> Any:
    """Return Python's form of an address in the kernel's form, for the given address family, as makesockaddr() does."""
    if family != _AF_UNIX:
        return sockaddr(family, *address)
    return address if address[:1] == b"\0" else os.fsdecode(address.partition(b"\0")[0])


def _unix_name(address: Any) -> bytes:
    try:
        name = os.fsencode(address) if isinstance(address, str) else bytes(memoryview(address))
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not {type(address).__name__!r}") from None
    if len(name) > _PATH_MAX or (len(name) == _PATH_MAX and name[0]):
        raise OSError("AF_UNIX path too long")
    return name


def _ip_address(world: World, v6: bool, address: Any, caller: str) -> tuple[str, int]:
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
        if v6:
            raise OSError("address family mismatched")
        return "255.255.255.255", port
    wanted = _socket.AF_INET6 if v6 else _socket.AF_INET
    for found, ip in addresses(world, host):
        if found == wanted:
            return ip, port
    if literal(host) is None:
        raise no_address()
    raise _socket.gaierror(_socket.EAI_ADDRFAMILY, "Address family for hostname not supported")
