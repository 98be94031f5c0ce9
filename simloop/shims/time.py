"""Shims of `time` and `datetime`, which read the virtual clock."""

from __future__ import annotations

import datetime as _datetime
import sys
import time as _time
import warnings
from _thread import get_ident
from functools import partial
from typing import TYPE_CHECKING, Any

from simloop.kernel.clock import READ_NS, SECOND, STEP_CPU_NS
from simloop.shims import clock_tools, static_types
from simloop.shims.clock_tools import travelling
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

# freezegun may have put a class of its own into the module.
_real_datetime: Any = next(cls for cls in _datetime.datetime.__mro__ if static_types.is_immutable(cls))
_UTCNOW_DEPRECATED = (
    "datetime.datetime.utcnow() is deprecated and scheduled for removal in a future version. Use timezone-aware "
    "objects to represent datetimes in UTC: datetime.datetime.now(datetime.UTC)."
)

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
    return _real_time() if world is None or travelling() else world.current.host.wall.read() / SECOND


def time_ns() -> int:
    world = active.world()
    return _real_time_ns() if world is None or travelling() else world.current.host.wall.read()


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


def process_cpu_ns(world: World) -> int:
    """Return the processor time of the current process in nanoseconds. It grows with the callbacks that its event loop
    runs, and with each reading."""
    process = world.current
    world.scheduler.clock.read()
    process.looked_ns += READ_NS
    return process.steps * STEP_CPU_NS + process.looked_ns


def thread_cpu_ns(world: World) -> int:
    """Return the processor time of the calling thread in nanoseconds; for the main thread, that of its process."""
    thread = world.threads[get_ident()]
    if thread is None:
        return process_cpu_ns(world)
    world.scheduler.clock.read()
    thread.looked_ns += READ_NS
    return thread.looked_ns


def process_time() -> float:
    world = active.world()
    return _real_process_time() if world is None else process_cpu_ns(world) / SECOND


def process_time_ns() -> int:
    world = active.world()
    return _real_process_time_ns() if world is None else process_cpu_ns(world)


def thread_time() -> float:
    world = active.world()
    return _real_thread_time() if world is None else thread_cpu_ns(world) / SECOND


def thread_time_ns() -> int:
    world = active.world()
    return _real_thread_time_ns() if world is None else thread_cpu_ns(world)


def clock_gettime_ns(clock: int, /) -> int:
    world = active.world()
    if world is None or (clock == _time.CLOCK_REALTIME and travelling()):
        return _real_clock_gettime_ns(clock)
    if clock == _time.CLOCK_PROCESS_CPUTIME_ID:
        return process_cpu_ns(world)
    if clock == _time.CLOCK_THREAD_CPUTIME_ID:
        return thread_cpu_ns(world)
    is_wall = clock in (_time.CLOCK_REALTIME, getattr(_time, "CLOCK_TAI", None))
    return world.current.host.wall.read() if is_wall else world.scheduler.clock.read()


def clock_gettime(clock: int, /) -> float:
    return _real_clock_gettime(clock) if active.world() is None else clock_gettime_ns(clock) / SECOND


def localtime(seconds: float | None = None, /) -> _time.struct_time:
    return _real_localtime(time() if seconds is None else seconds)


def gmtime(seconds: float | None = None, /) -> _time.struct_time:
    return _real_gmtime(time() if seconds is None else seconds)


# These two are not among what time-machine changes.
def ctime(seconds: float | None = None, /) -> str:
    world = active.world()
    if seconds is None and world is not None:
        seconds = world.current.host.wall.read() / SECOND
    return _real_ctime(seconds)


def asctime(*moment: Any) -> str:
    world = active.world()
    if not moment and world is not None:
        moment = (_real_localtime(world.current.host.wall.read() / SECOND),)
    return _real_asctime(*moment)


def strftime(format: str, moment: Any = None, /) -> str:
    return _real_strftime(format, localtime() if moment is None else moment)


def sleep(seconds: float, /) -> None:
    """Block the calling process or thread for so many virtual seconds, while all others run."""
    world = active.world()
    if world is None:
        _real_sleep(seconds)
        return
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    world.block(lambda: False, seconds)


# Called with the class first, as `cls.now(tz)` would be: a subclass may have a method of that name of its own.
_real_now: Any = vars(_real_datetime)["now"]
_real_fromtimestamp: Any = vars(_real_datetime)["fromtimestamp"]


def now(cls: Any, tz: _datetime.tzinfo | None = None) -> Any:
    world = active.world()
    if world is None or travelling():
        return _real_now(cls, tz)
    # Down to the microsecond, as the original does it. A float holds that exactly until 2242.
    return _real_fromtimestamp(cls, world.current.host.wall.read() // 1_000 / 1_000_000, tz)


def exact_datetime(time_ns: int) -> _datetime.datetime:
    """Return the datetime, in UTC, for `time_ns` nanoseconds since 1970."""
    moment: _datetime.datetime = _real_fromtimestamp(_real_datetime, time_ns // 1_000 / 1_000_000, _datetime.UTC)
    return moment


def utcnow(cls: Any) -> Any:
    if sys.version_info >= (3, 12):
        # The original would find our line to blame.
        warnings.warn(_UTCNOW_DEPRECATED, DeprecationWarning, stacklevel=2)
    moment = now(_real_datetime, _datetime.UTC).replace(tzinfo=None)
    if cls is _real_datetime:
        return moment
    return cls(
        moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond, None
    )  # fmt: skip


def _classmethod(shim: Any, real: Any) -> Any:
    """Return a shim as a class method that has the name and docstring of the original."""
    shim.__qualname__, shim.__doc__ = real.__qualname__, real.__doc__
    return classmethod(shim)


_OF_TIME = {
    function.__name__: function
    for function in (
        time, time_ns, monotonic, monotonic_ns, perf_counter, perf_counter_ns, process_time, process_time_ns,
        thread_time, thread_time_ns, clock_gettime, clock_gettime_ns, localtime, gmtime, ctime, asctime, strftime,
        sleep,
    )
}  # fmt: skip
_OF_DATETIME = {"now": partial(now, _real_datetime), "utcnow": partial(utcnow, _real_datetime)}

REPLACEMENTS: list[tuple[object, str, object]] = [
    *((_time, name, function) for name, function in _OF_TIME.items()),
    # `today()` asks `time.time`.
    (_real_datetime, "now", _classmethod(now, _real_now)),
    (_real_datetime, "utcnow", _classmethod(utcnow, vars(_real_datetime)["utcnow"])),
]
#: Replacements of the functions by which time-machine reads the real clock.
UNDER_TIME_MACHINE = clock_tools.originals({**_OF_TIME, **_OF_DATETIME})
