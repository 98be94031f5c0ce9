"""Shims of the methods of `ssl.SSLContext` that create connections, over sockets and in memory."""

from __future__ import annotations

import contextlib
import ctypes
import ssl
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simloop.kernel.clock import SECOND
from simloop.shims.late import real
from simloop.shims.patch import builtin
from simloop.shims.socket.sockets import SimSocket
from simloop.shims.ssl import entropy
from simloop.shims.ssl.connection import Connection
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

_real = real(__name__, ssl.SSLContext)


def new(cls: type[ssl.SSLContext], *args: Any, **kwargs: Any) -> Any:
    """Create a TLS context, in place of `ssl.SSLContext.__new__`. Its session ticket keys are drawn from the run's
    seed."""
    world = active.here()
    if world is not None:
        entropy.engage(world)
    return _real["__new__"](cls, *args, **kwargs)


def wrap_bio(self: ssl.SSLContext, *args: Any, **kwargs: Any) -> Any:
    world = active.here()
    if world is None:
        return _real["_wrap_bio"](self, *args, **kwargs)
    entropy.engage(world)
    with _dated(world, self):
        return _real["_wrap_bio"](self, *args, **kwargs)


def wrap_socket(self: ssl.SSLContext, sock: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the lower layer of an `ssl.SSLSocket`: a `Connection` over a simulated socket, or the real one."""
    if not isinstance(sock, SimSocket):
        return _real["_wrap_socket"](self, sock, *args, **kwargs)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    return Connection(sock, wrap_bio(self, incoming, outgoing, *args, **kwargs), incoming, outgoing)


# --- dates ------------------------------------------------------------------------------------------

_USE_CHECK_TIME = 0x2  # X509_V_FLAG_USE_CHECK_TIME of <openssl/x509_vfy.h>


def _functions() -> tuple[Any, Any, Any] | None:
    """Return the functions of OpenSSL that set the time at which a context verifies certificates; None if there are
    none."""
    # Where they stand in a context's memory is Python's own affair: newer ones have not been looked at.
    if sys.version_info >= (3, 15):
        return None
    for library in entropy.libraries_of_ssl():
        names = "SSL_CTX_get0_param", "X509_VERIFY_PARAM_set_time", "X509_VERIFY_PARAM_clear_flags"
        if all(hasattr(library, name) for name in names):
            get, set_time, clear = (getattr(library, name) for name in names)
            get.argtypes, get.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_time.argtypes, set_time.restype = [ctypes.c_void_p, ctypes.c_long], None  # time_t
            clear.argtypes = [ctypes.c_void_p, ctypes.c_ulong]
            return get, set_time, clear
    return None


_FUNCTIONS = _functions()


@contextlib.contextmanager
def _dated(world: World, context: ssl.SSLContext) -> Iterator[None]:
    """Context manager in which connections of `context` verify certificates at the time of the world's clock. Each
    connection keeps a copy of that setting."""
    if _FUNCTIONS is None:
        yield
        return
    get, set_time, clear = _FUNCTIONS
    # PySSLContext in Modules/_ssl.c: the SSL_CTX is what an object has first.
    parameters = get(ctypes.c_void_p.from_address(id(context) + object.__basicsize__))
    set_time(parameters, world.current.host.wall.now // SECOND)
    try:
        yield
    finally:
        clear(parameters, _USE_CHECK_TIME)


REPLACEMENTS: list[tuple[object, str, object]] = [
    (ssl.SSLContext, "__new__", builtin(new)),
    (ssl.SSLContext, "_wrap_bio", wrap_bio),
    (ssl.SSLContext, "_wrap_socket", wrap_socket),
]
