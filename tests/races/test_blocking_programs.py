"""Races of processes, signals and clocks that ordinary programs have: each is found in a campaign of the default size,
from independent seeds, and its mended version is clean."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import time
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from pairs import Main, Pair, hold, pair_into

import simloop

PAIRS: list[Pair] = []
pair = pair_into(PAIRS)


async def both(name: str, count: int = 2) -> list[int]:
    jobs = [await asyncio.create_subprocess_exec(name) for _ in range(count)]
    return [await job.wait() for job in jobs]


@pair
def a_pid_file_is_written_by_both(mended: bool) -> Main:
    async def main() -> None:
        sim = simloop.current()
        sim.fs.write_tree({"/run": {}})
        leaders: list[int] = []

        @sim.program("daemon")
        async def daemon(proc: simloop.SimProcess) -> None:
            if mended:
                try:
                    file = os.open("/run/daemon.pid", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                except FileExistsError:
                    return
                os.write(file, b"%d" % os.getpid())
                os.close(file)
            else:
                if os.path.exists("/run/daemon.pid"):
                    return
                with open("/run/daemon.pid", "w") as text:
                    text.write(str(os.getpid()))
            leaders.append(os.getpid())

        assert await both("daemon") == [0, 0]
        assert len(leaders) == 1

    return main


@pair
def a_stale_lock_file_is_taken_over_by_both(mended: bool) -> Main:
    async def main() -> None:
        sim = simloop.current()
        sim.fs.write_tree({"/run": {"job.lock": "4999999"}})
        inside: list[int] = []

        @sim.program("job")
        async def job(proc: simloop.SimProcess) -> None:
            if mended:
                file = os.open("/run/job.lock", os.O_RDWR)
                fcntl.flock(file, fcntl.LOCK_EX)
            else:
                while True:
                    try:
                        os.close(os.open("/run/job.lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                        break
                    except FileExistsError:
                        with contextlib.suppress(FileNotFoundError), open("/run/job.lock") as text:
                            owner = int(text.read() or 1)
                            if not os.path.exists(f"/proc/{owner}") and owner > 1:
                                os.unlink("/run/job.lock")
                                continue
                        time.sleep(0.01)
            assert not inside
            inside.append(os.getpid())
            time.sleep(0.01)
            inside.clear()
            if mended:
                os.close(file)
            else:
                os.unlink("/run/job.lock")

        assert await both("job") == [0, 0]

    return main


@pair
def a_log_is_rotated_by_both(mended: bool) -> Main:
    async def main() -> None:
        sim = simloop.current()
        sim.fs.write_tree({"/log": {"app.log": "old\n" * 10, "lock": ""}})

        @sim.program("worker")
        async def worker(proc: simloop.SimProcess) -> None:
            with open("/log/lock") as lock:
                if mended:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.getsize("/log/app.log") > 20:
                    os.rename("/log/app.log", "/log/app.log.1")
                    with open("/log/app.log", "a"):
                        pass
                with open("/log/app.log", "a") as log:
                    log.write(f"{os.getpid()}\n")

        assert await both("worker") == [0, 0]
        assert sim.fs.read_text("/log/app.log.1").startswith("old\n" * 10)

    return main


@pair
def a_counter_of_two_processes_loses_one(mended: bool) -> Main:
    async def main() -> None:
        sim = simloop.current()
        sim.fs.write_tree({"/run": {"n": "0"}})

        @sim.program("count")
        async def count(proc: simloop.SimProcess) -> None:
            with open("/run/n", "r+") as file:
                if mended:
                    fcntl.flock(file, fcntl.LOCK_EX)
                number = int(file.read())
                file.seek(0)
                file.write(str(number + 1))

        assert await both("count", 3) == [0, 0, 0]
        assert sim.fs.read_text("/run/n") == "3"

    return main


@pair
def a_signal_comes_before_its_handler(mended: bool) -> Main:
    async def main() -> None:
        sim = simloop.current()

        @sim.program("server")
        async def server(proc: simloop.SimProcess) -> None:
            def handle() -> None:
                signal.signal(signal.SIGTERM, lambda number, frame: proc.exit(0))

            if mended:
                handle()
            os.write(1, b"ready\n")
            if not mended:
                handle()
            time.sleep(10)

        child = await asyncio.create_subprocess_exec("server", stdout=subprocess.PIPE)
        assert child.stdout is not None
        await child.stdout.readline()
        child.terminate()
        assert await child.wait() == 0

    return main


@pair
def a_reader_sees_half_a_file(mended: bool) -> Main:
    async def main() -> None:
        sim = simloop.current()
        sim.fs.write_tree({"/run": {"config": "a" * 10}})

        @sim.program("writer")
        async def writer(proc: simloop.SimProcess) -> None:
            target = "/run/config.new" if mended else "/run/config"
            with open(target, "w") as file:
                file.write("b" * 10)
            if mended:
                os.replace("/run/config.new", "/run/config")

        @sim.program("reader")
        async def reader(proc: simloop.SimProcess) -> None:
            with open("/run/config") as file:
                assert len(file.read()) == 10

        jobs = [await asyncio.create_subprocess_exec(name) for name in ("writer", "reader")]
        assert [await job.wait() for job in jobs] == [0, 0]

    return main


@pair
def a_delay_is_computed_from_the_wall_clock(mended: bool) -> Main:
    async def main() -> None:
        sim = simloop.current()
        sim.clock.may_step(up_to=60)
        clock = time.monotonic if mended else time.time
        give_up = clock() + 5
        attempts = 0
        while clock() < give_up:
            attempts += 1
            await asyncio.sleep(min(2, max(0, give_up - clock())))
        assert 3 <= attempts <= 4

    return main


@pair
def a_job_is_lost_in_the_night_the_clocks_change(mended: bool) -> Main:
    zone = ZoneInfo("Europe/Berlin")

    async def main() -> None:
        ran: list[datetime] = []
        end = time.monotonic() + 4 * 3600
        due = datetime.now(ZoneInfo("UTC") if mended else zone).replace(minute=30)
        while time.monotonic() < end:
            if mended:
                wait = (due - datetime.now(ZoneInfo("UTC"))).total_seconds()
            else:
                # Of two times in one zone, Python subtracts what the clocks show.
                wait = (due - datetime.now(zone)).total_seconds()
            await asyncio.sleep(max(0, wait))
            ran.append(datetime.now(ZoneInfo("UTC")))
            due += timedelta(hours=1)
        gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(ran)]
        assert all(3590 < gap < 3610 for gap in gaps), gaps

    return main


START = {"a_job_is_lost_in_the_night_the_clocks_change": "2026-10-25T00:00+02:00"}


@pytest.mark.parametrize(("wrong", "mended"), PAIRS, ids=[wrong.__name__ for wrong, _ in PAIRS])
def test_the_race_is_found_and_the_mended_program_is_clean(wrong: Main, mended: Main) -> None:
    start = START.get(wrong.__name__)
    hold(wrong, mended, **({"start": start} if start else {}))
