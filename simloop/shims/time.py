"""Shims of `time` and `datetime` on the virtual clock."""

from __future__ import annotations

import datetime as _datetime
import time as _time
from typing import Any

from simloop.kernel.clock import SECOND
from simloop.world import active

real_datetime = _datetime.datetime
real_date = _datetime.date
_real_time = _time.time
_real_time_ns = _time.time_ns
_real_monotonic = _time.monotonic
_real_monotonic_ns = _time.monotonic_ns
_real_perf_counter = _time.perf_counter
_real_perf_counter_ns = _time.perf_counter_ns
_real_process_time = _time.process_time
_real_process_time_ns = _time.process_time_ns
_real_thread_time = _time.thread_time
_real_thread_time_ns = _time.thread_time_ns
_real_clock_gettime = _time.clock_gettime
_real_clock_gettime_ns = _time.clock_gettime_ns
_real_localtime = _time.localtime
_real_gmtime = _time.gmtime
_real_ctime = _time.ctime
_real_strftime = _time.strftime
_real_asctime = _time.asctime
_real_sleep = _time.sleep


def time() -> float:
    world = active.world()
    return _real_time() if world is None else world.scheduler.clock.wall() / SECOND


def time_ns() -> int:
    world = active.world()
    return _real_time_ns() if world is None else world.scheduler.clock.wall()


def monotonic() -> float:
    world = active.world()
    return _real_monotonic() if world is None else world.scheduler.clock.read() / SECOND


def monotonic_ns() -> int:
    world = active.world()
    return _real_monotonic_ns() if world is None else world.scheduler.clock.read()


def perf_counter() -> float:
    world = active.world()
    return _real_perf_counter() if world is None else world.scheduler.clock.read() / SECOND


def perf_counter_ns() -> int:
    world = active.world()
    return _real_perf_counter_ns() if world is None else world.scheduler.clock.read()


def process_time() -> float:
    world = active.world()
    return _real_process_time() if world is None else world.scheduler.clock.read() / SECOND


def process_time_ns() -> int:
    world = active.world()
    return _real_process_time_ns() if world is None else world.scheduler.clock.read()


def thread_time() -> float:
    world = active.world()
    return _real_thread_time() if world is None else world.scheduler.clock.read() / SECOND


def thread_time_ns() -> int:
    world = active.world()
    return _real_thread_time_ns() if world is None else world.scheduler.clock.read()


def clock_gettime_ns(clock: int, /) -> int:
    world = active.world()
    if world is None:
        return _real_clock_gettime_ns(clock)
    is_wall = clock in (_time.CLOCK_REALTIME, getattr(_time, "CLOCK_TAI", None))
    return world.scheduler.clock.wall() if is_wall else world.scheduler.clock.read()


def clock_gettime(clock: int, /) -> float:
    return _real_clock_gettime(clock) if active.world() is None else clock_gettime_ns(clock) / SECOND


def localtime(seconds: float | None = None, /) -> _time.struct_time:
    return _real_localtime(time() if seconds is None else seconds)


def gmtime(seconds: float | None = None, /) -> _time.struct_time:
    return _real_gmtime(time() if seconds is None else seconds)


def ctime(seconds: float | None = None, /) -> str:
    return _real_ctime(time() if seconds is None else seconds)


def asctime(moment: Any = None, /) -> str:
    return _real_asctime(localtime() if moment is None else moment)


def strftime(format: str, moment: Any = None, /) -> str:
    return _real_strftime(format, localtime() if moment is None else moment)


def sleep(seconds: float, /) -> None:
    """Block the calling process or thread in virtual time; everybody else goes on."""
    world = active.world()
    if world is None:
        _real_sleep(seconds)
        return
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    world.block(lambda: False, seconds)


class _RealInstances(type):
    """Metaclass that makes the shim class stand for the real one in ``isinstance`` and ``issubclass``: what `now()`
    returns, and what C code makes, are plain `datetime` objects."""

    def __instancecheck__(cls, instance: Any) -> bool:
        if cls.__module__ != __name__:
            return type.__instancecheck__(cls, instance)
        return isinstance(instance, cls.__mro__[1])

    def __subclasscheck__(cls, subclass: type) -> bool:
        if cls.__module__ != __name__:
            return type.__subclasscheck__(cls, subclass)
        return issubclass(subclass, cls.__mro__[1])


class datetime(real_datetime, metaclass=_RealInstances):
    """Stand-in for `datetime.datetime` whose clock is the world's; its instances are real ones."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return real_datetime.__new__(real_datetime if cls is datetime else cls, *args, **kwargs)

    @classmethod
    def now(cls, tz: _datetime.tzinfo | None = None) -> Any:
        # fromtimestamp() of 2026 is exact to the microsecond, which is all that a datetime holds.
        return (real_datetime if cls is datetime else cls).fromtimestamp(time(), tz)

    @classmethod
    def today(cls) -> Any:
        return cls.now()

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(_datetime.timezone.utc).replace(tzinfo=None)


class date(real_date, metaclass=_RealInstances):
    """Stand-in for `datetime.date` whose clock is the world's; its instances are real ones."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return real_date.__new__(real_date if cls is date else cls, *args, **kwargs)

    @classmethod
    def today(cls) -> Any:
        return (real_date if cls is date else cls).fromtimestamp(time())


REPLACEMENTS: list[tuple[object, str, object]] = [
    *(
        (_time, function.__name__, function)
        for function in (
            time, time_ns, monotonic, monotonic_ns, perf_counter, perf_counter_ns, process_time, process_time_ns,
            thread_time, thread_time_ns, clock_gettime, clock_gettime_ns, localtime, gmtime, ctime, asctime,
            strftime, sleep,
        )
    ),
    (_datetime, "datetime", datetime),
    (_datetime, "date", date),
]  # fmt: skip
