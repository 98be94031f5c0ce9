"""Entering and leaving a world, and what is simulated inside."""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from freezegun import freeze_time

import simloop

WATCHED: list[tuple[Any, str]] = [
    (time, "time"), (time, "monotonic"), (time, "sleep"), (datetime.datetime, "now"), (socket, "socket"),
    (socket, "getaddrinfo"), (os, "urandom"), (os, "getpid"), (random, "random"), (uuid, "uuid1"),
    (asyncio, "new_event_loop"), (asyncio, "SelectorEventLoop"), (threading.Condition, "wait"), (os, "pipe"),
]  # fmt: skip


def standing() -> tuple[object, ...]:
    return (*(vars(owner)[name] for owner, name in WATCHED), random.getstate())


def test_leaving_a_world_leaves_everything_as_before() -> None:
    from simloop.simulation import install as installation

    installation.uninstall()
    before = standing()

    def fail_inside() -> None:
        with simloop.world(seed=3):
            assert standing() != before
            random.random()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert standing() == before
    loop = asyncio.new_event_loop()
    assert type(loop).__module__.startswith("asyncio")
    loop.close()


def test_every_new_loop_inside_a_world_is_simulated() -> None:
    made: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        made.append(asyncio.get_running_loop())
        await asyncio.sleep(1000)

    with simloop.world() as sim:
        asyncio.run(main())
        asyncio.run(main(), loop_factory=asyncio.SelectorEventLoop) if hasattr(asyncio, "eager_task_factory") else None
        with asyncio.Runner() as runner:
            runner.run(main())
            runner.run(main())
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        assert sim.elapsed >= 4000
    assert {type(loop).__name__ for loop in made} == {"SimLoop"}


def test_time_and_date_follow_the_virtual_clock() -> None:
    async def main() -> tuple[float, ...]:
        loop = asyncio.get_running_loop()
        before = (loop.time(), time.time(), time.monotonic(), time.perf_counter(), datetime.datetime.now().timestamp())
        await asyncio.sleep(3600)
        after = (loop.time(), time.time(), time.monotonic(), time.perf_counter(), datetime.datetime.now().timestamp())
        return tuple(b - a for a, b in zip(before, after, strict=True))

    began = time.perf_counter()
    assert simloop.run(main) == pytest.approx((3600,) * 5, abs=0.006)
    assert time.perf_counter() - began < 5
    assert abs(datetime.datetime.now().timestamp() - time.time()) < 5


def test_dates_inside_are_ordinary_dates() -> None:
    async def main() -> tuple[Any, ...]:
        now = datetime.datetime.now(datetime.UTC)
        assert isinstance(now, datetime.datetime)
        assert type(now + datetime.timedelta(days=1)).__name__ == "datetime"
        return now, datetime.datetime(2020, 1, 2), datetime.date.today(), datetime.datetime.fromtimestamp(0, now.tzinfo)

    now, made, today, epoch = simloop.run(main)
    assert (type(now), type(made), type(today)) == (datetime.datetime, datetime.datetime, datetime.date)
    assert now.date() == today == datetime.date(2026, 1, 1)
    assert epoch.year == 1970
    assert now == now.replace()


def test_a_frozen_clock_does_not_hang_a_sleep() -> None:
    @freeze_time("2001-02-03")
    async def main() -> tuple[int, float]:
        await asyncio.sleep(5)
        return datetime.datetime.now().year, simloop.current().elapsed

    year, elapsed = simloop.run(main)
    assert year == 2001
    assert elapsed >= 5
    assert simloop.run(lambda: asyncio.sleep(1)) is None
    assert time.time() > 1.7e9


def test_entropy_comes_from_the_seed() -> None:
    async def main() -> tuple[Any, ...]:
        return (
            random.random(), random.Random().random(), random.SystemRandom().random(), os.urandom(4), uuid.uuid1(),
            uuid.uuid4(), secrets.token_hex(4), next(tempfile._get_candidate_names()), os.getpid(), os.cpu_count(),
        )  # type: ignore[attr-defined]  # fmt: skip

    first = simloop.run(main, seed=1)
    assert simloop.run(main, seed=1) == first
    assert simloop.run(main, seed=2)[:-2] != first[:-2]
    assert os.getpid() != first[-2]


def test_the_programs_own_random_state_survives_a_run() -> None:
    random.seed(5)
    expected = [random.random(), random.random()]
    random.seed(5)
    got = [random.random()]

    async def main() -> None:
        random.seed(1)
        random.random()

    simloop.run(main)
    got.append(random.random())
    assert got == expected


class Bystander:
    """A real thread, started before a world is entered, that does something while it is."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._work = work
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._gate:
            self._work()

    def go(self) -> None:
        """Let it work, and wait for its end without looking at a clock."""
        self._gate.release()
        while self._thread.is_alive():
            os.sched_yield()


def test_another_thread_keeps_the_real_clock() -> None:
    seen: list[float] = []
    bystander = Bystander(lambda: seen.append(time.time()))
    with simloop.world(max_time=1e8):
        time.sleep(10**7)
        bystander.go()
    assert abs(seen[0] - time.time()) < 60


def nested() -> None:
    with simloop.world(), simloop.world():
        pass


def from_inside_a_run() -> None:
    async def main() -> None:
        simloop.run(main)

    simloop.run(main)


def from_a_second_thread() -> None:
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            with simloop.world():
                pass
        except simloop.WorldError as error:
            failures.append(error)

    bystander = Bystander(enter)
    with simloop.world():
        bystander.go()
    raise failures[0]


def from_a_running_loop() -> None:
    async def main() -> None:
        with simloop.world():
            pass

    asyncio.run(main())


def outside() -> None:
    simloop.current()


def a_handle_from_a_second_thread() -> None:
    failures: list[BaseException] = []

    def use() -> None:
        try:
            sims[0].host("db")
        except simloop.WorldError as error:
            failures.append(error)

    sims: list[simloop.Sim] = []
    bystander = Bystander(use)
    with simloop.world() as sim:
        sims.append(sim)
        bystander.go()
    raise failures[0]


def a_handle_after_its_run() -> None:
    with simloop.world() as sim:
        pass
    sim.host("db")


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (nested, "already entered"),
        (from_inside_a_run, "already entered"),
        (from_a_second_thread, "another thread"),
        (from_a_running_loop, "from a running event loop"),
        (outside, "outside of a run"),
        (a_handle_from_a_second_thread, "from another thread"),
        (a_handle_after_its_run, "a run that is over"),
    ],
)
def test_misuse_of_worlds_is_a_one_line_error(misuse: Callable[[], None], words: str) -> None:
    with pytest.raises(simloop.WorldError, match=words) as caught:
        misuse()
    assert "\n" not in str(caught.value)
    simloop.run(lambda: asyncio.sleep(0))  # nothing is left behind


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": "windows"}, "unknown profile 'windows': use one of cpython"),
        ({"max_steps": 0}, "max_steps must be"),
        ({"max_time": -1}, "max_time must be"),
        ({"max_tiem": 1}, "unknown option 'max_tiem'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], words: str) -> None:
    for call in (simloop.run, simloop.explore):
        with pytest.raises(simloop.ConfigurationError, match=words):
            call(lambda: asyncio.sleep(0), **options)
    with pytest.raises(simloop.ConfigurationError, match=words), simloop.world(**options):
        pass


@pytest.mark.parametrize("main", [5, lambda: 5, lambda: asyncio.sleep])
def test_what_is_no_async_function_is_refused(main: Any) -> None:
    with pytest.raises(simloop.ConfigurationError, match="async function"):
        simloop.run(main)


def test_runaway_runs_end() -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    async def tick() -> None:
        while True:
            await asyncio.sleep(10)

    with pytest.raises(simloop.StepLimitError, match="max_steps"):
        simloop.run(spin, max_steps=1000)
    with pytest.raises(simloop.TimeLimitError, match="max_time"):
        simloop.run(tick, max_time=1000)


def test_a_spinning_program_sees_time_pass() -> None:
    async def main() -> None:
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            await asyncio.sleep(0)
        while time.monotonic() < end + 0.05:
            pass
        assert 0.1 <= simloop.current().elapsed < 0.11

    simloop.run(main)


def test_a_deadlock_names_tasks_lines_and_what_would_wake_them() -> None:
    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        first, second = asyncio.Lock(), asyncio.Lock()

        async def take(a: asyncio.Lock, b: asyncio.Lock) -> None:
            async with a:
                await asyncio.sleep(0.1)
                async with b:
                    pass

        async def read() -> None:
            await queue.get()

        await asyncio.gather(
            asyncio.create_task(take(first, second), name="left"),
            asyncio.create_task(take(second, first), name="right"),
            asyncio.create_task(read(), name="reader"),
        )

    with pytest.raises(simloop.DeadlockError) as caught:
        simloop.run(main)
    text = str(caught.value)
    assert len(caught.value.tasks) == 4
    assert "task 'left' waits at tests/simulation/test_run.py:" in text or "test_run.py:" in text
    assert "for release() of the lock" in text
    assert "for a put() on the queue" in text
    assert "for the end of tasks 'left', 'right', 'reader'" in text


@pytest.mark.parametrize("kept", [True, False])
def test_async_generators_are_finalised_as_asyncio_run_does(kept: bool) -> None:
    seen: list[str] = []
    alive: list[Any] = []

    async def main() -> None:
        async def numbers() -> Any:
            try:
                yield 1
                yield 2
            finally:
                seen.append("closing")
                await asyncio.sleep(0)
                seen.append("closed")

        generator = numbers()
        if kept:
            alive.append(generator)
        await anext(generator)
        seen.append("left open")

    asyncio.run(main())
    expected, seen = seen, []
    simloop.run(main)
    assert seen == expected
    assert "closing" in seen


def test_tasks_are_cancelled_at_the_end_as_asyncio_run_does() -> None:
    seen: list[str] = []

    async def main() -> None:
        async def background() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                seen.append("cancelled")

        asyncio.create_task(background())  # noqa: RUF006
        await asyncio.sleep(0)

    simloop.run(main)
    assert seen == ["cancelled"]


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came with Python 3.12")
def test_eager_tasks() -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

        async def work() -> None:
            seen.append("started")
            await asyncio.sleep(0)
            seen.append("ended")

        task = asyncio.create_task(work())
        seen.append("created")
        await task
        return seen

    assert simloop.run(main) == ["started", "created", "ended"]


def test_sets_of_tasks_iterate_in_order_of_creation() -> None:
    async def main() -> list[str]:
        async def nothing() -> None: ...

        tasks = {asyncio.create_task(nothing(), name=str(i)) for i in range(7)}
        assert asyncio.all_tasks() >= tasks
        await asyncio.wait(tasks)
        return [task.get_name() for task in tasks]

    assert simloop.run(main) == simloop.run(main)


def test_unretrieved_exceptions_are_reported_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def fail() -> None:
            raise ValueError("nobody looks")

        asyncio.create_task(fail())  # noqa: RUF006
        await asyncio.sleep(0.1)

    simloop.run(main)
    assert "Task exception was never retrieved" in caplog.text
    assert "nobody looks" in caplog.text


def test_executor_functions_run_and_take_virtual_time() -> None:
    async def main() -> tuple[Any, ...]:
        loop = asyncio.get_running_loop()
        name = await asyncio.to_thread(lambda: threading.current_thread() is threading.main_thread())
        await loop.run_in_executor(None, time.sleep, 30)

        async def answer() -> str:
            await asyncio.sleep(1)
            return "from the loop"

        def ask() -> str:
            return asyncio.run_coroutine_threadsafe(answer(), loop).result()

        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return name, simloop.current().elapsed >= 30, await asyncio.to_thread(ask)

    assert simloop.run(main) == (False, True, "from the loop")


def test_hosts_run_processes_and_give_their_results() -> None:
    async def main() -> Any:
        sim = simloop.current()

        async def where() -> tuple[str, str, int]:
            await asyncio.sleep(1)
            return socket.gethostname(), socket.gethostbyname("db"), os.getpid()

        async def fail() -> None:
            raise ValueError("from the other host")

        with pytest.raises(ValueError, match="from the other host"):
            await sim.host("db").run(fail)
        assert asyncio.get_running_loop().is_running()
        return await asyncio.gather(sim.host("db").run(where), sim.host("web").run(where)), socket.gethostname()

    (db, web), here = simloop.run(main)
    assert (db[0], web[0], here) == ("db", "web", "localhost")
    assert db[1] == web[1]
    assert db[2] != web[2]


@pytest.mark.parametrize("seed", range(30))
def test_hosts_talk_over_the_network(seed: int) -> None:
    async def main() -> list[bytes]:
        sim = simloop.current()

        async def serve() -> None:
            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    writer.write(b"you said " + await reader.readline())
                finally:
                    writer.close()

            server = await asyncio.start_server(handle, "0.0.0.0", 5432)
            try:
                await asyncio.sleep(1000)
            finally:
                server.close()

        running = asyncio.create_task(sim.host("db").run(serve))
        await asyncio.sleep(1)

        async def ask(word: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("db", 5432)
            writer.write(word + b"\n")
            answer = await reader.read()
            writer.close()
            return answer

        answers = await asyncio.gather(ask(b"one"), ask(b"two"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return answers

    assert simloop.run(main, seed=seed) == [b"you said one\n", b"you said two\n"]


def test_runs_leave_nothing_to_the_collector() -> None:
    """It is off during a run: what is left to it would be kept until the end."""
    # In a process of its own: here, tracebacks of earlier tests come and go.
    program = """
import asyncio, gc, simloop, sys
async def timers():
    await asyncio.gather(*(asyncio.sleep(i) for i in range(3)))
async def answer(reader, writer):
    writer.write(await reader.readline())
    writer.close()
async def serve():
    async with await asyncio.start_server(answer, "0.0.0.0", 80):
        await asyncio.sleep(10)
async def ask(name):
    reader, writer = await asyncio.open_connection(name, 80)
    writer.write(b"x\\n")
    await reader.read()
    writer.close()
async def hosts():
    hosts = [simloop.current().host(f"h{number}") for number in range(12)]
    serving = asyncio.gather(*(host.run(serve) for host in hosts))
    await asyncio.sleep(1)
    await asyncio.gather(*(ask(host.name) for host in hosts))
    await serving
async def datagrams():
    loop = asyncio.get_running_loop()
    one, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    one.sendto(b"x", one.get_extra_info("sockname"))
    await asyncio.sleep(1)
    one.close()
async def threads():
    await asyncio.to_thread(int)
for main in (timers, hosts, datagrams, threads):
    if main is hosts and sys.version_info < (3, 12):
        continue  # asyncio's own transports know themselves
    simloop.run(main)
    gc.collect()
    gc.disable()
    simloop.run(main)
    print(main.__name__, gc.collect())
    gc.enable()
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    hosts = ["hosts 0"] if sys.version_info >= (3, 12) else []
    assert child.stdout.splitlines() == ["timers 0", *hosts, "datagrams 0", "threads 0"]


def test_what_the_package_exports_can_be_had_whatever_was_imported() -> None:
    """Its names are looked up when asked for, and two of them are names of packages, too."""
    exported = {name for names in simloop._MODULES.values() for name in names}
    assert exported == set(simloop.__all__)
    program = """
        import importlib, pkgutil, types, simloop
        for module in pkgutil.walk_packages(simloop.__path__, "simloop."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        assert [name for name in simloop.__all__ if isinstance(getattr(simloop, name), types.ModuleType)] == []
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


def test_debug_mode_tracks_where_coroutines_were_created_until_the_end_of_the_run() -> None:
    async def main() -> int:
        asyncio.get_running_loop().set_debug(True)
        await asyncio.sleep(0)
        return sys.get_coroutine_origin_tracking_depth()

    before = sys.get_coroutine_origin_tracking_depth()
    assert simloop.run(main) > before
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_debug_mode_of_the_environment_tracks_where_coroutines_were_created() -> None:
    script = """
        import sys, simloop
        async def main():
            return sys.get_coroutine_origin_tracking_depth()
        print(simloop.run(main), sys.get_coroutine_origin_tracking_depth())
    """
    environ = {**os.environ, "PYTHONASYNCIODEBUG": "1"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "10 0\n"
