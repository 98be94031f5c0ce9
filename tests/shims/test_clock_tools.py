"""freezegun and time-machine, where they and worlds meet in another way than docs/how-to/frozen-clocks.md shows."""

from __future__ import annotations

import asyncio
import datetime
import subprocess
import sys
import textwrap
import time
import types
from collections.abc import Iterator
from typing import Any

import freezegun.api
import pytest
import time_machine
from freezegun import freeze_time

import simloop
from simloop.simulation import install as installation

THEN = datetime.datetime(2001, 2, 3)
SECONDS = 981158400


@pytest.fixture
def uninstalled() -> Iterator[None]:
    installation.uninstall()
    yield
    assert not freezegun.api.freeze_factories
    assert not time_machine.traveller_stack
    assert type(datetime.datetime.now) is types.BuiltinFunctionType


def since(then: datetime.datetime = THEN) -> float:
    return (datetime.datetime.now() - then).total_seconds()


async def hour() -> tuple[float, float]:
    began = since()
    await asyncio.sleep(3600)
    return began, since()


@pytest.mark.usefixtures("uninstalled")
def test_what_froze_the_clock_before_the_world_keeps_it() -> None:
    frozen_time = freezegun.api.fake_time
    with freeze_time("2001-02-03"):
        for _ in range(2):
            with simloop.world() as sim:
                assert asyncio.run(hour()) == (0, 0)
                assert sim.elapsed >= 3600
            assert time.time is frozen_time
            assert (time.time(), since()) == (SECONDS, 0)
    assert since() > SECONDS / 2


@pytest.mark.usefixtures("uninstalled")
def test_shims_that_come_while_the_clock_is_frozen_stay_when_it_thaws() -> None:
    with freeze_time("2001-02-03"):
        assert simloop.run(hour) == (0, 0)
    assert simloop.run(hour)[1] > SECONDS / 2
    with simloop.world():
        assert time.time() < 1_767_225_601
    installation.uninstall()


@pytest.mark.parametrize("travel", [freeze_time, time_machine.travel], ids=["freezegun", "time-machine"])
def test_a_clock_that_ticks_outside_begins_anew_in_each_run(travel: Any) -> None:
    with travel("2001-02-03T00:00Z", tick=True):
        assert 0 <= since() < 60
        runs = [simloop.run(hour) for _ in range(2)]
        assert runs[0] == runs[1]
        assert runs[0] == pytest.approx((0, 3600), abs=0.01)
        assert 0 <= since() < 60


def lines_of(program: str) -> list[str]:
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines()


@pytest.mark.parametrize("first_run", ["frozen", "thawed"])
def test_references_by_name_are_frozen_as_ever(first_run: str) -> None:
    program = f"""
        import asyncio, contextlib, simloop
        from time import monotonic
        from freezegun import freeze_time

        async def look():
            print(monotonic() < 1001)
            with freeze_time("2001-02-03"):
                print(monotonic())

        with freeze_time("2001-02-03") if {first_run == "frozen"} else contextlib.nullcontext():
            simloop.run(lambda: asyncio.sleep(1))
        simloop.run(look)
        with freeze_time("2001-02-03"):
            print(monotonic())
        print(monotonic() > {SECONDS - 1})
    """
    assert lines_of(program) == ["True", f"{SECONDS}.0", f"{SECONDS}.0", "False"]


def test_time_machine_changes_what_it_changes_on_a_real_clock() -> None:
    """Neither `ctime` nor clocks that count from some start."""

    async def main() -> None:
        with time_machine.travel("2001-02-03T00:00Z", tick=False):
            before = time.monotonic(), time.perf_counter(), time.clock_gettime(time.CLOCK_MONOTONIC)
            await asyncio.sleep(5)
            assert time.monotonic() - before[0] == pytest.approx(5, abs=0.01)
            assert time.perf_counter() - before[1] == pytest.approx(5, abs=0.01)
            assert time.clock_gettime(time.CLOCK_MONOTONIC) - before[2] == pytest.approx(5, abs=0.01)
            assert time.ctime().endswith("2026")
            assert time.asctime().endswith("2026")
            assert time.time() == time.clock_gettime(time.CLOCK_REALTIME) == time.time_ns() / 1e9 == SECONDS
            assert time.gmtime().tm_year == time.localtime().tm_year == int(time.strftime("%Y")) == 2001
            assert datetime.date.today() == datetime.datetime.today().date() == THEN.date()

    simloop.run(main)


def test_what_time_machine_takes_for_the_real_clock_is_the_virtual_one() -> None:
    async def main() -> list[float]:
        with time_machine.travel("2001-02-03T00:00Z"):
            await asyncio.sleep(5)
            real = time_machine.escape_hatch
            assert real.is_travelling()
            assert real.datetime.datetime.now().year == real.datetime.date.today().year == 2026
            assert real.time.gmtime().tm_year == real.time.localtime().tm_year == int(real.time.strftime("%Y")) == 2026
            return [real.time.time(), real.time.time_ns(), real.time.clock_gettime(time.CLOCK_REALTIME)]

    first = simloop.run(main)
    assert first == simloop.run(main)
    assert 1_767_225_605 < first[0] < first[2] < 1_767_225_606


def test_time_machine_may_be_imported_while_shims_are_in_place() -> None:
    """It would write into what it takes for C functions."""
    program = """
        import asyncio, datetime, simloop, time

        simloop.run(lambda: asyncio.sleep(1))
        assert type(time.time).__name__ == "function"
        import time_machine

        for _ in range(2):
            with time_machine.travel("2001-02-03T00:00Z", tick=False):
                print(datetime.datetime.now(), time.time())
    """
    assert lines_of(program) == ["2001-02-03 00:00:00 981158400.0"] * 2
