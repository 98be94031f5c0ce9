"""Replacement of OpenSSL's random generator: in a run it draws from the seed, for whoever is inside of the world.

`RAND_set_rand_method` replaces it in the library that `_ssl` is linked with; `ctypes` finds that among what `_ssl`
needs (also where OpenSSL is part of `_ssl`, or of Python). The first TLS context of a run does so, and the end of the
run takes it back.
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
    """RAND_METHOD of <openssl/rand.h>. Functions that are missing do nothing."""

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
    """Yield libraries that may hold the functions of OpenSSL that `_ssl` calls: its own file and what that is linked
    with, then the program itself, where `_ssl` is a part of it."""
    for name in (getattr(_ssl, "__file__", None), None):
        try:
            yield ctypes.CDLL(name)
        except OSError:
            continue


def _setter() -> tuple[Any, Any]:
    """Return the functions of OpenSSL that replace and return the generator, or None for both."""
    for library in libraries_of_ssl():
        setter, getter = (getattr(library, f"RAND_{verb}_rand_method", None) for verb in ("set", "get"))
        if setter is None or getter is None:
            continue
        setter.argtypes, getter.restype = [ctypes.c_void_p], ctypes.c_void_p
        if _reaches(setter, getter):
            return setter, getter
    return None, None


def _reaches(setter: Any, getter: Any) -> bool:
    """Return True if replacing the generator by these functions takes effect in `_ssl`, which may be linked with
    another OpenSSL than the one that was found."""
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
    """Replace OpenSSL's generator by one that draws from the seed, from now to the end of the run."""
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
