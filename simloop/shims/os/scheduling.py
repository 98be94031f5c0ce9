"""Shims of the functions of `os` for scheduling: processor affinity and priority of a process."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from simloop.kernel.errors import fail
from simloop.shims.late import real
from simloop.shims.patch import builtin
from simloop.world import active
from simloop.world.world import CPU_COUNT

if TYPE_CHECKING:
    from simloop.world.world import World

_real = real(__name__)


def cpu_count() -> int | None:
    return _real["cpu_count"]() if active.world() is None else CPU_COUNT


def process_cpu_count() -> int | None:
    return _real["process_cpu_count"]() if active.world() is None else len(sched_getaffinity(0))


def _is_self(world: World, pid: Any) -> bool:
    return isinstance(pid, int) and pid in (0, world.current.pid)


def sched_getaffinity(pid: int, /) -> set[int]:
    world = active.world()
    if world is None or not _is_self(world, pid):
        return _real["sched_getaffinity"](pid)  # type: ignore[no-any-return]
    affinity = world.current.affinity
    return set(range(CPU_COUNT) if affinity is None else affinity)


def sched_setaffinity(pid: int, mask: Any, /) -> None:
    world = active.world()
    if world is None:
        return _real["sched_setaffinity"](pid, mask)  # type: ignore[no-any-return]
    if not _is_self(world, pid):
        raise fail(errno.ESRCH)
    # sched_setaffinity(2): what is not there does not count, but something must be.
    affinity = frozenset(mask) & frozenset(range(CPU_COUNT))
    if not affinity:
        raise fail(errno.EINVAL)
    world.current.affinity = affinity
    return None


def getpriority(which: int, who: int) -> int:
    world = active.world()
    if world is None or which != os.PRIO_PROCESS or not _is_self(world, who):
        return _real["getpriority"](which, who)  # type: ignore[no-any-return]
    return world.current.nice


def setpriority(which: int, who: int, priority: int) -> None:
    world = active.world()
    if world is None:
        return _real["setpriority"](which, who, priority)  # type: ignore[no-any-return]
    if which != os.PRIO_PROCESS or not _is_self(world, who):
        raise fail(errno.ESRCH)
    world.current.nice = max(-20, min(19, priority))  # setpriority(2)
    return None


def nice(increment: int, /) -> int:
    world = active.world()
    if world is None:
        return _real["nice"](increment)  # type: ignore[no-any-return]
    setpriority(os.PRIO_PROCESS, 0, world.current.nice + increment)
    return world.current.nice


REPLACEMENTS: list[tuple[object, str, object]] = [
    (os, "cpu_count", builtin(cpu_count)),
    (os, "getpriority", builtin(getpriority)),
    (os, "nice", builtin(nice)),
    (os, "sched_getaffinity", builtin(sched_getaffinity)),
    (os, "sched_setaffinity", builtin(sched_setaffinity)),
    (os, "setpriority", builtin(setpriority)),
]
if hasattr(os, "process_cpu_count"):  # new in Python 3.13
    REPLACEMENTS.append((os, "process_cpu_count", builtin(process_cpu_count)))
