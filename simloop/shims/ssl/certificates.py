"""Shims of the methods by which `ssl.SSLContext` loads certificates and keys. OpenSSL opens the files itself: for files
that were written in the run it gets a real copy, which is deleted after the call.

The certificate authorities that the real machine trusts do not matter in a world, which has an authority of its own: a
context that would trust the defaults trusts only that one. The hundreds of others are not loaded, since that takes
longer than a short run.
"""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any

from simloop.shims.late import real
from simloop.shims.os.paths import current_world, named
from simloop.shims.ssl.authority import AUTHORITY_PEM
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

_real = real(__name__, ssl.SSLContext)


@contextlib.contextmanager
def _copied(world: World, *paths: Any) -> Iterator[list[Any]]:
    """Context manager that returns real paths for the given ones, for a C library to read: files of the simulated disk
    are copied to temporary real files."""
    with contextlib.ExitStack() as copies:
        yield [_real_path(world, path, copies) for path in paths]


def _real_path(world: World, path: Any, copies: contextlib.ExitStack) -> Any:
    name = None if path is None else named(path)
    if not isinstance(name, str):
        return path
    try:
        found = world.files().seen_by_c(name)
        if found is not None:
            return found
        if os.path.isdir(name):
            raise active.escape(f"a directory of certificates that was made in the run, {path!r}", "load each file")
        with open(name, "rb") as file:
            data = file.read()
    except OSError as error:
        raise type(error)(error.errno, error.strerror) from None  # as OpenSSL's has no file name
    with active.world_entered(None):
        copy = tempfile.NamedTemporaryFile(prefix="simloop-")  # noqa: SIM115  closed by `_close`
        copy.write(data)
        copy.flush()
    copies.callback(_close, copy)
    return copy.name


def _close(copy: Any) -> None:
    with active.world_entered(None):
        copy.close()


def load_cert_chain(self: ssl.SSLContext, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
    world = current_world()
    if world is None:
        return _real["load_cert_chain"](self, certfile, keyfile, password)  # type: ignore[no-any-return]
    with _copied(world, certfile, keyfile) as paths:
        _real["load_cert_chain"](self, *paths, password)
    return None


def load_verify_locations(self: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
    world = current_world()
    if world is None:
        return _real["load_verify_locations"](self, cafile, capath, cadata)  # type: ignore[no-any-return]
    trusted = [_is_default(cafile), _is_default(capath)]
    if any(trusted):
        trust_the_authority(self)
        cafile, capath = (None if default else path for default, path in zip(trusted, (cafile, capath), strict=True))
        if not (cafile or capath or cadata):
            return None
    with _copied(world, cafile, capath) as paths:
        _real["load_verify_locations"](self, *paths, cadata)
    return None


def trust_the_authority(context: ssl.SSLContext) -> None:
    """Make a TLS context trust the certificate authority of the worlds, besides those that it trusts already."""
    _real["load_verify_locations"](context, None, None, AUTHORITY_PEM.decode())


def load_default_certs(self: ssl.SSLContext, purpose: Any = ssl.Purpose.SERVER_AUTH) -> None:
    if active.here() is None:
        return _real["load_default_certs"](self, purpose)  # type: ignore[no-any-return]
    if not isinstance(purpose, ssl._ASN1Object):
        raise TypeError(purpose)
    return set_default_verify_paths(self)


def set_default_verify_paths(self: ssl.SSLContext) -> None:
    if active.here() is None:
        return _real["set_default_verify_paths"](self)  # type: ignore[no-any-return]
    trust_the_authority(self)
    # And what the program itself has put into its environment, as OpenSSL does.
    for name, argument in _DEFAULTS.items():
        path = os.environ.get(name)
        if path and not _is_default(path):
            with contextlib.suppress(OSError):  # what is not there is passed over
                load_verify_locations(self, **{argument: path})
    return None


_PATHS = ssl.get_default_verify_paths()
_DEFAULTS = {_PATHS.openssl_cafile_env: "cafile", _PATHS.openssl_capath_env: "capath"}
# Beside those of OpenSSL, as libraries have them.
_VARIABLES = (*_DEFAULTS, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@functools.cache
def _machines() -> set[bytes]:
    """Return the paths of CA bundles in the environment variables with which Python was started. Paths that were set
    later are the program's own."""
    with active.world_entered(None), open("/proc/self/environ", "rb") as file:
        began = dict(entry.partition(b"=")[::2] for entry in file.read().split(b"\0"))
    return {path for variable in _VARIABLES if (path := began.get(variable.encode()))}


def _is_default(path: Any) -> bool:
    """Return True if a path is that of a default CA bundle: the machine's, or that of the package certifi."""
    name = None if path is None else named(path)
    if not isinstance(name, str):
        return False
    if name in (_PATHS.openssl_cafile, _PATHS.openssl_capath):
        return True
    if os.fsencode(name) in _machines():
        return True
    # Not `certifi.where`, which tests replace by mocks that count their calls.
    where = getattr(sys.modules.get("certifi.core"), "where", None)
    return isinstance(where, FunctionType) and name == where()


def load_dh_params(self: ssl.SSLContext, path: Any, /) -> None:
    world = current_world()
    if world is None:
        return _real["load_dh_params"](self, path)  # type: ignore[no-any-return]
    with _copied(world, path) as (copy,):
        _real["load_dh_params"](self, copy)
    return None


REPLACEMENTS: list[tuple[object, str, object]] = [
    (ssl.SSLContext, function.__name__, function)
    for function in (
        load_cert_chain,
        load_default_certs,
        load_dh_params,
        load_verify_locations,
        set_default_verify_paths,
    )
]
