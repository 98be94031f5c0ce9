"""Programs with threads whose outcome locks, queues and joins fix: every run must agree with the real machine, on which
each is tried first, with threads that are switched as often as the interpreter can."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import logging.handlers
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.thread import BrokenThreadPool
from typing import Any

import pytest
from corpus import Corpus, Program, check_real, check_simulated, name_of
from sizes import examples

import simloop

RUNS = examples(500)
corpus = Corpus()
gives = corpus.gives


async def both(*jobs: Callable[[], Any]) -> list[Any]:
    return await asyncio.gather(*(asyncio.to_thread(job) for job in jobs))


@gives(20)
async def a_counter_under_a_lock() -> int:
    count, lock = 0, threading.Lock()

    def work() -> None:
        nonlocal count
        for _ in range(10):
            with lock:
                seen = count
                time.sleep(0)
                count = seen + 1

    await both(work, work)
    return count


@gives([1, 2])
async def a_reentrant_lock_is_taken_twice() -> list[int]:
    lock, seen = threading.RLock(), []

    def work(number: int) -> None:
        with lock:
            seen.append(number)
            with lock:
                time.sleep(0.001)
                seen.append(number)

    await both(lambda: work(1), lambda: work(2))
    return sorted({seen[0], seen[2]}) if seen[0] == seen[1] and seen[2] == seen[3] else seen


MODULE_LOCK = threading.Lock()
MODULE_CONDITION = threading.Condition()


@gives(2)
async def a_lock_of_the_module() -> int:
    seen: list[int] = []

    def work() -> None:
        with MODULE_LOCK:
            before = len(seen)
            time.sleep(0.01)
            seen.append(before)

    await both(work, work)
    return len(set(seen))


@gives(True)
async def a_condition_of_the_module() -> bool:
    ready = False

    def waiter() -> bool:
        with MODULE_CONDITION:
            return MODULE_CONDITION.wait_for(lambda: ready, 30)

    def notifier() -> None:
        nonlocal ready
        with MODULE_CONDITION:
            ready = True
            MODULE_CONDITION.notify_all()

    return bool((await both(waiter, notifier))[0])


@gives([0, 1, 2, 3, 4])
async def a_queue_keeps_its_order() -> list[int]:
    items: queue.Queue[int | None] = queue.Queue(1)
    seen: list[int] = []

    def consume() -> None:
        while (item := items.get()) is not None:
            seen.append(item)

    def produce() -> None:
        for item in (0, 1, 2, 3, 4, None):
            items.put(item)

    await both(consume, produce)
    return seen


@gives([0, 1, 2, 3])
async def a_simple_queue_keeps_its_order() -> list[int]:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()

    def produce() -> None:
        for item in range(4):
            items.put(item)

    return (await both(lambda: [items.get() for _ in range(4)], produce))[0]  # type: ignore[no-any-return]


@gives("found")
async def a_thread_that_asks_again_and_again_lets_others_go() -> str:
    items: queue.Queue[str] = queue.Queue()

    def ask() -> str:
        while True:
            try:
                return items.get_nowait()
            except queue.Empty:
                continue

    asking = asyncio.create_task(asyncio.to_thread(ask))
    await asyncio.sleep(0.01)
    await asyncio.to_thread(items.put, "found")
    return await asking


@gives("empty")
async def a_simple_queue_with_a_time_limit() -> str:
    def get() -> str:
        try:
            return str(queue.SimpleQueue().get(timeout=0.01))
        except queue.Empty:
            return "empty"

    return await asyncio.to_thread(get)


@gives([1, 2, 3])
async def joined_queues() -> list[int]:
    items: queue.Queue[int] = queue.Queue()
    done: list[int] = []

    def work() -> None:
        while True:
            item = items.get()
            done.append(item)
            items.task_done()
            if item == 3:
                return

    for item in (1, 2, 3):
        items.put(item)
    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(items.join)
    thread.join()
    return done


@gives(3)
async def a_semaphore_lets_so_many_in() -> int:
    semaphore, inside, most, lock = threading.Semaphore(3), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with semaphore:
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.05)
            with lock:
                inside -= 1

    await both(*[work] * 6)
    return 3 if 1 <= most <= 3 and inside == 0 else most


@gives([0, 1, 2])
async def a_barrier_gives_each_a_number() -> list[int]:
    barrier = threading.Barrier(3)
    return sorted(await both(*[lambda: barrier.wait(30)] * 3))


@gives(["set", True])
async def an_event_wakes_whoever_waits() -> list[Any]:
    event, seen = threading.Event(), []

    def setter() -> None:
        seen.append("set")
        event.set()

    seen += (await both(lambda: event.wait(30), setter))[:1]
    return seen


@gives([False, True])
async def a_lock_with_a_time_limit() -> list[bool]:
    lock = threading.Lock()
    lock.acquire()
    first = await asyncio.to_thread(lock.acquire, True, 0.01)
    lock.release()
    return [first, await asyncio.to_thread(lock.acquire, True, 0.01)]


@gives("taken")
async def a_lock_that_another_thread_releases() -> str:
    lock = threading.Lock()
    lock.acquire()

    def take() -> str:
        with lock:
            return "taken"

    return str((await both(take, lock.release))[0])


@gives(["RuntimeError", "RuntimeError"])
async def a_second_release_is_refused() -> list[str]:
    found = []
    for lock in (threading.Lock(), threading.RLock()):
        try:
            lock.release()
        except RuntimeError as error:
            found.append(type(error).__name__)
    return found


@gives([0, 1, 4, 9])
async def a_map_keeps_its_order() -> list[int]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda number: number * number, range(4)))


@gives("TimeoutError")
async def a_map_with_a_time_limit() -> str:
    with ThreadPoolExecutor(1) as pool:
        try:
            list(pool.map(time.sleep, [0.5], timeout=0.01))
        except TimeoutError as error:
            return type(error).__name__
    return "in time"


@gives([0, 1, 2, 3])
async def futures_as_they_complete() -> list[int]:
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(int, number) for number in range(4)]
        return sorted(job.result() for job in as_completed(jobs))


@gives(1)
async def the_first_of_two_futures() -> int:
    gate = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        jobs: list[Future[Any]] = [pool.submit(gate.wait, 30), pool.submit(int)]
        done, _ = wait(jobs, return_when=FIRST_COMPLETED)
        gate.set()
    return len(done)


@gives(8)
async def a_job_submits_a_job() -> int:
    with ThreadPoolExecutor(2) as pool:
        return pool.submit(lambda: pool.submit(pow, 2, 3).result()).result()


@gives(["ready", "ready"])
async def an_initializer_runs_in_each_worker() -> list[str]:
    local = threading.local()

    def prepare() -> None:
        local.state = "ready"

    with ThreadPoolExecutor(2, initializer=prepare) as pool:
        return [job.result() for job in [pool.submit(lambda: str(local.state)) for _ in range(2)]]


@gives("BrokenThreadPool")
async def an_initializer_that_fails_breaks_the_pool() -> str:
    logging.getLogger("concurrent.futures").setLevel(logging.CRITICAL + 1)
    with ThreadPoolExecutor(1, initializer=lambda: 1 / 0) as pool:
        try:
            pool.submit(int).result()
        except BrokenThreadPool as error:
            return type(error).__name__
    return "whole"


@gives([True, True])
async def what_waits_is_cancelled_at_shutdown() -> list[bool]:
    gate = threading.Event()
    pool = ThreadPoolExecutor(1)
    first, second = pool.submit(gate.wait, 30), pool.submit(int)
    while not first.running():
        await asyncio.sleep(0.001)
    pool.shutdown(wait=False, cancel_futures=True)
    gate.set()
    return [first.result(), second.cancelled()]


@gives(["x", "main"])
async def threads_have_locals_of_their_own() -> list[str]:
    local = threading.local()
    local.value = "main"

    def work() -> str:
        assert not hasattr(local, "value")
        local.value = "x"
        return "x"

    return [await asyncio.to_thread(work), local.value]


@gives("in the caller")
async def a_job_has_the_context_of_its_caller() -> str:
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("in the caller")
    return await asyncio.to_thread(variable.get)


@gives(["named", False, True])
async def a_thread_is_what_it_says() -> list[Any]:
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(threading.current_thread().name), name="named")
    alive = thread.is_alive()
    thread.start()
    known = thread.ident is not None
    thread.join()
    return [*seen, alive, known and not thread.is_alive()]


@gives(True)
async def enumerate_knows_a_thread_while_it_lives() -> bool:
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    there = thread in threading.enumerate()
    gate.set()
    thread.join()
    return there and thread not in threading.enumerate()


@gives([1, 2])
async def a_subclass_of_thread() -> list[int]:
    class Mine(threading.Thread):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number
            self.result = 0

        def run(self) -> None:
            self.result = self.number

    threads = [Mine(1), Mine(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [thread.result for thread in threads]


@gives("fired")
async def a_timer_fires() -> str:
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()
    timer = threading.Timer(0.01, seen.put, ["fired"])
    timer.start()
    return await asyncio.to_thread(seen.get)


@gives([])
async def a_cancelled_timer_does_not() -> list[int]:
    seen: list[int] = []
    timer = threading.Timer(0.2, seen.append, [1])
    timer.start()
    timer.cancel()
    timer.join()
    return seen


@gives(42)
async def a_loop_in_a_thread() -> int:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def answer() -> int:
        await asyncio.sleep(0.001)
        return 42

    found = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer(), loop))
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(thread.join)
    loop.close()
    return found


@gives(["a", "b"])
async def calls_from_a_thread_keep_their_order() -> list[str]:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    seen: list[str] = []

    def work() -> None:
        loop.call_soon_threadsafe(seen.append, "a")
        loop.call_soon_threadsafe(seen.append, "b")
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=work).start()
    await done.wait()
    return seen


@gives(["one", "two"])
async def a_queue_listener_hands_on_records() -> list[str]:
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    records: queue.Queue[Any] = queue.Queue()
    listener = logging.handlers.QueueListener(records, Keep())
    listener.start()
    handler = logging.handlers.QueueHandler(records)
    for text in ("one", "two"):
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, text, (), None))
    await asyncio.to_thread(listener.stop)
    return seen


@gives(1)
async def a_cache_under_a_lock_is_filled_once() -> int:
    made: list[int] = []
    lock = threading.Lock()

    @functools.cache
    def make() -> int:
        made.append(1)
        return 1

    def get() -> int:
        with lock:
            return make()

    await both(get, get, get)
    return len(made)


@gives("ValueError")
async def an_exception_comes_out_of_a_job() -> str:
    def fail() -> None:
        raise ValueError

    try:
        await asyncio.to_thread(fail)
    except ValueError as error:
        return type(error).__name__
    return "none"


@gives(["ZeroDivisionError"])
async def an_exception_of_a_thread_is_reported() -> list[str]:
    seen: list[str] = []
    before, threading.excepthook = threading.excepthook, lambda args: seen.append(args.exc_type.__name__)
    try:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    finally:
        threading.excepthook = before
    return seen


@pytest.mark.filterwarnings("ignore::simloop.BlockingCallWarning")
@pytest.mark.parametrize(("program", "expected"), corpus.cases, ids=name_of)
def test_every_run_agrees_with_the_real_machine(program: Program, expected: Any) -> None:
    check_real(program, expected)
    for seed in range(RUNS):
        assert simloop.run(program, seed=seed) == expected, f"seed {seed}"
    check_simulated(program, expected, runs=examples(300))
