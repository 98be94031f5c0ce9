"""Shims of entropy (`random`, `os.urandom`, `uuid`) and of other values that differ between processes, such as pids: in
a run they are determined by the seed."""

from __future__ import annotations

import os
import random
import ssl
import tempfile
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simloop.shims.late import real
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

_real = {
    name: function
    for owner in (os, random, ssl, tempfile, uuid)
    for name, function in real("simloop.shims.random", owner).items()
}
_real_seed = real("simloop.shims.random", random.Random)["seed"]
# A locally administered address, as random ones are (RFC 9562, section 6.10).
_NODE = 0x020000000001


def urandom(size: int, /) -> bytes:
    world = active.world()
    return _real["urandom"](size) if world is None else world.choices.entropy.randbytes(size)


def getrandom(size: int, flags: int = 0) -> bytes:
    world = active.world()
    return _real["getrandom"](size, flags) if world is None else world.choices.entropy.randbytes(size)


def ssl_bytes(size: int, /) -> bytes:
    """Return random bytes from the world's entropy, as a shim of `ssl.RAND_bytes`."""
    world = active.world()
    return _real["RAND_bytes"](size) if world is None else world.choices.entropy.randbytes(size)


def ssl_pseudo_bytes(size: int, /) -> tuple[bytes, bool]:
    world = active.world()
    if world is None:
        return _real["RAND_pseudo_bytes"](size)  # type: ignore[no-any-return]
    return world.choices.entropy.randbytes(size), True


def getpid() -> int:
    world = active.world()
    return _real["getpid"]() if world is None else world.current.pid


def _parent_of(world: World) -> int:
    parent = world.current.parent
    return parent.pid if parent is not None else 1


def getppid() -> int:
    world = active.world()
    return _real["getppid"]() if world is None else _parent_of(world)


def getnode() -> int:
    return _real["getnode"]() if active.world() is None else _NODE


def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
    """Seed a generator, as `random.Random.seed`. Without an argument, `Random()` would get its seed from the operating
    system, in C code; here it gets it from the world's entropy."""
    world = active.world()
    if a is None and world is not None:
        a = world.choices.entropy.getrandbits(256)
    _real_seed(self, a, version)


def candidate_names() -> Any:
    """Return the generator of random file names for `tempfile`: one for each simulated process, instead of one for the
    real process."""
    world = active.world()
    if world is None:
        return _real["_get_candidate_names"]()
    process = world.current
    if process.temporary_names is None:
        process.temporary_names = names = tempfile._RandomNameSequence()  # type: ignore[attr-defined]
        names._rng = random.Random(world.choices.entropy.getrandbits(64))
        names._rng_pid = getpid()
    return process.temporary_names


def uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
    """Return a UUID of version 1, computed as in Lib/uuid.py. The C library is not used, because its clock and address
    are real; nor is the last timestamp that `uuid` stores, which would be that of an earlier run."""
    world = active.world()
    if world is None:
        return _real["uuid1"](node, clock_seq)  # type: ignore[no-any-return]
    # 100 ns since 1582-10-15, see RFC 9562, section 5.1. The virtual clock never reads the same twice.
    timestamp = world.current.host.wall.read() // 100 + 0x01B21DD213814000
    if clock_seq is None:
        clock_seq = world.choices.entropy.getrandbits(14)
    fields = (
        timestamp & 0xFFFFFFFF,
        timestamp >> 32 & 0xFFFF,
        timestamp >> 48 & 0x0FFF,
        clock_seq >> 8 & 0x3F,
        clock_seq & 0xFF,
        getnode() if node is None else node,
    )
    return uuid.UUID(fields=fields, version=1)


def _drawing(name: str) -> Callable[..., Any]:
    """Return a shim of the function `name` of `random`: inside a world it calls that method of the world's own
    generator."""
    drawn = _real[name]

    def draw(*args: Any, **kwargs: Any) -> Any:
        world = active.world()
        return (drawn if world is None else getattr(world.random, name))(*args, **kwargs)

    draw.__name__ = draw.__qualname__ = name
    return draw


_DRAWING = real("simloop.shims.random", random).keys() - {"_urandom"}

REPLACEMENTS: list[tuple[object, str, object]] = [
    (os, "urandom", urandom),
    (os, "getrandom", getrandom),
    (ssl, "RAND_bytes", ssl_bytes),
    (os, "getpid", getpid),
    (os, "getppid", getppid),
    (random, "_urandom", urandom),
    (random.Random, "seed", seed),
    (uuid, "getnode", getnode),
    (uuid, "uuid1", uuid1),
    *((random, name, _drawing(name)) for name in sorted(_DRAWING)),
    (tempfile, "_get_candidate_names", candidate_names),
]
if hasattr(ssl, "RAND_pseudo_bytes"):  # until Python 3.11
    REPLACEMENTS.append((ssl, "RAND_pseudo_bytes", ssl_pseudo_bytes))
