"""Wall clocks of hosts: set, stepped, drifting; what measures durations never notices."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import simloop

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


def sim() -> simloop.Sim:
    return simloop.current()


async def _started() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (None, datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-10-25", datetime(2026, 10, 25, tzinfo=UTC)),
        ("2026-10-25T00:30", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("2026-10-25T00:30+02:00", datetime(2026, 10, 24, 22, 30, tzinfo=UTC)),
        (date(1999, 12, 31), datetime(1999, 12, 31, tzinfo=UTC)),
        (datetime(2026, 10, 25, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 10, 25, tzinfo=UTC)),
        ("1970-01-01", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_run_starts_when_it_is_told(start: Any, expected: datetime) -> None:
    options = {} if start is None else {"start": start}
    assert simloop.run(_started, **options) == expected


def test_a_run_may_start_now() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert before <= simloop.run(_started, start="now") <= datetime.now(UTC)


@pytest.mark.parametrize("start", ["tomorrow", 2026, datetime(2026, 10, 25), "1969-12-31", "2026-13-01", ""])
def test_a_bad_start_is_one_line(start: Any) -> None:
    with pytest.raises(simloop.ConfigurationError, match="start must") as raised:
        simloop.run(_started, start=start)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, ValueError)


def test_all_that_reads_the_wall_clock_follows_it() -> None:
    async def main() -> None:
        before = time.monotonic(), asyncio.get_running_loop().time()
        sim().clock.set(NEW_YEAR)
        with open("/new", "w"):
            pass
        readings = [
            time.time(),
            time.time_ns() / 1e9,
            time.clock_gettime(time.CLOCK_REALTIME),
            os.stat("/new").st_mtime,
        ]
        readings += [datetime.now(UTC).timestamp(), time.mktime(time.localtime()), sim().clock.now.timestamp()]
        assert all(0 <= reading + 1 - NEW_YEAR.timestamp() < 2 for reading in readings), readings
        assert time.monotonic() - before[0] < 1
        assert asyncio.get_running_loop().time() - before[1] < 1

    simloop.run(main)


def test_each_host_has_its_own() -> None:
    async def look() -> float:
        return time.time()

    async def main() -> None:
        sim().host("late").clock.step(-60)
        here, there = time.time(), await sim().host("late").run(look)
        assert round(there - here) == -60

    simloop.run(main)


def test_a_drifting_clock() -> None:
    async def main() -> None:
        clock = sim().clock
        clock.drift(500)
        before = time.time()
        await asyncio.sleep(10_000)
        assert time.time() - before - 10_000 == pytest.approx(5, abs=0.006)
        clock.drift(-1000)
        before = time.time()
        await asyncio.sleep(10_000)
        assert time.time() - before - 10_000 == pytest.approx(-10, abs=0.006)

    simloop.run(main)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda clock: clock.set(datetime(2026, 1, 1)),
        lambda clock: clock.set(datetime(1969, 1, 1, tzinfo=UTC)),
        lambda clock: clock.set("2026-01-01"),
        lambda clock: clock.step(-3e9),
        lambda clock: clock.step(float("nan")),
        lambda clock: clock.step("1"),
        lambda clock: clock.drift(-1e6),
        lambda clock: clock.drift(float("nan")),
        lambda clock: clock.may_step(up_to=3e9),
    ],
)
def test_bad_input_is_one_line(wrong: Callable[[Any], None]) -> None:
    async def main() -> None:
        wrong(sim().clock)

    with pytest.raises(simloop.ConfigurationError) as raised:
        simloop.run(main)
    assert "\n" not in str(raised.value)


def test_a_retry_delay_of_the_wall_clock_is_found() -> None:
    def retry(now: Callable[[], float]) -> Callable[[], Any]:
        async def main() -> None:
            sim().clock.may_step(up_to=3600)
            again = now() + 5
            while (left := again - now()) > 0:
                assert left <= 5
                await asyncio.sleep(1)

        return main

    wrong, mended = simloop.explore(retry(time.time), runs=100), simloop.explore(retry(time.monotonic), runs=100)
    assert wrong.failure is not None
    assert "the wall clock of localhost was set 3600 s back before it was read in" in " ".join(
        wrong.failure.explanation.sentences
    )
    assert mended.failure is None


def test_the_environment_steps_a_clock_once() -> None:
    async def main() -> None:
        sim().clock.may_step(up_to=60)
        readings = [time.time() for _ in range(10)]
        steps = [round(after - before) for before, after in itertools.pairwise(readings)]
        assert sum(step != 0 for step in steps) <= 1
        assert set(steps) <= {0, 60, -60}

    assert simloop.explore(main, runs=100).failure is None


def test_a_job_is_lost_in_the_night_in_which_its_hour_is_left_out() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    async def main() -> None:
        night = datetime.now(berlin).date() + timedelta(days=1)
        ran = False
        while (now := datetime.now(berlin)).date() <= night:
            ran = ran or (now.date() == night and (now.hour, now.minute) == (2, 30))
            await asyncio.sleep(30)
        assert ran

    with pytest.raises(AssertionError):
        simloop.run(main, start="2026-03-28T12:00", max_time=200_000)
    simloop.run(main, start="2026-03-29T12:00", max_time=200_000)
