"""Name look-up: `socket.getaddrinfo` and its kind, answered by the simulated network."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from simloop.network.world import World
from simloop.shims import active

_real_getaddrinfo = socket.getaddrinfo
_real_getnameinfo = socket.getnameinfo
_real_gethostname = socket.gethostname
_real_gethostbyname = socket.gethostbyname
_real_gethostbyname_ex = socket.gethostbyname_ex
_real_gethostbyaddr = socket.gethostbyaddr
_real_getfqdn = socket.getfqdn

# /etc/services would differ between machines.
_SERVICES = {
    "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "http": 80, "pop3": 110, "ntp": 123,
    "imap": 143, "ldap": 389, "https": 443, "mysql": 3306, "postgresql": 5432, "amqp": 5672, "redis": 6379,
}  # fmt: skip
_TYPES = (
    (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    (socket.SOCK_RAW, socket.IPPROTO_IP),
)


def _no_name() -> socket.gaierror:
    return socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def addresses(world: World, host: str) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses behind a literal or a name, IPv4 first."""
    try:
        literal = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        found = world.network.lookup(host)
        if found is None:
            raise _no_name() from None
        return [(socket.AF_INET, found[0]), (socket.AF_INET6, found[1])]
    return [(socket.AF_INET if literal.version == 4 else socket.AF_INET6, str(literal))]


def _port(port: Any, flags: int) -> int:
    if port is None or port in ("", b""):
        return 0
    if isinstance(port, int):
        return port & 0xFFFF
    text = port.decode() if isinstance(port, bytes) else str(port)
    if text.isdigit():
        return int(text) & 0xFFFF
    if flags & socket.AI_NUMERICSERV:
        raise _no_name()
    if text not in _SERVICES:
        raise socket.gaierror(socket.EAI_SERVICE, "Servname not supported for ai_socktype")
    return _SERVICES[text]


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
    world = active.world()
    if world is None:
        return _real_getaddrinfo(host, port, family, type, proto, flags)
    number = _port(port, flags)
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name == "":
        if port is None:
            raise _no_name()
        passive = flags & socket.AI_PASSIVE
        found = [
            (socket.AF_INET, "0.0.0.0" if passive else "127.0.0.1"),
            (socket.AF_INET6, "::" if passive else "::1"),
        ]
    else:
        if flags & socket.AI_NUMERICHOST and not _is_literal(name):
            raise _no_name()
        found = addresses(world, name)
    if family not in (0, socket.AF_INET, socket.AF_INET6):
        raise socket.gaierror(socket.EAI_FAMILY, "ai_family not supported")
    matching = [entry for entry in found if family in (0, entry[0])]
    if not matching:
        if _is_literal(name or ""):
            raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family for hostname not supported")
        raise _no_name()
    kinds = [(kind, protocol) for kind, protocol in _TYPES if type in (0, kind) and proto in (0, protocol)]
    if not kinds:
        raise socket.gaierror(socket.EAI_SOCKTYPE, "ai_socktype not supported")
    canonical = (name or "") if flags & socket.AI_CANONNAME else ""
    scope = _scope((name or "").partition("%")[2])
    return [
        (found_family, socket.SocketKind(kind), protocol, canonical, sockaddr(found_family, ip, number, scope))
        for found_family, ip in matching
        for kind, protocol in kinds
    ]


def sockaddr(family: int, ip: str, port: int, scope: int = 0) -> tuple[Any, ...]:
    """An address as Python shows it for the family."""
    return (ip, port, 0, scope) if family == socket.AF_INET6 else (ip, port)


def _scope(zone: str) -> int:
    """The number of the interface that follows the ``%`` of an address; a host has ``lo`` and ``eth0``."""
    if zone.isdigit():
        return int(zone)
    if zone in ("", "lo", "eth0"):
        return ("", "lo", "eth0").index(zone)
    raise _no_name()


def _is_literal(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def getnameinfo(address: Any, flags: int, /) -> tuple[str, str]:
    world = active.world()
    if world is None:
        return _real_getnameinfo(address, flags)
    ip, port = address[0], address[1]
    if not _is_literal(ip):
        raise _no_name()
    name = None if flags & socket.NI_NUMERICHOST else world.network.name_of(ip)
    if name is None and flags & socket.NI_NAMEREQD:
        raise _no_name()
    service = str(port)
    if not flags & socket.NI_NUMERICSERV:
        service = next((known for known, number in _SERVICES.items() if number == port), service)
    return name or ip, service


def gethostname() -> str:
    world = active.world()
    return _real_gethostname() if world is None else world.current.host.name


def gethostbyname(name: str, /) -> str:
    world = active.world()
    if world is None:
        return _real_gethostbyname(name)
    return str(getaddrinfo(name, 0, socket.AF_INET)[0][4][0])


def gethostbyname_ex(name: str, /) -> tuple[str, list[str], list[str]]:
    if active.world() is None:
        return _real_gethostbyname_ex(name)
    return name, [], [gethostbyname(name)]


def gethostbyaddr(address: str, /) -> tuple[str, list[str], list[str]]:
    world = active.world()
    if world is None:
        return _real_gethostbyaddr(address)
    ip = addresses(world, address)[0][1]
    name = world.network.name_of(ip)
    if name is None:
        raise socket.herror(1, "Unknown host")
    return name, [], [ip]


def getfqdn(name: str = "") -> str:
    world = active.world()
    if world is None:
        return _real_getfqdn(name)
    if name in ("", "0.0.0.0", "::"):
        return world.current.host.name
    return (world.network.name_of(name) if _is_literal(name) else None) or name


REPLACEMENTS: list[tuple[object, str, object]] = [
    (socket, function.__name__, function)
    for function in (getaddrinfo, getnameinfo, gethostname, gethostbyname, gethostbyname_ex, gethostbyaddr, getfqdn)
]
