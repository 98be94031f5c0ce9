"""Shims of the limits of `resource`: each simulated process has its own, which initially are the real ones and are not
enforced."""

from __future__ import annotations

import errno
import posix
import resource
from typing import TYPE_CHECKING, Any

from simloop.kernel.errors import fail
from simloop.shims.late import real
from simloop.shims.patch import builtin
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

_real = real(__name__, resource)

Limits = tuple[int, int]


def getrlimit(which: int, /) -> Limits:
    world = active.world()
    limits = None if world is None else world.current.limits.get(which)
    return limits or _real["getrlimit"](which)


def setrlimit(which: int, limits: Any, /) -> None:
    world = active.world()
    if world is None:
        return _real["setrlimit"](which, limits)  # type: ignore[no-any-return]
    _set(world, which, limits)
    return None


def _set(world: World, which: int, limits: Any) -> None:
    hardest = getrlimit(which)[1]
    soft, hard = (resource.RLIM_INFINITY if limit < 0 else limit for limit in map(int, limits))
    # As unsigned numbers, of which RLIM_INFINITY is the last: do_prlimit() in kernel/sys.c.
    order = [limit & ((1 << 64) - 1) for limit in (soft, hard, hardest)]
    if order[0] > order[1]:
        raise ValueError("current limit exceeds maximum limit")
    if order[1] > order[2] and posix.geteuid():
        raise ValueError("not allowed to raise maximum limit")
    world.current.limits = {**world.current.limits, which: (soft, hard)}


def prlimit(pid: int, which: int, limits: Any = None, /) -> Limits:
    world = active.world()
    if world is None:
        found: Limits = _real["prlimit"](pid, which, *(() if limits is None else (limits,)))
        return found
    if pid not in (0, world.current.pid):
        raise fail(errno.ESRCH)
    before = getrlimit(which)
    if limits is not None:
        _set(world, which, limits)
    return before


REPLACEMENTS: list[tuple[object, str, object]] = [
    (resource, name, builtin(globals()[name])) for name in ("getrlimit", "setrlimit", "prlimit")
]
