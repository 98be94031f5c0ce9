"""Shims of `os.eventfd` and `os.timerfd_create`, and of the functions that read and set the descriptors that they
return."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

from simloop.kernel.clock import SECOND
from simloop.kernel.errors import fail
from simloop.kernel.ipc.counters import EventFd, TimerFd
from simloop.shims.late import real
from simloop.shims.patch import builtin
from simloop.shims.waiting import wait_for
from simloop.world import active

if TYPE_CHECKING:
    from simloop.kernel.wall import WallClock
    from simloop.world.world import World

_real = real(__name__)

T = TypeVar("T")


def _counter(world: World, fd: Any, kind: type[T]) -> T:
    counter = world.current.files.get(fd)
    if counter is None:
        raise fail(errno.EBADF)
    if not isinstance(counter, kind):
        raise fail(errno.EINVAL)
    return counter


def eventfd(initval: int, flags: int = os.EFD_CLOEXEC) -> int:
    world = active.world()
    if world is None or not isinstance(initval, int) or not 0 <= initval < 1 << 32:
        return _real["eventfd"](initval, flags)  # type: ignore[no-any-return]
    if flags & ~(os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE):
        raise fail(errno.EINVAL)
    semaphore, nonblocking = bool(flags & os.EFD_SEMAPHORE), bool(flags & os.EFD_NONBLOCK)
    fd = world.current.open(EventFd(initval, semaphore=semaphore, nonblocking=nonblocking))
    if not flags & os.EFD_CLOEXEC:
        world.current.inheritable.add(fd)
    return fd


def eventfd_read(fd: int) -> int:
    world = active.world()
    if world is None or fd not in world.current.files:
        return _real["eventfd_read"](fd)  # type: ignore[no-any-return]
    counter = _counter(world, fd, EventFd)
    return wait_for(world, counter, counter.take)


def eventfd_write(fd: int, value: int) -> None:
    world = active.world()
    if world is None or fd not in world.current.files:
        return _real["eventfd_write"](fd, value)  # type: ignore[no-any-return]
    counter = _counter(world, fd, EventFd)
    wait_for(world, counter, lambda: counter.add(value))
    return None


_CLOCKS = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)


class _Timer(TimerFd):
    """Simulated timerfd with the clock that it was made for."""

    #: Wall clock of its host, for CLOCK_REALTIME; None for a clock that counts from boot.
    wall: WallClock | None = None


def timerfd_create(clockid: int, /, *, flags: int = os.EFD_CLOEXEC) -> int:
    world = active.world()
    if world is None:
        return _real["timerfd_create"](clockid, flags=flags)  # type: ignore[no-any-return]
    if clockid not in _CLOCKS or flags & ~(os.EFD_CLOEXEC | os.EFD_NONBLOCK):  # as TFD_CLOEXEC and TFD_NONBLOCK
        raise fail(errno.EINVAL)
    timer = _Timer(world.scheduler, nonblocking=bool(flags & os.EFD_NONBLOCK))
    timer.wall = world.current.host.wall if clockid == time.CLOCK_REALTIME else None
    # Not inheritable, whatever the flags: os_timerfd_create_impl() in Modules/posixmodule.c sees to that.
    return world.current.open(timer)


def timerfd_settime_ns(fd: int, /, *, flags: int = 0, initial: int = 0, interval: int = 0) -> tuple[int, int]:
    world = active.world()
    if world is None or fd not in world.current.files:
        return _real["timerfd_settime_ns"](fd, flags=flags, initial=initial, interval=interval)  # type: ignore[no-any-return]
    timer = _counter(world, fd, _Timer)
    if initial < 0 or interval < 0:
        raise fail(errno.EINVAL)
    before = timer.remaining_ns()
    now = world.scheduler.clock.now
    # TFD_TIMER_ABSTIME is 1. Later steps of the clock are not followed, and TFD_TIMER_CANCEL_ON_SET cancels nothing.
    due = now + initial - (now if timer.wall is None else timer.wall.now) if flags & 1 else now + initial
    timer.set(due if initial else None, interval)
    return before


def timerfd_gettime_ns(fd: int, /) -> tuple[int, int]:
    world = active.world()
    if world is None or fd not in world.current.files:
        return _real["timerfd_gettime_ns"](fd)  # type: ignore[no-any-return]
    return _counter(world, fd, _Timer).remaining_ns()


def timerfd_settime(fd: int, /, *, flags: int = 0, initial: float = 0.0, interval: float = 0.0) -> tuple[float, float]:
    world = active.world()
    if world is None or fd not in world.current.files:
        return _real["timerfd_settime"](fd, flags=flags, initial=initial, interval=interval)  # type: ignore[no-any-return]
    left, every = timerfd_settime_ns(fd, flags=flags, initial=int(initial * 1e9), interval=int(interval * 1e9))
    return left / SECOND, every / SECOND


def timerfd_gettime(fd: int, /) -> tuple[float, float]:
    left, every = timerfd_gettime_ns(fd)
    return left / SECOND, every / SECOND


REPLACEMENTS: list[tuple[object, str, object]] = [(os, name, builtin(globals()[name])) for name in _real]
