"""`threading.Thread` in a world: one at a time, in virtual time, and gone with it."""

from __future__ import annotations

import _thread
import asyncio
import os
import posix
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import simloop
from simloop.shims import threading as shims
from simloop.world import active
from simloop.world.world import CPU_COUNT


def test_threads_sleep_in_virtual_time() -> None:
    finished: list[int] = []

    def work(seconds: int) -> None:
        time.sleep(seconds)
        finished.append(seconds)

    with simloop.world() as sim:
        threads = [threading.Thread(target=work, args=(seconds,)) for seconds in (300, 100, 200)]
        for thread in threads:
            thread.start()
        assert all(thread.is_alive() for thread in threads)
        for thread in threads:
            thread.join()
        assert not any(thread.is_alive() for thread in threads)
        assert finished == [100, 200, 300]
        assert round(sim.elapsed) == 300


def test_join_with_a_timeout() -> None:
    with simloop.world() as sim:
        thread = threading.Thread(target=time.sleep, args=(60,))
        thread.start()
        thread.join(20)
        assert thread.is_alive()
        assert round(sim.elapsed) == 20
        thread.join(100)
        assert not thread.is_alive()
        assert round(sim.elapsed) == 60


class _SlowToFinalize:
    """Object whose finalizer takes several of the interpreter's switch intervals of 5 ms."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def __del__(self) -> None:
        sum(range(2_000_000))
        self.log.append("finalized")


def test_a_thread_has_cleared_up_before_others_go_on() -> None:
    log: list[str] = []
    local = threading.local()

    def work() -> None:
        local.value = _SlowToFinalize(log)
        time.sleep(1)

    with simloop.world():
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(2)
        log.append("main")
        assert "stopped" in repr(thread)
    assert log == ["finalized", "main"]


def test_queue_between_threads() -> None:
    jobs: queue.Queue[int | None] = queue.Queue(1)
    results: queue.Queue[int] = queue.Queue()

    def work() -> None:
        while (job := jobs.get()) is not None:
            results.put(job * job)

    with simloop.world(seed=3):
        thread = threading.Thread(target=work)
        thread.start()
        for job in range(5):
            jobs.put(job)
        jobs.put(None)
        thread.join()
        assert [results.get() for _ in range(5)] == [0, 1, 4, 9, 16]
        with pytest.raises(queue.Empty):
            results.get(timeout=1)


@pytest.mark.parametrize("seed", range(10))
def test_a_thread_wakes_a_loop(seed: int) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        def work() -> None:
            time.sleep(5)
            # Another loop, in a thread: asyncio.run as in production.
            asyncio.run(asyncio.sleep(5))
            loop.call_soon_threadsafe(answer.set_result, threading.current_thread().name)

        threading.Thread(target=work, name="helper").start()
        name: str = await answer
        assert round(simloop.current().elapsed) == 10
        return name

    assert simloop.run(main, seed=seed) == "helper"


def test_timer() -> None:
    fired: list[float] = []
    with simloop.world() as sim:
        timer = threading.Timer(3600, lambda: fired.append(sim.elapsed))
        timer.start()
        timer.join()
    assert [round(moment) for moment in fired] == [3600]


def test_an_exception_is_reported_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(repr(args.exc_value)))

    def fail() -> None:
        raise ValueError("in a thread")

    with simloop.world():
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert seen == ["ValueError('in a thread')"]


def test_a_world_takes_its_threads_down(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[object] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    unwound: list[str] = []

    def wait_for_ever() -> None:
        try:
            threading.Event().wait()
        finally:
            unwound.append("event")

    def swallow() -> None:
        while len(unwound) < 100:
            try:
                time.sleep(1000)
            except BaseException:
                unwound.append("sleep")

    before = threading.enumerate()
    with simloop.world():
        threading.Thread(target=wait_for_ever).start()
        threading.Thread(target=swallow).start()
        time.sleep(1)
    assert threading.enumerate() == before
    assert unwound == ["event", *["sleep"] * 99]
    assert not reported


def test_outside_of_a_world_threads_are_real() -> None:
    with simloop.world():
        pass
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(threading.get_ident()))
    thread.start()
    thread.join()
    assert results != [threading.get_ident()]


def test_to_ask_for_threads_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match="threads are simulated always"):
        simloop.run(_names, threads=True)


async def _names() -> list[str]:
    with ThreadPoolExecutor() as executor, ThreadPoolExecutor() as other:
        names = [each._thread_name_prefix for each in (executor, other)]
        names += [threading.Thread().name, threading.Thread().name]
        assert await asyncio.get_running_loop().run_in_executor(executor, int, "3") == 3
    return names


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="this machine has a single processor to use")
def test_threads_of_a_world_share_a_processor_until_its_end() -> None:
    def processors() -> int:
        return len(posix.sched_getaffinity(0))

    async def main() -> tuple[int, int, int]:
        job, before = asyncio.to_thread(processors), processors()
        return before, await job, len(os.sched_getaffinity(0))

    async def fails() -> None:
        threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
        raise RuntimeError

    usable = processors()
    assert simloop.run(main) == (usable, 1, CPU_COUNT)
    assert processors() == usable
    with pytest.raises(RuntimeError):
        simloop.run(fails)
    assert processors() == usable


def test_each_run_numbers_executors_and_threads_as_a_new_process_does() -> None:
    expected = ["ThreadPoolExecutor-0", "ThreadPoolExecutor-1", "Thread-1", "Thread-2"]
    assert [simloop.run(_names, seed=seed) for seed in (1, 1)] == [expected] * 2
    outside = ThreadPoolExecutor()._thread_name_prefix
    assert ThreadPoolExecutor()._thread_name_prefix != outside


def test_a_thread_that_never_rests_meets_the_step_limit() -> None:
    async def main() -> None:
        def work() -> None:
            while True:
                time.monotonic()

        await asyncio.to_thread(work)

    with pytest.raises(simloop.StepLimitError, match="never rests"):
        simloop.run(main, max_steps=10_000)


def test_a_real_thread_that_joins_another_one_leaves_the_world_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[bool] = []
    go, gone = threading.Lock(), threading.Lock()
    go.acquire()
    gone.acquire()

    def join_another() -> None:
        go.acquire()
        shims.join(threading.main_thread())
        gone.release()

    threading.Thread(target=join_another, daemon=True).start()
    monkeypatch.setattr(shims, "_real_join", lambda *_: entered.append(active.entered is not None))
    with simloop.world():
        go.release()
        gone.acquire()
    assert entered == [True]


def test_an_executor_that_outlives_a_run_works_in_the_next_one() -> None:
    executor = ThreadPoolExecutor(1, "kept")
    before = threading.enumerate()

    async def main() -> tuple[int, str]:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(executor, time.sleep, 100)  # which the run does not wait for
        executor.submit(time.sleep, 100)
        return await loop.run_in_executor(ThreadPoolExecutor(1), lambda: 1), threading.current_thread().name

    async def job() -> str:
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: threading.current_thread().name)

    for _ in range(3):
        simloop.run(main)
        assert simloop.run(job) == "kept_0"
        assert threading.enumerate() == before
    assert executor.submit(lambda: "outside").result(timeout=10) == "outside"
    executor.shutdown()


def test_a_thread_counts_until_its_end_in_the_world() -> None:
    """The interpreter may still count one that is over: its real end is a matter of real time."""
    counts = []
    with simloop.world():
        threads = [threading.Thread(target=time.sleep, args=(seconds,)) for seconds in (1, 2)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            counts.append(_thread._count())
            time.sleep(1)
    assert counts == [2, 1, 0]


def test_a_lock_whose_holder_is_preempted_is_no_blocking_call() -> None:
    waited: list[float] = []

    async def main() -> None:
        lock = threading.Lock()

        def work() -> None:
            for _ in range(10):
                with lock:
                    for _ in range(5):
                        time.monotonic()

        working = asyncio.create_task(asyncio.to_thread(work))
        while not working.done():
            began = time.monotonic()
            with lock:
                waited.append(time.monotonic() - began)
            await asyncio.sleep(0.001)

    report = simloop.explore(main, runs=300, blocking="fail")
    assert report.failure is None, report.failure
    assert max(waited) > 0.005


def test_a_lock_whose_holder_sleeps_is_a_blocking_call() -> None:
    async def main() -> None:
        lock = threading.Lock()

        def work() -> None:
            with lock:
                time.sleep(1)

        working = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.sleep(0.1)
        with lock:
            pass
        await working

    with pytest.raises(simloop.BlockingCallError):
        simloop.run(main, blocking="fail")
