"""Shims of the methods by which `ssl.SSLContext` reads certificates and keys: OpenSSL opens the files itself. Of what
was written in the run it is given a real copy, for the length of the call."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simloop.shims.late import real
from simloop.shims.os.paths import current_world, named
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

_real = real(__name__, ssl.SSLContext)


@contextlib.contextmanager
def _copied(world: World, *paths: Any) -> Iterator[list[Any]]:
    """Context manager that gives the real paths of files which a C library is about to read."""
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
    with _copied(world, cafile, capath) as paths:
        _real["load_verify_locations"](self, *paths, cadata)
    return None


def load_dh_params(self: ssl.SSLContext, path: Any, /) -> None:
    world = current_world()
    if world is None:
        return _real["load_dh_params"](self, path)  # type: ignore[no-any-return]
    with _copied(world, path) as (copy,):
        _real["load_dh_params"](self, copy)
    return None


REPLACEMENTS: list[tuple[object, str, object]] = [
    (ssl.SSLContext, function.__name__, function)
    for function in (load_cert_chain, load_dh_params, load_verify_locations)
]
