"""Patches of third-party libraries that few programs import.

Most of these libraries do input and output in C code that cannot be simulated: their first call in a run raises
`EscapedSimulationError`; importing them, and calling them outside of a run, works. Others cache something for the whole
process that each run needs anew.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from simloop.shims.libraries import at_end
from simloop.world import active

_STREAMS = "connect by asyncio, in which a driver in pure Python does so, or replace it in the test"
_SQLITE = "sqlite3 is simulated; or replace it in the test"
_GRPC = "grpclib is pure Python over asyncio; or replace it in the test"
_INTERFACES = "ifaddr.get_adapters tells those of the simulated host"
_POSTGRES = "asyncpg and pg8000 speak the protocol themselves; or replace it in the test"

#: For each module: its functions and methods that raise an error in a run, and the remedy that the error names.
REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "uvloop": (("new_event_loop", "Loop.__init__"), "asyncio's own loop is simulated: leave uvloop out"),
    "zmq": (
        (
            "Context.__init__", "Socket.__init__", "Socket.bind", "Socket.connect", "Socket.send", "Socket.recv",
            "Socket.poll",
        ),
        _STREAMS,
    ),
    "lmdb": (("open", "Environment"), _SQLITE),
    "duckdb": (
        (
            "connect", "execute", "query", "sql", "read_csv", "read_json", "read_parquet", "DuckDBPyConnection.execute",
            "DuckDBPyConnection.query", "DuckDBPyConnection.sql",
        ),
        _SQLITE,
    ),
    "grpc": (("insecure_channel", "secure_channel", "server"), _GRPC),
    "grpc.aio": (("insecure_channel", "secure_channel", "server"), _GRPC),
    "psycopg": (("connect", "Connection.connect", "AsyncConnection.connect"), _POSTGRES),
    "psycopg2": (("connect",), _POSTGRES),
    "pycares": (("Channel.__init__",), "look names up by loop.getaddrinfo, or by dnspython, and leave aiodns out"),
    "netifaces": (("interfaces", "ifaddresses", "gateways"), _INTERFACES),
    "psutil": (("net_if_addrs", "net_if_stats", "net_io_counters"), _INTERFACES),
    "syslog": (("syslog", "openlog"), "replace it in the test"),
}  # fmt: skip


class _Gate(type):
    """Metaclass of stand-ins for classes written in C, whose own methods cannot be replaced: calling such a class calls
    its `refusing`, which raises an error in a run."""

    real: Any
    refusing: Callable[..., Any]

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        made_of = tuple(base.real if isinstance(base, _Gate) else base for base in bases)
        if made_of == bases:
            return super().__new__(mcls, name, bases, namespace)
        # Derived classes are the library's own affair.
        return type(made_of[0])(name, made_of, namespace)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.refusing(*args, **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.real)


def _refusing(real: Any, what: str, remedy: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        if active.is_inside():
            raise active.escape(what, remedy)
        return real(*args, **kwargs)

    functools.update_wrapper(refuse, real)
    return refuse


def _refuse(module: ModuleType, calls: tuple[str, ...], remedy: str) -> None:
    for call in calls:
        owner: Any = module
        *path, name = call.split(".")
        for step in path:
            owner = getattr(owner, step, None)
        # Another release of the library may lack it.
        found = inspect.getattr_static(owner, name, None)
        if owner is None or found is None:
            continue
        what = f"{module.__name__}.{call.removesuffix('.__init__')}"
        if isinstance(found, classmethod):
            setattr(owner, name, classmethod(_refusing(found.__func__, what, remedy)))
        elif isinstance(found, type):
            refusing = staticmethod(_refusing(found, what, remedy))
            setattr(
                owner, name, _Gate(found.__name__, (), {"real": found, "refusing": refusing, "__doc__": found.__doc__})
            )
        else:
            setattr(owner, name, _refusing(getattr(owner, name), what, remedy))


def _apsw(module: Any) -> None:
    _refuse(module, ("Connection",), _SQLITE)

    # Of classes that were derived from it; by then the file is there.
    def connected(_: Any) -> None:
        if active.is_inside():
            raise active.escape("apsw.Connection", _SQLITE)

    module.connection_hooks.append(connected)


def _pycares(module: Any) -> None:
    _refuse(module, *REFUSED["pycares"])
    if not hasattr(module.Channel, "_channel"):
        module.Channel._channel = None  # its `__del__` looks for it, where `__init__` was refused


def _ifaddr(module: Any) -> None:
    """Patch `ifaddr`, which calls getifaddrs(3) through `ctypes`: in a run it returns the interfaces of the simulated
    host."""
    real = module.get_adapters

    @functools.wraps(real)
    def get_adapters(include_unconfigured: bool = False) -> Any:
        world = active.world()
        if world is None:
            return real(include_unconfigured)
        from simloop.kernel.net.udp import INTERFACES

        host = world.current.host
        addresses = {"lo": ("127.0.0.1", 8, "::1", 128), "eth0": (host.ipv4, 16, host.ipv6, 64)}
        return [
            module.Adapter(name, name, [module.IP(ip, bits, name), module.IP((ip6, 0, 0), bits6, name)], index=number)
            for number, name in enumerate(INTERFACES[1:], 1)
            for ip, bits, ip6, bits6 in (addresses[name],)
        ]

    module.get_adapters = get_adapters


def _aiohttp(module: Any) -> None:
    """Patch `aiohttp.connector`: in a run its default TLS context, which it creates when it is imported, trusts the
    certificate authority of the world, and names are looked up in threads, not by aiodns."""
    default_resolver = module.DefaultResolver

    def resolver(*args: Any, **kwargs: Any) -> Any:
        # Where aiodns is installed it would be that, which escapes.
        found = sys.modules["aiohttp.resolver"].ThreadedResolver if active.is_inside() else default_resolver
        return found(*args, **kwargs)

    module.DefaultResolver = resolver
    connector = module.TCPConnector
    real = getattr(connector, "_get_ssl_context", None)
    if real is None or not hasattr(module, "_SSL_CONTEXT_VERIFIED") or not hasattr(module, "_make_ssl_context"):
        return
    default: Any = None

    def forget() -> None:
        nonlocal default
        default = None

    def get_ssl_context(self: Any, request: Any) -> Any:
        nonlocal default
        found = real(self, request)
        if found is not module._SSL_CONTEXT_VERIFIED or not active.is_inside():
            return found
        if default is None:
            default = module._make_ssl_context(True)
            at_end(forget)
        return default

    connector._get_ssl_context = functools.update_wrapper(get_ssl_context, real)


#: For each module, the function that patches it.
CHANGES: dict[str, Callable[[Any], None]] = {
    **{
        name: functools.partial(_refuse, calls=calls, remedy=remedy) for name, (calls, remedy) in REFUSED.items()
    },
    "aiohttp.connector": _aiohttp,
    "apsw": _apsw,
    "ifaddr": _ifaddr,
    "pycares": _pycares,
}  # fmt: skip
