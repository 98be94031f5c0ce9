"""The clock of a world, in all the ways to look at it; and that looking at it is all that differs in `datetime`."""

from __future__ import annotations

import abc
import asyncio
import copy
import datetime
import os
import pickle
import re
import resource
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simloop
from simloop.kernel.clock import BOOT_NS, SECOND, WALL_NS
from simloop.shims import static_types
from simloop.simulation import install as installation
from simloop.world import active

UTC = datetime.UTC
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
DOCS = Path(__file__).parents[2] / "docs"


def clock() -> Any:
    world = active.world()
    assert world is not None
    return world.scheduler.clock


def of_struct(moment: time.struct_time) -> float:
    return (datetime.datetime(*moment[:6], tzinfo=UTC) - EPOCH).total_seconds()


def of_text(text: str) -> float:
    return of_struct(time.strptime(text))


#: Ways to look at the wall clock, as seconds since 1970, with how exact they are; the tests' time zone is UTC.
WALL: dict[str, tuple[Callable[[], float], float]] = {
    "time.time": (lambda: time.time(), 1e-6),
    "time.time_ns": (lambda: time.time_ns() / SECOND, 1e-6),
    "time.clock_gettime": (lambda: time.clock_gettime(time.CLOCK_REALTIME), 1e-6),
    "time.clock_gettime_ns": (lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) / SECOND, 1e-6),
    "time.localtime": (lambda: of_struct(time.localtime()), 1),
    "time.gmtime": (lambda: of_struct(time.gmtime()), 1),
    "time.ctime": (lambda: of_text(time.ctime()), 1),
    "time.asctime": (lambda: of_text(time.asctime()), 1),
    "time.strftime": (lambda: of_text(time.strftime("%c")), 1),
    "datetime.datetime.now": (lambda: datetime.datetime.now(UTC).timestamp(), 1e-6),
    "datetime.datetime.now (naive)": (lambda: datetime.datetime.now().timestamp(), 1e-6),
    "datetime.datetime.utcnow": (lambda: datetime.datetime.utcnow().timestamp(), 1e-6),
    "datetime.datetime.today": (lambda: datetime.datetime.today().timestamp(), 1e-6),
    "datetime.date.today": (lambda: (datetime.date.today() - EPOCH.date()).total_seconds(), 86400),
}
#: Ways to look at the time since boot, in seconds.
UPTIME: dict[str, Callable[[], float]] = {
    **{
        f"time.{name}{unit}": lambda name=f"{name}{unit}", scale=scale: getattr(time, name)() / scale  # type: ignore[misc]
        for name in ("monotonic", "perf_counter")
        for unit, scale in (("", 1), ("_ns", SECOND))
    },
    "time.clock_gettime (monotonic)": lambda: time.clock_gettime(time.CLOCK_MONOTONIC),
}


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_every_clock_of_the_reference_is_tried() -> None:
    row = next(line for line in (DOCS / "reference/simulated.md").read_text().splitlines() if "| clocks |" in line)
    assert set(re.findall(r"`([^`]+)`", row.split("|")[2])) - {"time.sleep"} <= {*WALL, *UPTIME}


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow")
@settings(deadline=None)
@given(st.integers(0, 200 * 366 * 86400 * SECOND))
def test_every_clock_is_the_virtual_one(elapsed: int) -> None:
    with simloop.world():
        clock().now = BOOT_NS + elapsed
        for name, (look, exact) in WALL.items():
            seen, real = look(), (clock().now - BOOT_NS + WALL_NS) / SECOND
            assert -exact - 1e-6 <= seen - real <= 1e-6, name
        for name, look in UPTIME.items():
            assert look() == pytest.approx(clock().now / SECOND, rel=1e-15), name


@settings(deadline=None)
@given(st.integers(0, 200 * 366 * 86400 * SECOND))
def test_now_is_exact_to_the_microsecond_and_never_ahead(elapsed: int) -> None:
    with simloop.world():
        clock().now = BOOT_NS + elapsed
        now = datetime.datetime.now(UTC)
        assert now - EPOCH == datetime.timedelta(microseconds=(clock().now - BOOT_NS + WALL_NS) // 1000)


def test_the_classes_stay_the_same_objects() -> None:
    classes = datetime.datetime, datetime.date, time.struct_time
    with simloop.world():
        assert (datetime.datetime, datetime.date, time.struct_time) == classes
        # What C code makes of its own accord.
        assert type(datetime.datetime.now()) is type(EPOCH + datetime.timedelta(1)) is datetime.datetime
        assert type(EPOCH.date()) is type(datetime.date.today()) is datetime.date
        assert type(time.localtime()) is time.struct_time
    assert (datetime.datetime, datetime.date, time.struct_time) == classes
    assert [type(each) for each in classes] == [type] * 3


class Meta(abc.ABCMeta):
    pass


class Stamp(datetime.datetime, metaclass=Meta):
    """As pandas and pendulum have it: a metaclass, a constructor and a `fromtimestamp` of their own."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls, *args, **kwargs)
        made.extra = True
        return made

    @classmethod
    def fromtimestamp(cls, *args: Any) -> Any:
        raise AssertionError("the real now() does not call it")

    extra: bool


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow")
def test_subclasses_get_instances_of_their_own() -> None:
    with simloop.world():

        class Later(datetime.datetime, metaclass=Meta):  # a metaclass conflict, if datetime had one
            pass

        class Day(datetime.date, metaclass=Meta):
            pass

        for made in (Stamp.now(), Stamp.now(UTC), Stamp.now(tz=ZoneInfo("Asia/Tokyo")), Stamp.utcnow()):
            assert type(made) is Stamp
            assert made.extra
            assert (made.year, made.month, made.day) == (2026, 1, 1)
        assert (Stamp.now(UTC).tzinfo, Stamp.now().tzinfo, Stamp.utcnow().tzinfo) == (UTC, None, None)
        assert [type(Later.now()), type(Later.today()), type(Day.today())] == [Later, Later, Day]
        assert not isinstance(EPOCH, Stamp)
        assert isinstance(Stamp.now(), datetime.datetime)


def test_fold_tells_the_second_of_two_equal_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    first = datetime.datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 2:30 for the first time
    with simloop.world():
        for hour in (0, 1):
            moment = int(first.timestamp()) + hour * 3600
            clock().now = moment * SECOND - WALL_NS + BOOT_NS
            for now in (datetime.datetime.now(), datetime.datetime.now(berlin), Stamp.now(berlin)):
                assert (now.hour, now.minute, now.fold) == (2, 30, hour)
            # CPython loses it for subclasses before 3.13.
            assert Stamp.now().fold == (hour if sys.version_info >= (3, 13) else 0)


def message(call: Callable[[], object]) -> str:
    with pytest.raises(TypeError) as caught:
        call()
    return str(caught.value)


def test_wrong_arguments_are_refused_as_they_are_outside() -> None:
    def wrong() -> str:
        return message(lambda: datetime.datetime.now(5))  # type: ignore[arg-type]

    installation.uninstall()
    outside = wrong()
    with simloop.world():
        assert wrong() == outside
        message(lambda: datetime.datetime.now(UTC, UTC))  # type: ignore[call-arg]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="not deprecated yet")
def test_the_deprecation_of_utcnow_names_the_line_that_calls_it() -> None:
    def warned() -> list[tuple[str, str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            datetime.datetime.utcnow()
        return [(each.filename, str(each.message)) for each in caught]

    installation.uninstall()
    expected = warned()
    assert expected[0][0] == __file__
    installation.install()
    assert warned() == expected
    with simloop.world():
        assert warned() == expected


def test_pickles_and_copies_know_nothing_of_worlds() -> None:
    def pickles() -> list[bytes]:
        things = (EPOCH, EPOCH.date(), datetime.datetime, Stamp(2020, 1, 1), datetime.datetime.now)
        return [pickle.dumps(thing) for thing in things]

    installation.uninstall()
    outside = pickles()
    with simloop.world():
        assert pickles() == outside
        look = pickle.loads(outside[-1])
        assert look().year == copy.copy(look)().year == copy.deepcopy(look)().year == 2026
        now = copy.deepcopy(datetime.datetime.now())
        sent = pickle.dumps(now)
    assert pickle.loads(sent) == now


def test_uninstalling_gives_the_functions_of_c_back() -> None:
    installation.uninstall()
    before = dict(vars(datetime.datetime)), dict(vars(datetime.date))
    assert type(datetime.datetime.now) is type(datetime.datetime.utcnow) is types.BuiltinFunctionType
    with simloop.world():
        assert type(datetime.datetime.now) is types.MethodType
        assert type(Stamp.now) is types.MethodType
    assert (dict(vars(datetime.datetime)), dict(vars(datetime.date))) == before
    assert type(datetime.datetime.now) is type(Stamp.now) is types.BuiltinFunctionType
    assert abs(datetime.datetime.now().timestamp() - time.time()) < 5


def test_a_thread_that_is_not_of_the_world_sees_the_real_clock() -> None:
    seen: list[Stamp] = []
    go, gone = threading.Lock(), threading.Lock()

    def look() -> None:
        go.acquire()
        try:
            seen.append(Stamp.now())
        finally:
            gone.release()

    go.acquire()
    gone.acquire()
    outside = threading.Thread(target=look)
    outside.start()
    with simloop.world():
        go.release()
        gone.acquire()
        assert Stamp.now() < datetime.datetime(2026, 1, 1, 0, 1)
    outside.join()
    assert abs(seen[0] - datetime.datetime.now()) < datetime.timedelta(seconds=60)
    assert type(seen[0]) is Stamp


def test_what_is_put_into_an_immutable_type_is_seen_by_code_that_has_run_before() -> None:
    """Callers and types remember what they looked up; and `setattr` would still be refused."""

    class Sub(datetime.time):
        pass

    def calls() -> list[str]:
        return [kind.fromisoformat("01:02").isoformat() for kind in (datetime.time, Sub) for _ in range(100)]

    name, real = "fromisoformat", vars(datetime.time)["fromisoformat"]
    assert static_types.is_immutable(datetime.time)
    assert not static_types.is_immutable(Sub)
    with pytest.raises(TypeError):
        setattr(datetime.time, name, real)
    before = calls()
    static_types.put(datetime.time, name, classmethod(lambda cls, text: cls(3)))
    try:
        assert set(calls()) == {"03:00:00"}
    finally:
        static_types.put(datetime.time, name, real)
    assert calls() == before


def test_processor_time_grows_with_steps_and_not_while_nothing_runs() -> None:
    async def main() -> None:
        before = time.process_time(), time.thread_time(), os.times(), resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(1000)
        after = time.process_time(), time.thread_time(), os.times(), resource.getrusage(resource.RUSAGE_SELF)
        assert 0 < after[0] - before[0] < 0.01
        assert 0 < after[1] - before[1] < 0.01
        assert 0 < after[2].user - before[2].user < 0.01
        assert 1000 <= after[2].elapsed - before[2].elapsed < 1001
        assert 0 < after[3].ru_utime - before[3].ru_utime < 0.01
        for _ in range(1000):
            await asyncio.sleep(0)
        assert time.process_time() - after[0] > 0.01
        assert time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) > time.process_time() - 0.01
        assert await asyncio.to_thread(time.thread_time) < 0.001

    simloop.run(main)


def test_a_loop_until_so_much_was_computed_ends() -> None:
    async def main() -> None:
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass

    simloop.run(main)
