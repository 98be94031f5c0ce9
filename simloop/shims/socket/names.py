"""Shims of name look-up (`socket.getaddrinfo`, `socket.gethostbyname` and so on), answered by the simulated network."""

from __future__ import annotations

import errno
import operator
import os
import socket
from typing import TYPE_CHECKING, Any

from simloop.kernel.errors import fail
from simloop.network.names import canonical
from simloop.network.network import is_local
from simloop.shims.late import real
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

_real = real(__name__, socket)

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


# By number, from 1 on.
_INTERFACES = ("", "lo", "eth0")
_HOSTS = "/etc/hosts"
# What <netdb.h> knows, AI_IDN and its kin included; the module `socket` does not name them all.
_KNOWN_FLAGS = 0x7FF
# As plain integers: operations on members of `enum.IntFlag` take most of the time of a look-up.
_PASSIVE, _CANONNAME, _NUMERICHOST, _V4MAPPED, _NUMERICSERV = map(
    int, (socket.AI_PASSIVE, socket.AI_CANONNAME, socket.AI_NUMERICHOST, socket.AI_V4MAPPED, socket.AI_NUMERICSERV)
)


def _no_service() -> socket.gaierror:
    return socket.gaierror(socket.EAI_SERVICE, "Servname not supported for ai_socktype")


def _no_name() -> socket.gaierror:
    return socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def no_address() -> socket.gaierror:
    """Return the error for a name that exists but has no address, or none of the requested family."""
    return socket.gaierror(socket.EAI_NODATA, "No address associated with hostname")


def literal(host: str) -> str | None:
    """Return the IP address that `host` spells, without its zone, or None if `host` is a name. IPv4 addresses may have
    any form of inet_aton(3): ``127.1``, ``0x7f000001``."""
    try:
        if ":" in host:
            return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host.partition("%")[0]))
        if host[:1].isdigit() and host.split() == [host]:  # inet_aton(3) ignores what follows a space
            return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        pass
    return None


def addresses(world: World, host: str) -> list[tuple[socket.AddressFamily, str]]:
    """Return the IP addresses for a literal address or a host name, in the order in which to try them. A look-up may
    block in virtual time, and may fail."""
    spelled = literal(host)
    if spelled is not None:
        return [_with_family(spelled)]
    machine = world.current.host
    found = _from_file(world, host)
    if found is None:
        names = world.network.names
        if (names.may_fail or names.may_be_slow) and not (is_local(canonical(host)) or names.known(host, machine.name)):
            _wait_for_answer(world, host)
        found = world.network.lookup(host, machine)
    if found is None:
        raise _no_name() from None
    if not found:
        raise no_address()
    return [_with_family(ip) for ip in found]


def _with_family(ip: str) -> tuple[socket.AddressFamily, str]:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET, ip


def _wait_for_answer(world: World, name: str) -> None:
    seconds, fails = world.network.names.trouble(world.choices, name, world.current.host.name)
    if seconds:
        world.block(lambda: False, seconds)
    if fails:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def _hosts_file(world: World) -> list[list[str]]:
    """Return the lines of /etc/hosts, each split into words, if the file was written in this run. The real file, which
    differs between machines, counts as empty."""
    process = world.current
    if process.host.fs is None:
        return []  # nobody on this host has touched a file
    try:
        if world.files().seen_by_c(_HOSTS) is not None:
            return []
        with open(_HOSTS, encoding="utf-8", errors="replace") as file:
            return [words for line in file if len(words := line.partition("#")[0].split()) > 1]
    except OSError:
        return []


def _from_file(world: World, name: str) -> tuple[str, ...] | None:
    """Return the addresses that /etc/hosts lists for a name, or None if the name is not in it (hosts(5))."""
    wanted = canonical(name)
    found = [
        ip
        for address, *names in _hosts_file(world)
        if wanted in map(canonical, names) and (ip := literal(address)) is not None
    ]
    return tuple(dict.fromkeys(found)) if found else None


def name_of(world: World, ip: str) -> list[str]:
    """Return the names of an IP address: the host name, then aliases. Empty if there is none."""
    for address, *names in _hosts_file(world):
        if literal(address) == ip:
            return names
    name = world.network.name_of(ip)
    return [] if name is None else [name]


def _port(port: Any, flags: int) -> int:
    if port is None or port in ("", b""):
        return 0
    if not isinstance(port, (int, str, bytes)):
        raise OSError("Int or String expected")
    text = port.decode() if isinstance(port, bytes) else str(port)
    if text.isdigit():
        return int(text) & 0xFFFF
    if flags & _NUMERICSERV:
        raise _no_name()
    if text not in _SERVICES:
        raise _no_service()
    return _SERVICES[text]


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
    world = active.world()
    if world is None:
        return _real["getaddrinfo"](host, port, family, type, proto, flags)
    if host is not None and not isinstance(host, (str, bytes)):
        raise TypeError("getaddrinfo() argument 1 must be string or None")
    flags = operator.index(flags)
    name = host.decode() if isinstance(host, bytes) else host
    if name and literal(name) is None:
        name.encode("idna")  # as Python does, and fails for what cannot be a name
    # From here on in the order in which glibc finds fault (getaddrinfo() in sysdeps/posix/getaddrinfo.c).
    if not name and port is None:
        raise _no_name()
    if flags & ~_KNOWN_FLAGS or (flags & _CANONNAME and name is None):
        raise socket.gaierror(socket.EAI_BADFLAGS, "Bad value for ai_flags")
    if family not in (0, socket.AF_INET, socket.AF_INET6):
        raise socket.gaierror(socket.EAI_FAMILY, "ai_family not supported")
    kinds = _kinds(type, proto, port)
    number = _port(port, flags)
    found = _found(world, name, family, flags)
    canonical = (name or "") if flags & _CANONNAME else ""
    scope = _scope(name or "")
    return [
        (found_family, kind, protocol, canonical, sockaddr(found_family, ip, number, scope))
        for found_family, ip in found
        for kind, protocol in kinds
    ]


def _kinds(type: int, proto: int, port: Any) -> list[tuple[socket.SocketKind, int]]:
    # A raw socket goes with every protocol, and with no service.
    kinds = [
        (kind, proto if kind == socket.SOCK_RAW else protocol)
        for kind, protocol in _TYPES
        if type in (0, kind) and (proto in (0, protocol) or kind == socket.SOCK_RAW == type)
    ]
    if not kinds:
        if type:
            raise socket.gaierror(socket.EAI_SOCKTYPE, "ai_socktype not supported")
        raise _no_service()
    if type == socket.SOCK_RAW and port is not None:
        raise _no_service()
    return kinds


def _found(world: World, name: str | None, family: int, flags: int) -> list[tuple[socket.AddressFamily, str]]:
    if name is None:
        if flags & _PASSIVE:
            found = [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
        else:
            found = [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")]
    else:
        if name == "" or (flags & _NUMERICHOST and literal(name) is None):
            raise _no_name()
        found = addresses(world, name)
    matching = [entry for entry in found if family in (0, entry[0])]
    if not matching and flags & _V4MAPPED and family == socket.AF_INET6:
        matching = [(socket.AF_INET6, f"::ffff:{ip}") for _, ip in found]
    if not matching:
        if literal(name or "") is not None:
            raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family for hostname not supported")
        raise no_address()
    return matching


def sockaddr(family: int, ip: str, port: int, scope: int = 0) -> tuple[Any, ...]:
    """Return a socket address as the tuple that Python uses for its address family."""
    return (ip, port, 0, scope) if family == socket.AF_INET6 else (ip, port)


def _scope(host: str) -> int:
    """Return the index of the network interface after the ``%`` of an address; a host has ``lo`` and ``eth0``. Only a
    link-local address may have the name of an interface there."""
    ip, percent, zone = host.partition("%")
    if not percent:
        return 0
    if not zone.isascii() or not zone.isdigit():
        if not (zone in _INTERFACES[1:] and _is_link_local(ip)):
            raise _no_name()
        return _INTERFACES.index(zone)
    return int(zone)


def _is_link_local(ip: str) -> bool:
    """Return True for an IPv6 address in fe80::/10 (RFC 4291, 2.5.6)."""
    first, second, *_ = socket.inet_pton(socket.AF_INET6, ip)
    return first == 0xFE and second & 0xC0 == 0x80


def getnameinfo(address: Any, flags: int, /) -> tuple[str, str]:
    world = active.world()
    if world is None:
        return _real["getnameinfo"](address, flags)  # type: ignore[no-any-return]
    ip, port = address[0], address[1]
    if literal(ip) is None:
        raise _no_name()
    names = [] if flags & socket.NI_NUMERICHOST else name_of(world, ip)
    name = names[0] if names else None
    if name is None and flags & socket.NI_NAMEREQD:
        raise _no_name()
    service = str(port)
    if not flags & socket.NI_NUMERICSERV:
        service = next((known for known, number in _SERVICES.items() if number == port), service)
    return name or ip, service


def gethostname() -> str:
    world = active.world()
    return _real["gethostname"]() if world is None else world.current.host.name


def gethostbyname(name: str, /) -> str:
    world = active.world()
    if world is None:
        return _real["gethostbyname"](name)  # type: ignore[no-any-return]
    return str(getaddrinfo(name, 0, socket.AF_INET)[0][4][0])


def gethostbyname_ex(name: str, /) -> tuple[str, list[str], list[str]]:
    if active.world() is None:
        return _real["gethostbyname_ex"](name)  # type: ignore[no-any-return]
    return name, [], [entry[4][0] for entry in getaddrinfo(name, 0, socket.AF_INET, socket.SOCK_STREAM)]


def gethostbyaddr(address: str, /) -> tuple[str, list[str], list[str]]:
    world = active.world()
    if world is None:
        return _real["gethostbyaddr"](address)  # type: ignore[no-any-return]
    ip = addresses(world, address)[0][1]
    names = name_of(world, ip)
    if not names:
        raise socket.herror(1, "Unknown host")
    return names[0], names[1:], [ip]


def getfqdn(name: str = "") -> str:
    world = active.world()
    if world is None:
        return _real["getfqdn"](name)  # type: ignore[no-any-return]
    if name in ("", "0.0.0.0", "::"):
        return world.current.host.name
    try:
        found, aliases, _ = gethostbyaddr(name)
    except OSError:
        return name
    return next((known for known in (found, *aliases) if "." in known), found)


def if_nameindex() -> list[tuple[int, str]]:
    if active.world() is None:
        return _real["if_nameindex"]()  # type: ignore[no-any-return]
    return list(enumerate(_INTERFACES))[1:]


def if_nametoindex(name: Any, /) -> int:
    if active.world() is None or not isinstance(name, (str, bytes, os.PathLike)):
        return _real["if_nametoindex"](name)  # type: ignore[no-any-return]
    if (name := os.fsdecode(name)) not in _INTERFACES[1:]:
        raise OSError("no interface with this name")
    return _INTERFACES.index(name)


def if_indextoname(index: int, /) -> str:
    if active.world() is None or not isinstance(index, int):
        return _real["if_indextoname"](index)  # type: ignore[no-any-return]
    if not 0 < index < len(_INTERFACES):
        raise fail(errno.ENXIO)
    return _INTERFACES[index]


_NAMES = (
    getaddrinfo, getnameinfo, gethostname, gethostbyname, gethostbyname_ex, gethostbyaddr, getfqdn, if_nameindex,
    if_nametoindex, if_indextoname,
)  # fmt: skip
REPLACEMENTS: list[tuple[object, str, object]] = [(socket, function.__name__, function) for function in _NAMES]
