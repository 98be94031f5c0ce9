"""Shims of `os.times` and `resource.getrusage`, which return the processor time of the current simulated process."""

from __future__ import annotations

import os
import resource
from typing import Any

from simloop.kernel.clock import SECOND
from simloop.shims.late import real
from simloop.shims.patch import builtin
from simloop.shims.time import process_cpu_ns, thread_cpu_ns
from simloop.world import active

_real = real(__name__)
_real_usage = real(__name__, resource)
# In KiB (getrusage(2)): that of an interpreter with a few libraries.
_MAX_RSS = 32_768


def times() -> os.times_result:
    world = active.world()
    if world is None:
        return _real["times"]()  # type: ignore[no-any-return]
    cpu = process_cpu_ns(world) / SECOND
    # What it has computed is user time, and that of its children is not kept.
    return os.times_result((cpu, 0.0, 0.0, 0.0, world.scheduler.clock.now / SECOND))


def getrusage(who: int, /) -> Any:
    world = active.world()
    if world is None or who not in (resource.RUSAGE_SELF, resource.RUSAGE_THREAD, resource.RUSAGE_CHILDREN):
        return _real_usage["getrusage"](who)
    if who == resource.RUSAGE_CHILDREN:
        return resource.struct_rusage((0.0,) * 2 + (0,) * 14)
    cpu = (process_cpu_ns(world) if who == resource.RUSAGE_SELF else thread_cpu_ns(world)) / SECOND
    return resource.struct_rusage((cpu, 0.0, _MAX_RSS, *(0,) * 13))


REPLACEMENTS: list[tuple[object, str, object]] = [
    (os, "times", builtin(times)),
    (resource, "getrusage", builtin(getrusage)),
]
