"""Programs that are correct whatever the wall clock does: it is set, stepped, runs fast or slow, or leaves out an hour.

Each is tried on the real machine first, whose clock nobody sets meanwhile, and then explored with one that the
environment may set at any look, one that is set in the middle, and one that drifts.
"""

from __future__ import annotations

import asyncio
import collections
import heapq
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from corpus import Corpus, Program, check_real, check_simulated, name_of
from sizes import examples

import simloop

corpus = Corpus()
gives = corpus.gives


# --- durations ------------------------------------------------------------------------------------------


@gives("in time")
def a_deadline_is_kept_by_the_monotonic_clock() -> str:
    began = time.monotonic()
    end = began + 0.02
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.005))
        datetime.now()
    return "in time" if time.monotonic() - began >= 0.02 else "early"


@gives([3, True])
async def retries_wait_longer_each_time() -> list[Any]:
    waits: list[float] = []
    for attempt in itertools.count():
        began = time.monotonic()
        time.time()
        if attempt == 3:
            break
        await asyncio.sleep(0.002 * 2**attempt)
        waits.append(time.monotonic() - began)
    return [len(waits), all(wait >= 0.002 * 2**number for number, wait in enumerate(waits))]


class Cache:
    """A cache whose entries live for so many seconds of the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: dict[str, tuple[float, datetime]] = {}
        self.made = 0

    def get(self, key: str) -> datetime:
        found = self._entries.get(key)
        if found is None or time.monotonic() >= found[0]:
            self.made += 1
            found = self._entries[key] = time.monotonic() + self._seconds, datetime.now(UTC)
        return found[1]


@gives([1, 2])
def entries_of_a_cache_end_after_their_time() -> list[int]:
    forever, short = Cache(3600), Cache(0.002)
    for cache in (forever, short):
        first = cache.get("key")
        time.sleep(0.004)
        assert (cache.get("key") is first) == (cache is forever)
    return [forever.made, short.made]


class Bucket:
    """A token bucket, which is filled by the monotonic clock."""

    def __init__(self, per_second: float, size: int) -> None:
        self._per_second, self._size = per_second, size
        self._tokens, self._looked = float(size), time.monotonic()

    def take(self) -> float:
        """Take a token, and return for how many seconds to wait before another try if there is none."""
        now = time.monotonic()
        self._tokens = min(self._size, self._tokens + (now - self._looked) * self._per_second)
        self._looked = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0
        return (1 - self._tokens) / self._per_second


@gives([8, True])
def a_rate_is_limited() -> list[Any]:
    bucket, began, sent = Bucket(500, 3), time.monotonic(), 0
    stamps: list[float] = []
    while sent < 8:
        if wait := bucket.take():
            assert 0 < wait <= 0.0021
            time.sleep(wait)
        else:
            sent += 1
            stamps.append(time.time())
    return [len(stamps), time.monotonic() - began >= 5 / 500 - 1e-6]


@gives(["closed", "open", "closed"])
def a_circuit_breaker_opens_and_closes() -> list[str]:
    opened: float | None = None

    def state() -> str:
        return "open" if opened is not None and time.monotonic() - opened < 60 else "closed"

    seen = [state()]
    opened = time.monotonic()
    time.time()
    seen.append(state())
    opened -= 60
    return [*seen, state()]


@gives([True, True])
def a_stopwatch_never_runs_backwards() -> list[bool]:
    readings = []
    for _ in range(20):
        readings.append(time.perf_counter_ns())
        time.time_ns()
    return [readings == sorted(readings), time.monotonic_ns() > 0]


@gives("Empty")
def a_queue_waits_by_the_monotonic_clock() -> str:
    began = time.monotonic()
    try:
        queue.Queue[int]().get(timeout=0.01)
    except queue.Empty as error:
        time.time()
        return type(error).__name__ if time.monotonic() - began >= 0.01 else "early"
    return "found"


@gives([False, True])
def an_event_waits_by_the_monotonic_clock() -> list[bool]:
    event = threading.Event()
    time.time()
    found = [event.wait(0.005)]
    timer = threading.Timer(0.002, event.set)
    timer.start()
    time.time()
    found.append(event.wait(60))
    timer.join()
    return found


@gives(["TimeoutError", "TimeoutError"])
async def time_limits_of_asyncio_and_of_sockets() -> list[str]:
    found = []
    try:
        async with asyncio.timeout(0.005):
            time.time()
            await asyncio.sleep(60)
    except TimeoutError as error:
        found.append(type(error).__name__)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.005)
        try:
            listening.accept()
        except TimeoutError as error:
            found.append(type(error).__name__)
    return found


@gives([1, 2, 3])
async def timers_of_a_loop_fire_in_their_order() -> list[int]:
    loop, seen, done = asyncio.get_running_loop(), list[int](), asyncio.Event()
    now = loop.time()
    for number in (3, 1, 2):
        loop.call_at(now + number * 0.003, seen.append, number)
        time.time()
    loop.call_at(now + 0.02, done.set)
    await done.wait()
    return seen


@gives(["lost", "renewed"])
def a_lease_is_held_for_less_than_it_is_granted() -> list[str]:
    """Its holder counts from before it asked; the one who grants it counts from after that."""
    granted_until = 0.0

    def grant(seconds: float) -> None:
        nonlocal granted_until
        granted_until = time.monotonic() + seconds

    found = []
    for pause in (0.006, 0.0):
        asked = time.monotonic()
        grant(0.005 if pause else 60)
        time.time()
        time.sleep(pause)
        held = time.monotonic() < asked + (0.005 if pause else 60)
        assert not held or time.monotonic() < granted_until
        found.append("renewed" if held else "lost")
    return found


@gives([2, 0])
def a_session_ends_when_nobody_uses_it() -> list[int]:
    used = {"a": time.monotonic(), "b": time.monotonic()}

    def sweep(limit: float) -> int:
        now = time.monotonic()
        for name in [name for name, last in used.items() if now - last > limit]:
            del used[name]
        time.time()
        return len(used)

    return [sweep(3600), sweep(-1)]


@gives([5, True])
def a_sampler_keeps_its_pace() -> list[Any]:
    """Sample at multiples of an interval, whatever each sample takes."""
    began, taken = time.monotonic(), list[float]()
    for number in range(5):
        time.sleep(max(0, began + number * 0.002 - time.monotonic()))
        time.time()
        taken.append(time.monotonic() - began)
    return [len(taken), all(sample >= number * 0.002 for number, sample in enumerate(taken))]


@gives(["killed", True])
def a_watchdog_counts_from_the_last_sign_of_life() -> list[Any]:
    last, lock, dead = time.monotonic(), threading.Lock(), threading.Event()
    began = last

    def watch() -> None:
        while True:
            with lock:
                left = last + 0.01 - time.monotonic()
            if left <= 0:
                dead.set()
                return
            time.time()
            time.sleep(left)

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(3):
        with lock:
            last = time.monotonic()
        time.sleep(0.001)
    assert dead.wait(60)
    thread.join()
    return ["killed", time.monotonic() - began >= 0.01]


@gives(["alarm", True])
async def an_interval_timer_does_not_follow_the_wall_clock() -> list[Any]:
    seen: list[str] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append("alarm"))
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.005)
    while not seen:
        time.time()
        time.sleep(0.001)
    signal.signal(signal.SIGALRM, before)
    return [*seen, time.monotonic() - began >= 0.005]


@gives(["TimeoutExpired", "0"])
def a_child_has_so_much_time() -> list[str]:
    script = "import os, sys; os.write(1, b'%d' % len(os.read(0, 10)))"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            child.wait(0.005)
        except subprocess.TimeoutExpired as error:
            time.time()
            return [type(error).__name__, child.communicate()[0].decode()]
    return []


# --- order and time stamps ------------------------------------------------------------------------------


class HybridClock:
    """Time stamps that only grow, and follow the wall clock as far as it lets them (hybrid logical clocks)."""

    def __init__(self) -> None:
        self._last = 0, 0
        self._lock = threading.Lock()

    def stamp(self, seen: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        now = time.time_ns()
        with self._lock:
            latest = max(self._last, seen)
            self._last = (now, 0) if now > latest[0] else (latest[0], latest[1] + 1)
            return self._last


@gives([True, 30])
def stamps_only_grow() -> list[Any]:
    clock = HybridClock()
    stamps = [clock.stamp() for _ in range(30)]
    return [stamps == sorted(stamps), len(set(stamps))]


@gives([True, 20])
def stamps_of_many_threads_are_unique() -> list[Any]:
    clock, found = HybridClock(), list[list[tuple[int, int]]]()

    def work() -> None:
        found.append([clock.stamp() for _ in range(5)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [all(own == sorted(own) for own in found), len({stamp for own in found for stamp in own})]


@gives(True)
def an_answer_is_stamped_after_its_question() -> bool:
    mine, theirs = HybridClock(), HybridClock()
    asked = mine.stamp()
    answered = theirs.stamp(asked)
    return asked < answered < mine.stamp(answered)


@gives([["a", "b", "c"], 3])
def a_log_is_ordered_by_number() -> list[Any]:
    numbers, log = itertools.count(), list[tuple[int, float, str]]()
    for word in "abc":
        log.append((next(numbers), time.time(), word))
    return [[word for _, _, word in sorted(log)], len(log)]


class UniqueIds:
    """Identifiers of a time and a number, which stay unique though the clock is set back."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(time.time_ns() // 1_000_000 << 16, self._last + 1)
        return self._last


@gives([25, True])
def identifiers_by_time_stay_unique() -> list[Any]:
    ids = UniqueIds()
    found = [ids.next() for _ in range(25)]
    return [len(set(found)), found == sorted(found)]


@gives(["one", "two", "one"])
def a_file_is_loaded_again_when_it_is_another_one() -> list[str]:
    """Files are told apart by their inodes and sizes, too, since the clock by which they are stamped may be set."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "config"
        loaded: tuple[tuple[int, int], str] | None = None
        seen, kept = list[str](), []
        for text in ("one", "two", "one"):
            new = Path(directory) / f"new{len(seen)}"
            new.write_text(text)
            kept.append(open(new))  # noqa: SIM115  its inode is not used again
            os.replace(new, path)
            stat = path.stat()
            if loaded is None or loaded[0] != (stat.st_ino, stat.st_size):
                loaded = (stat.st_ino, stat.st_size), path.read_text()
            seen.append(loaded[1])
        for file in kept:
            file.close()
    return seen


@gives([3, 2])
def a_window_slides_by_the_monotonic_clock() -> list[int]:
    hits: collections.deque[float] = collections.deque()

    def hit(limit: float) -> int:
        now = time.monotonic()
        hits.append(now)
        time.time()
        while hits[0] < now - limit:
            hits.popleft()
        return len(hits)

    hit(60)
    hit(60)
    found = hit(60)
    time.sleep(0.004)
    hit(0.002)
    return [found, min(2, hit(60))]


@gives(["job 1", "job 2", "job 3"])
def delayed_jobs_run_in_order() -> list[str]:
    """A heap of jobs by the monotonic time at which they are due."""
    jobs: list[tuple[float, str]] = []
    for number in (2, 3, 1):
        heapq.heappush(jobs, (number * 0.002, f"job {number}"))
    began, seen = time.monotonic(), []
    while jobs:
        due, name = heapq.heappop(jobs)
        time.sleep(max(0, began + due - time.monotonic()))
        time.time()
        seen.append(name)
    return seen


@gives([0.0, 1.0, True])
def differences_of_utc_are_what_they_are() -> list[Any]:
    now = datetime.now(UTC)
    later = now + timedelta(seconds=1)
    there = later.astimezone(ZoneInfo("Europe/Berlin"))
    return [(there - later).total_seconds(), (there - now).total_seconds(), there == later]


@gives([True, True])
def a_stamp_comes_back_from_text() -> list[bool]:
    now = datetime.now(UTC)
    text = json.dumps({"at": now.isoformat()})
    back = datetime.fromisoformat(json.loads(text)["at"])
    return [back == now, back.tzinfo is not None]


def play_children(sim: simloop.Sim) -> None:
    @sim.program(sys.executable)
    async def child(proc: simloop.SimProcess) -> None:
        os.write(1, b"%d" % len(os.read(0, 10)))


def stepping() -> None:
    sim = simloop.current()
    play_children(sim)
    sim.clock.may_step(up_to=3600)


def drifting() -> None:
    sim = simloop.current()
    play_children(sim)
    sim.clock.drift(-900_000)  # time hardly passes


def set_in_between() -> None:
    sim = simloop.current()
    play_children(sim)
    loop = asyncio.get_running_loop()
    for delay, step in ((0.001, 86_400), (0.003, -90_000), (0.006, 7)):
        loop.call_later(delay, sim.clock.step, step)


@pytest.mark.parametrize(("program", "expected"), corpus.cases, ids=name_of)
def test_no_wall_clock_makes_a_difference(program: Program, expected: Any) -> None:
    check_real(program, expected, times=4)
    for change in (stepping, drifting, set_in_between):
        check_simulated(program, expected, runs=examples(40), before=change)


# --- schedules ------------------------------------------------------------------------------------------

BERLIN, NEW_YORK, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")
Now = Callable[[], datetime]
Sleep = Callable[[float], None]
Schedule = Callable[[Now, Sleep], Any]
SCHEDULES: list[tuple[Schedule, str, Any]] = []


def scheduled(start: str, expected: Any) -> Callable[[Schedule], Schedule]:
    """Return a decorator that adds a program which runs jobs by the clock, from `start` on."""

    def note(schedule: Schedule) -> Schedule:
        SCHEDULES.append((schedule, start, expected))
        return schedule

    return note


def sleep_until(moment: datetime, now: Now, sleep: Sleep) -> None:
    """Wait for a moment of the wall clock, in short steps, since that may be set meanwhile."""
    while (left := (moment - now()).total_seconds()) > 0:
        sleep(min(left, 600))


def daily(zone: ZoneInfo, hour: int, minute: int, after: datetime) -> Iterator[datetime]:
    """Yield, in UTC, when a local time of the day comes, once on each day: the first of two, and after a time that is
    left out, the first that there is."""
    day = after.astimezone(zone).date()
    while True:
        local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
        moment = local.astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
            moment = local.replace(fold=1).astimezone(UTC)  # before the gap: counted with the later offset
            while moment.astimezone(zone).replace(tzinfo=None) < local.replace(tzinfo=None):
                moment += timedelta(minutes=1)
        if moment > after:
            yield moment
        day += timedelta(days=1)


def run_daily(zone: ZoneInfo, hour: int, minute: int, days: int, now: Now, sleep: Sleep) -> list[str]:
    seen = []
    for moment in itertools.islice(daily(zone, hour, minute, now()), days):
        sleep_until(moment, now, sleep)
        seen.append(now().astimezone(zone).strftime("%d. %H:%M"))
    return seen


@scheduled("2026-03-27T12:00", ["28. 02:30", "29. 03:00", "30. 02:30"])
def a_daily_job_in_the_night_without_its_hour(now: Now, sleep: Sleep) -> list[str]:
    return run_daily(BERLIN, 2, 30, 3, now, sleep)


@scheduled("2026-10-23T12:00", ["24. 02:30", "25. 02:30", "26. 02:30"])
def a_daily_job_in_the_night_with_its_hour_twice(now: Now, sleep: Sleep) -> list[str]:
    return run_daily(BERLIN, 2, 30, 3, now, sleep)


@scheduled("2026-03-07T12:00", ["08. 03:00", "09. 02:15"])
def a_daily_job_in_new_york(now: Now, sleep: Sleep) -> list[str]:
    return run_daily(NEW_YORK, 2, 15, 2, now, sleep)


@scheduled("2026-10-02T12:00", ["03. 02:10", "04. 02:30", "05. 02:10"])
def a_daily_job_where_half_an_hour_is_left_out(now: Now, sleep: Sleep) -> list[str]:
    return run_daily(LORD_HOWE, 2, 10, 3, now, sleep)


@scheduled("2026-10-24T21:30", ["00", "01", "02", "02", "03"])
def an_hourly_job_in_utc_runs_in_each_hour(now: Now, sleep: Sleep) -> list[str]:
    moment, seen = now().replace(minute=0, second=0, microsecond=0), []
    for _ in range(5):
        moment += timedelta(hours=1)
        sleep_until(moment, now, sleep)
        seen.append(now().astimezone(BERLIN).strftime("%H"))
    return seen


@scheduled("2026-10-24T23:30", [23, 24, 25])
def days_of_a_change_have_other_lengths(now: Now, sleep: Sleep) -> list[int]:
    lengths = []
    for month, day in ((3, 29), (6, 1), (10, 25)):
        first = datetime(now().year, month, day, tzinfo=BERLIN)
        second = datetime(now().year, month, day + 1, tzinfo=BERLIN)
        lengths.append(round((second.astimezone(UTC) - first.astimezone(UTC)).total_seconds() / 3600))
    return lengths


@scheduled("2026-10-25T00:30", [3600.0, 0, 1])
def two_moments_with_one_local_time(now: Now, sleep: Sleep) -> list[Any]:
    first = now().astimezone(BERLIN).replace(second=0, microsecond=0)
    sleep(3600)
    second = now().astimezone(BERLIN).replace(second=0, microsecond=0)
    assert (first.hour, first.minute) == (second.hour, second.minute) == (2, 30)
    return [(second.astimezone(UTC) - first.astimezone(UTC)).total_seconds(), first.fold, second.fold]


@scheduled("2028-02-27T23:00", ["02-28", "02-29", "03-01"])
def a_leap_day(now: Now, sleep: Sleep) -> list[str]:
    seen, moment = [], now()
    for _ in range(3):
        moment = (moment + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
        sleep_until(moment, now, sleep)
        seen.append(f"{now():%m-%d}")
    return seen


@scheduled("2026-12-31T23:58", ["2026-12-31", "2026-12-31", "2027-01-01"])
def files_of_each_day(now: Now, sleep: Sleep) -> list[str]:
    """Name files by the day; one look at the clock decides on the name and the stamp."""
    seen = []
    for _ in range(3):
        moment = now()
        seen.append(moment.date().isoformat())
        assert moment.isoformat().startswith(seen[-1])
        sleep(100)
    return seen


@scheduled("2026-01-30T12:00", ["01-31", "02-28", "03-31"])
def the_last_day_of_each_month(now: Now, sleep: Sleep) -> list[str]:
    seen = []
    for month in (2, 3, 4):
        moment = datetime(2026, month, 1, 12, tzinfo=UTC) - timedelta(days=1)
        while (left := (moment - now()).total_seconds()) > 0:
            sleep(min(left, 6 * 3600))
        seen.append(f"{now():%m-%d}")
    return seen


def stands_for(schedule: Schedule, start: str) -> Any:
    """Return the outcome of a schedule by a clock that moves by sleeping alone."""
    passed = timedelta()
    began = datetime.fromisoformat(start).replace(tzinfo=UTC)

    def sleep(seconds: float) -> None:
        nonlocal passed
        passed += timedelta(seconds=seconds)

    return schedule(lambda: began + passed, sleep)


@pytest.mark.parametrize(("schedule", "start", "expected"), SCHEDULES, ids=name_of)
def test_schedules_by_the_clock(schedule: Schedule, start: str, expected: Any) -> None:
    assert stands_for(schedule, start) == expected, "the expectation itself does not hold"

    def program() -> Any:
        return schedule(lambda: datetime.now(UTC), time.sleep)

    check_simulated(program, expected, runs=examples(60), start=start, max_time=1e7)


# Jobs by a clock that is set meanwhile.


def run_once_each(days: int) -> list[str]:
    """Run a job once for each day at noon, UTC, though the clock is set back or forward over noon: the last day done is
    kept."""
    done: list[str] = []
    while len(done) < days:
        now = datetime.now(UTC)
        day = now.date() if now.hour >= 12 else now.date() - timedelta(days=1)
        if not done or day.isoformat() > done[-1]:
            done.append(day.isoformat())
        time.sleep(600)
    return done


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0, -7200.0])
def test_a_job_of_each_day_runs_once_though_the_clock_is_set(seconds: float) -> None:
    def before() -> None:
        sim = simloop.current()

        def set_the_clock() -> None:
            time.sleep(12.5 * 3600)
            sim.clock.step(seconds)

        threading.Thread(target=set_the_clock).start()

    expected = [f"2026-01-{day:02}" for day in (1, 2, 3, 4)]

    def program() -> list[str]:
        return run_once_each(5)[1:]

    check_simulated(program, expected, runs=examples(40), before=before, max_time=1e6)


def test_hosts_with_other_clocks_agree_on_the_order() -> None:
    """Stamps of hosts whose clocks differ by an hour are ordered as the messages are."""

    async def main() -> None:
        sim = simloop.current()
        sim.host("server").clock.step(-3600)
        sim.clock.may_step(up_to=600)
        stamps: list[tuple[int, int]] = []

        async def serve() -> None:
            clock = HybridClock()
            with socket.create_server(("0.0.0.0", 80)) as listening:
                connection, _ = listening.accept()
                with connection, connection.makefile("rw") as stream:
                    for line in stream:
                        stamps.append(clock.stamp(tuple(json.loads(line))))
                        stream.write(f"{json.dumps(stamps[-1])}\n")
                        stream.flush()

        serving = asyncio.create_task(sim.host("server").run(serve))
        await asyncio.sleep(0.1)

        def ask() -> None:
            clock, seen = HybridClock(), (0, 0)
            with socket.create_connection(("server", 80)) as connection, connection.makefile("rw") as stream:
                for _ in range(4):
                    stamps.append(clock.stamp(seen))
                    stream.write(f"{json.dumps(stamps[-1])}\n")
                    stream.flush()
                    answer = json.loads(stream.readline())
                    seen = answer[0], answer[1]

        await asyncio.to_thread(ask)
        await serving
        assert stamps == sorted(stamps)
        assert len(set(stamps)) == 8

    report = simloop.explore(main, runs=examples(100))
    assert report.failure is None, report.failure.describe()
