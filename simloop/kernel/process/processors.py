"""The real processor that the threads of a world share.

Threads that take turns gain nothing from several processors, and lose by them: one that runs elsewhere is woken twice
for each turn, for its own lock and for the interpreter's. (A round trip took 18 us on one processor and 133 on two.)
"""

from __future__ import annotations

import functools
import posix  # whose functions stay the real ones
from collections.abc import Callable, Collection


def bind_to_processor() -> Collection[int]:
    """Bind the calling thread, and all that it starts from now on, to the processor that it runs on. Returns those that
    it could use before, for `unbind`; none if it cannot be bound, or was bound to one before."""
    try:
        before = posix.sched_getaffinity(0)
        if len(before) > 1:
            posix.sched_setaffinity(0, (_processor_finder()(),))
            return before
    except (AttributeError, OSError):  # this system or its C library has no such call, or a sandbox forbids it
        pass
    return ()


def unbind(processors: Collection[int]) -> None:
    """Let the calling thread use `processors`, which `bind_to_processor` has returned."""
    if processors:
        posix.sched_setaffinity(0, processors)


@functools.cache
def _processor_finder() -> Callable[[], int]:
    """Return sched_getcpu(3)."""
    import ctypes

    found: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
    return found
