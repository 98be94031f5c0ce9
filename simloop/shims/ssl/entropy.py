"""Replacement of OpenSSL's random generator: in a run it draws from the seed, for code inside of the world.

`RAND_set_rand_method` replaces it in the library that `_ssl` is linked with; `ctypes` finds that among the dependencies
of `_ssl` (or in `_ssl` or Python itself, if OpenSSL is built in). The first TLS context of a run replaces the
generator, and the end of the run restores it.
"""

from __future__ import annotations

import _ssl
import ctypes
import os
import random
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simloop.errors import RealLibraryWarning
from simloop.shims import libraries
from simloop.shims.patch import original
from simloop.sources import call_site, level_of_caller
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

_real_urandom = original(os, "urandom")
_real_bytes: Any = _ssl.RAND_bytes

_Bytes = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Status = ctypes.CFUNCTYPE(ctypes.c_int)


class _Method(ctypes.Structure):
    """C structure RAND_METHOD of <openssl/rand.h>. Functions that are NULL do nothing."""

    _fields_ = (
        ("seed", ctypes.c_void_p),
        ("bytes", _Bytes),
        ("cleanup", ctypes.c_void_p),
        ("add", ctypes.c_void_p),
        ("pseudorand", _Bytes),
        ("status", _Status),
    )


# Generator of the run that goes on. It is no part of `Choices.entropy`: how often OpenSSL draws depends on what it has
# kept from earlier runs (blinding of an RSA key), and what the program draws must not.
_stream: random.Random | None = None


def _draw(buffer: int, size: int) -> int:
    # Another thread's is real, and so is that of an import.
    data = _stream.randbytes(size) if _stream is not None and active.is_inside() else _real_urandom(size)
    ctypes.memmove(buffer, data, size)
    return 1


_draws = _Bytes(_draw)
_method = _Method(bytes=_draws, pseudorand=_draws, status=_Status(lambda: 1))


def libraries_of_ssl() -> Iterator[Any]:
    """Yield libraries that may contain the functions of OpenSSL that `_ssl` calls: its own file with its dependencies,
    then the program itself, in case `_ssl` is built in."""
    for name in (getattr(_ssl, "__file__", None), None):
        try:
            yield ctypes.CDLL(name)
        except OSError:
            continue


def _setter() -> tuple[Any, Any]:
    """Return the functions of OpenSSL that set and get the random generator's methods, or None for both."""
    for library in libraries_of_ssl():
        setter, getter = (getattr(library, f"RAND_{verb}_rand_method", None) for verb in ("set", "get"))
        if setter is None or getter is None:
            continue
        setter.argtypes, getter.restype = [ctypes.c_void_p], ctypes.c_void_p
        if _reaches(setter, getter):
            return setter, getter
    return None, None


def _reaches(setter: Any, getter: Any) -> bool:
    """Return True if these functions replace the generator that `_ssl` uses. They do not if it is linked with another
    OpenSSL."""
    called = False

    def draw(buffer: int, size: int) -> int:
        nonlocal called
        called = True
        return _draw(buffer, size)

    trial = _Method(bytes=_Bytes(draw))
    before = getter()
    setter(ctypes.byref(trial))
    try:
        _real_bytes(1)
    finally:
        setter(before)
    return called


_set, _get = _setter()
_told = False


def engage(world: World) -> None:
    """Replace OpenSSL's random generator by one that draws from the seed, until the end of the run."""
    global _stream, _told
    if _stream is not None:
        return
    if _set is None:
        if not _told:
            _told = True
            warnings.warn(
                f"{call_site()}: the OpenSSL of this Python has a generator that cannot be replaced: the bytes and "
                "lengths of TLS differ from run to run",
                RealLibraryWarning,
                stacklevel=level_of_caller(),
            )
        return
    _stream = random.Random(f"tls {world.choices.seed}")
    before = _get()
    _set(ctypes.byref(_method))

    def disengage() -> None:
        global _stream
        _stream = None
        _set(before)

    libraries.at_end(disengage)
