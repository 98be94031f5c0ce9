"""Programs with threads as textbooks and services have them, whose outcome no order of threads can change.

Each is tried on the real machine first, with threads that are switched as often as the interpreter can.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import contextvars
import functools
import http.client
import http.server
import io
import itertools
import logging
import logging.handlers
import os
import queue
import sched
import select
import socket
import socketserver
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

import pytest
from corpus import Corpus, Program, check_real, check_simulated, name_of
from sizes import examples

corpus = Corpus()
gives = corpus.gives


def start(*functions: Callable[[], object], daemon: bool = False) -> list[threading.Thread]:
    threads = [threading.Thread(target=function, daemon=daemon) for function in functions]
    for thread in threads:
        thread.start()
    return threads


def run(*functions: Callable[[], object]) -> None:
    """Run functions in threads, and wait for all of them."""
    for thread in start(*functions):
        thread.join()


# --- locks and conditions -------------------------------------------------------------------------------


@gives([3] * 5)
def philosophers_who_take_the_lower_fork_first() -> list[int]:
    forks = [threading.Lock() for _ in range(5)]
    meals = [0] * 5

    def dine(seat: int) -> None:
        first, second = sorted((seat, (seat + 1) % 5))
        for _ in range(3):
            with forks[first], forks[second]:
                meals[seat] += 1
                time.sleep(0)

    run(*(functools.partial(dine, seat) for seat in range(5)))
    return meals


@gives([3] * 5)
def philosophers_who_give_back_what_they_cannot_use() -> list[int]:
    forks = [threading.Lock() for _ in range(5)]
    meals = [0] * 5

    def dine(seat: int) -> None:
        while meals[seat] < 3:
            with forks[seat]:
                if forks[(seat + 1) % 5].acquire(timeout=0.001):
                    meals[seat] += 1
                    forks[(seat + 1) % 5].release()
            time.sleep(0.001 * seat)

    run(*(functools.partial(dine, seat) for seat in range(5)))
    return meals


@gives([3] * 5)
def philosophers_with_a_waiter() -> list[int]:
    forks = [threading.Lock() for _ in range(5)]
    meals, waiter = [0] * 5, threading.BoundedSemaphore(4)

    def dine(seat: int) -> None:
        for _ in range(3):
            with waiter, forks[seat], forks[(seat + 1) % 5]:
                meals[seat] += 1

    run(*(functools.partial(dine, seat) for seat in range(5)))
    return meals


class ReadWriteLock:
    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        with self._condition:
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                if not self._readers:
                    self._condition.notify_all()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._readers)
            yield


@gives((6, 6))
def readers_see_whole_writes() -> tuple[int, int]:
    lock, pair = ReadWriteLock(), [0, 0]

    def write() -> None:
        for _ in range(3):
            with lock.writing():
                pair[0] += 1
                time.sleep(0.0001)
                pair[1] += 1

    def read() -> None:
        for _ in range(5):
            with lock.reading():
                before = pair[0]
                time.sleep(0)
                assert pair == [before, before]

    failures = failing(write, read, write, read)
    assert failures == []
    return pair[0], pair[1]


def failing(*functions: Callable[[], object]) -> list[BaseException]:
    """Run functions in threads, and return what they raise."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    run(*(functools.partial(guarded, function) for function in functions))
    return errors


class BoundedBuffer:
    def __init__(self, size: int) -> None:
        lock = threading.Lock()
        self._has_items, self._has_room = threading.Condition(lock), threading.Condition(lock)
        self._items: collections.deque[int] = collections.deque()
        self._size = size

    def put(self, item: int) -> None:
        with self._has_room:
            while len(self._items) >= self._size:
                self._has_room.wait()
            self._items.append(item)
            self._has_items.notify()

    def get(self) -> int:
        with self._has_items:
            while not self._items:
                self._has_items.wait()
            self._has_room.notify()
            return self._items.popleft()


@gives(list(range(20)))
def a_buffer_with_two_conditions() -> list[int]:
    buffer, seen = BoundedBuffer(2), queue.SimpleQueue[int]()

    def produce(first: int) -> None:
        for item in range(first, first + 10):
            buffer.put(item)

    def consume() -> None:
        for _ in range(10):
            seen.put(buffer.get())

    run(lambda: produce(0), lambda: produce(10), consume, consume)
    return sorted(seen.get() for _ in range(20))


@gives([1000, True])
def transfers_lock_accounts_in_one_order() -> list[Any]:
    balances, locks = [250] * 4, [threading.Lock() for _ in range(4)]

    def transfer(source: int, target: int, amount: int) -> None:
        first, second = sorted((source, target))
        with locks[first], locks[second]:
            if balances[source] >= amount:
                balances[source] -= amount
                balances[target] += amount

    def transfer_some(amounts: range) -> None:
        for amount in amounts:
            transfer(amount % 4, (amount + 1 + amount % 3) % 4, amount)

    run(*(functools.partial(transfer_some, range(first, 100, 23)) for first in range(3)))
    return [sum(balances), min(balances) >= 0]


@gives(1)
def double_checked_initialisation() -> int:
    made, lock = [], threading.Lock()
    instance: list[object] = []

    def get() -> object:
        if not instance:
            with lock:
                if not instance:
                    time.sleep(0.0001)
                    made.append(1)
                    instance.append(object())
        return instance[0]

    found: list[int] = []
    run(*[lambda: found.append(id(get()))] * 4)
    assert len(set(found)) == 1
    return len(made)


@gives(["computed", 1])
def a_property_is_computed_once_under_a_lock() -> list[Any]:
    calls: list[int] = []

    class Lazy:
        def __init__(self) -> None:
            self._lock = threading.RLock()

        @functools.cached_property
        def _value(self) -> str:
            calls.append(1)
            time.sleep(0.0001)
            return "computed"

        @property
        def value(self) -> str:
            with self._lock:
                return self._value

    lazy, found = Lazy(), set()
    run(*[lambda: found.add(lazy.value)] * 3)
    return [*found, len(calls)]


@gives([0, 1, 4, 9])
def one_flight_for_each_key() -> list[int]:
    """Many ask, one computes, all get its answer."""
    flights: dict[int, Future[int]] = {}
    lock, computed = threading.Lock(), []

    def get(key: int) -> int:
        with lock:
            future = flights.get(key)
            mine = future is None
            if future is None:
                future = flights[key] = Future()
        if mine:
            computed.append(key)
            time.sleep(0.0001)
            future.set_result(key * key)
        return future.result()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(get, [0, 1, 2, 3] * 3))
    assert sorted(computed) == [0, 1, 2, 3]
    assert results == [0, 1, 4, 9] * 3
    return results[:4]


@gives(["a", "b", "c"] * 3)
def three_threads_take_turns() -> list[str]:
    condition, seen = threading.Condition(), list[str]()

    def speak(number: int) -> None:
        for _ in range(3):
            with condition:
                condition.wait_for(lambda: len(seen) % 3 == number)
                seen.append("abc"[number])
                condition.notify_all()

    run(*(functools.partial(speak, number) for number in (2, 0, 1)))
    return seen


@gives(["ping", "pong"] * 4)
def two_semaphores_hand_over_to_one_another() -> list[str]:
    mine, theirs, seen = threading.Semaphore(1), threading.Semaphore(0), []

    def speak(word: str, first: threading.Semaphore, second: threading.Semaphore) -> None:
        for _ in range(4):
            first.acquire()
            seen.append(word)
            second.release()

    run(lambda: speak("pong", theirs, mine), lambda: speak("ping", mine, theirs))
    return seen


@gives([1, 2, 3])
def a_reentrant_lock_is_given_up_whole_by_wait() -> list[int]:
    lock, seen = threading.RLock(), []
    condition = threading.Condition(lock)
    ready = False

    def wait_inside() -> None:
        with lock, lock, condition:
            condition.wait_for(lambda: ready)
            seen.append(2)
        seen.append(3)

    def notify() -> None:
        nonlocal ready
        with condition:
            seen.append(1)
            ready = True
            condition.notify()

    run(wait_inside, notify)
    return seen


@gives([True, False, "not owner"])
def a_reentrant_lock_knows_its_owner() -> list[Any]:
    lock, found = threading.RLock(), list[Any]()
    with lock:
        found.append(lock.acquire(blocking=False))
        lock.release()
        run(lambda: found.append(lock.acquire(blocking=False)))

        def release() -> None:
            try:
                lock.release()
            except RuntimeError:
                found.append("not owner")

        run(release)
    return found


@gives([False, True, 0])
def a_wait_with_a_deadline_gives_up_and_then_does_not() -> list[Any]:
    condition, jobs = threading.Condition(), list[int]()

    def take(seconds: float) -> bool:
        end = time.monotonic() + seconds
        with condition:
            while not jobs:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                condition.wait(left)
            jobs.pop()
            return True

    found: list[Any] = [take(0.01)]

    def give() -> None:
        with condition:
            jobs.append(1)
            condition.notify()

    start(give)
    found.append(take(60))
    return [*found, len(jobs)]


@gives(["ValueError", 2])
def a_bounded_semaphore_counts() -> list[Any]:
    semaphore, inside, most, lock = threading.BoundedSemaphore(2), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(3):
            with semaphore:
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0001)
                with lock:
                    inside -= 1

    run(*[work] * 4)
    try:
        semaphore.release()
    except ValueError as error:
        return [type(error).__name__, 2 if 1 <= most <= 2 else most]
    return []


@gives([0, 5])
def resources_of_a_pool_are_used_by_one_at_a_time() -> list[int]:
    free: queue.LifoQueue[list[int]] = queue.LifoQueue()
    for _ in range(2):
        free.put([0])
    used: list[int] = []

    def work() -> None:
        resource = free.get(timeout=60)
        try:
            resource[0] += 1
            assert resource[0] == 1
            time.sleep(0.0001)
            resource[0] -= 1
            used.append(1)
        finally:
            free.put(resource)

    assert failing(*[work] * 5) == []
    return [free.get()[0] + free.get()[0], len(used)]


@gives([4, [0, 1, 2, 3], 4])
def a_barrier_runs_its_action_once_a_round() -> list[Any]:
    actions: list[int] = []
    barrier = threading.Barrier(4, action=lambda: actions.append(len(arrived)))
    arrived: list[int] = []
    numbers: list[int] = []

    def work() -> None:
        arrived.append(1)
        numbers.append(barrier.wait())
        assert len(arrived) == 4
        barrier.wait()

    assert failing(*[work] * 4) == []
    assert actions == [4, 4]
    return [actions[0], sorted(numbers), len(arrived)]


@gives(["BrokenBarrierError"] * 3)
def a_barrier_that_is_aborted_lets_nobody_wait() -> list[str]:
    barrier = threading.Barrier(4)
    errors = failing(barrier.wait, barrier.wait, barrier.abort)
    errors += failing(barrier.wait)
    return [type(error).__name__ for error in errors]


@gives([True, "BrokenBarrierError", True])
def a_barrier_is_whole_again_after_reset() -> list[Any]:
    barrier = threading.Barrier(2)
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait(timeout=0.01)
    found: list[Any] = [barrier.broken, *(type(error).__name__ for error in failing(barrier.wait))]
    barrier.reset()
    numbers: list[int] = []
    run(*[lambda: numbers.append(barrier.wait())] * 2)
    return [*found, sorted(numbers) == [0, 1]]


class Latch:
    def __init__(self, count: int) -> None:
        self._condition = threading.Condition()
        self._count = count

    def count_down(self) -> None:
        with self._condition:
            self._count -= 1
            if not self._count:
                self._condition.notify_all()

    def wait(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: not self._count)


@gives([3, 3])
def a_latch_opens_for_all() -> list[int]:
    latch, done, seen = Latch(3), [], []

    def work() -> None:
        done.append(1)
        latch.count_down()

    def follow() -> None:
        latch.wait()
        seen.append(len(done))

    run(follow, work, work, follow, work)
    return seen


@gives([1, 1, 1])
def an_event_starts_all_at_once() -> list[int]:
    gate, seen = threading.Event(), []

    def work() -> None:
        assert gate.wait(60)
        seen.append(1)

    threads = start(work, work, work)
    assert not seen
    gate.set()
    for thread in threads:
        thread.join()
    return seen


@gives(["locked by main", "released by a thread"])
def a_lock_that_one_takes_and_another_releases() -> list[str]:
    lock, seen = threading.Lock(), ["locked by main"]
    lock.acquire()

    def release() -> None:
        seen.append("released by a thread")
        lock.release()

    start(release)
    lock.acquire()
    return seen


@gives(sorted([*range(6)] * 2))
def each_thread_has_a_connection_of_its_own() -> list[int]:
    local, made, lock = threading.local(), itertools.count(), threading.Lock()
    used: list[int] = []

    def connection() -> int:
        if not hasattr(local, "number"):
            with lock:
                local.number = next(made)
        return int(local.number)

    def work() -> None:
        first = connection()
        time.sleep(0)
        used.extend((first, connection()))

    run(*[work] * 6)
    return sorted(used)


# --- queues ---------------------------------------------------------------------------------------------


@gives([1, 4, 9, 16, 25])
def a_pipeline_of_queues() -> list[int]:
    first: queue.Queue[int | None] = queue.Queue(1)
    second: queue.Queue[int | None] = queue.Queue(2)
    seen: list[int] = []

    def square() -> None:
        while (item := first.get()) is not None:
            second.put(item * item)
        second.put(None)

    def collect() -> None:
        while (item := second.get()) is not None:
            seen.append(item)

    threads = start(square, collect)
    for number in (1, 2, 3, 4, 5, None):
        first.put(number)
    for thread in threads:
        thread.join()
    return seen


@gives([3, 2, 1])
def a_priority_queue_is_in_order_once_filled() -> list[int]:
    items: queue.PriorityQueue[tuple[int, int]] = queue.PriorityQueue()
    run(*(functools.partial(items.put, (-number, number)) for number in (2, 3, 1)))
    return [items.get()[1] for _ in range(3)]


@gives([0, 10])
def workers_end_by_poison_after_join() -> list[int]:
    jobs: queue.Queue[int | None] = queue.Queue()
    done: list[int] = []

    def work() -> None:
        while True:
            job = jobs.get()
            try:
                if job is None:
                    return
                done.append(job)
            finally:
                jobs.task_done()

    threads = start(*[work] * 3)
    for number in range(10):
        jobs.put(number)
    jobs.join()
    assert sorted(done) == list(range(10))
    for _ in threads:
        jobs.put(None)
    jobs.join()
    for thread in threads:
        thread.join()
    return [jobs.unfinished_tasks, len(done)]


@gives(["Full", "Empty", "ValueError"])
def queues_refuse() -> list[str]:
    items: queue.Queue[int] = queue.Queue(1)
    found = []
    items.put(1)
    for call in (lambda: items.put(2, timeout=0.01), lambda: items.get(timeout=0.01), items.task_done):
        try:
            call()
            call()
        except (queue.Full, queue.Empty, ValueError) as error:
            found.append(type(error).__name__)
    return found


@gives("stopped")
def a_worker_looks_at_its_stop_flag_between_jobs() -> str:
    jobs: queue.Queue[int] = queue.Queue()
    stop, seen = threading.Event(), list[int]()

    def work() -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Empty):
                seen.append(jobs.get(timeout=0.005))

    (thread,) = start(work)
    jobs.put(1)
    while not seen:
        time.sleep(0.001)
    stop.set()
    thread.join()
    return "stopped"


@gives([[0, 1, 2], [0, 1, 2]])
def subscribers_all_get_all() -> list[list[int]]:
    subscribers = [queue.SimpleQueue[int]() for _ in range(2)]
    seen: list[list[int]] = [[], []]

    def follow(number: int) -> None:
        for _ in range(3):
            seen[number].append(subscribers[number].get(timeout=60))

    def publish() -> None:
        for item in range(3):
            for subscriber in subscribers:
                subscriber.put(item)

    run(lambda: follow(0), publish, lambda: follow(1))
    return seen


@gives(list(range(12)))
def idle_workers_steal() -> list[int]:
    lanes = [collections.deque(range(12)), collections.deque[int]()]
    done: list[int] = []

    def work(own: int) -> None:
        while True:
            try:
                done.append(lanes[own].pop())
            except IndexError:
                try:
                    done.append(lanes[1 - own].popleft())
                except IndexError:
                    return

    run(lambda: work(0), lambda: work(1))
    return sorted(done)


# --- executors and futures ------------------------------------------------------------------------------


class Pool:
    """A thread pool by hand."""

    def __init__(self, size: int) -> None:
        self._condition = threading.Condition()
        self._jobs: list[tuple[Future[Any], Callable[[], Any]]] = []
        self._closed = False
        self._threads = start(*[self._work] * size)

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._condition:
            self._jobs.append((future, function))
            self._condition.notify()
        return future

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._jobs:
                    if self._closed:
                        return
                    self._condition.wait()
                future, function = self._jobs.pop(0)
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:
                    future.set_exception(error)


@gives([0, 1, 4, 9, "ZeroDivisionError"])
def a_pool_by_hand() -> list[Any]:
    pool = Pool(3)
    futures = [pool.submit(functools.partial(pow, number, 2)) for number in range(4)]
    failed = pool.submit(lambda: 1 // 0)
    pool.close()
    return [*(future.result(timeout=0) for future in futures), type(failed.exception(timeout=0)).__name__]


def run_until(begun: threading.Event, gate: threading.Event) -> bool:
    begun.set()
    return gate.wait(60)


@gives([True, False, "CancelledError"])
def who_runs_cannot_be_cancelled() -> list[Any]:
    gate, begun = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run_until, begun, gate)
        second = pool.submit(int)
        assert begun.wait(60)
        found: list[Any] = [second.cancel(), first.cancel()]
        gate.set()
    try:
        second.result()
    except concurrent.futures.CancelledError as error:
        found.append(type(error).__name__)
    return found


@gives([2, 1, 3])
def wait_for_an_exception_and_for_all() -> list[int]:
    gate = threading.Event()

    def fail() -> None:
        raise ValueError

    with ThreadPoolExecutor(3) as pool:
        futures: list[Future[Any]] = [pool.submit(gate.wait, 60), pool.submit(fail), pool.submit(gate.wait, 60)]
        done, left = wait(futures, timeout=60, return_when=FIRST_EXCEPTION)
        found = [len(left), len(done)]
        gate.set()
        found.append(len(wait(futures, return_when=ALL_COMPLETED).done))
    return found


@gives([["a thread", "a thread"], "at once"])
def callbacks_of_a_future_are_called_once() -> list[Any]:
    seen: list[str] = []
    gate = threading.Event()

    def note(future: Future[Any]) -> None:
        seen.append("a thread" if threading.current_thread() is worker[0] else "another thread")

    def job() -> None:
        worker.append(threading.current_thread())
        gate.wait(60)

    worker: list[threading.Thread] = []
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(job)
        future.add_done_callback(note)
        future.add_done_callback(note)
        gate.set()
    called = list(seen)
    late: list[str] = []
    future.add_done_callback(lambda future: late.append("at once"))
    return [called, *late]


@gives([0, 1, "ValueError"])
def a_map_gives_results_until_one_fails() -> list[Any]:
    def check(number: int) -> int:
        if number == 2:
            raise ValueError
        return number

    found: list[Any] = []
    with ThreadPoolExecutor(3) as pool:
        try:
            for result in pool.map(check, range(5)):
                found.append(result)
        except ValueError as error:
            found.append(type(error).__name__)
    return found


@gives(["TimeoutError", 1])
def as_completed_with_a_time_limit() -> list[Any]:
    gate = threading.Event()
    found: list[Any] = []
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(gate.wait, 60)]
        try:
            for _ in as_completed(futures, timeout=0.01):
                pass
        except TimeoutError as error:
            found.append(type(error).__name__)
        gate.set()
        found.append(len(list(as_completed(futures, timeout=60))))
    return found


@gives("RuntimeError")
def a_pool_takes_no_job_after_its_end() -> str:
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    pool.shutdown()
    try:
        pool.submit(int)
    except RuntimeError as error:
        return type(error).__name__
    return "taken"


@gives(15)
def jobs_that_split_themselves() -> int:
    total, lock = 0, threading.Lock()
    left = Latch(15)

    def visit(depth: int) -> None:
        nonlocal total
        with lock:
            total += 1
        if depth:
            for _ in range(2):
                pool.submit(visit, depth - 1)
        left.count_down()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(visit, 3)
        left.wait()
    return total


@gives([3, 1])
def a_failed_job_is_tried_again() -> list[int]:
    tries: list[int] = []

    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return 1

    with ThreadPoolExecutor(1) as pool:
        while True:
            try:
                result = pool.submit(flaky).result()
                return [len(tries), result]
            except ConnectionError:
                time.sleep(0.001)


@gives(["outer", "changed", "outer"])
def a_thread_runs_in_a_copy_of_the_context() -> list[str]:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("outer")
    context, seen = contextvars.copy_context(), list[str]()

    def work() -> None:
        seen.append(variable.get())
        variable.set("changed")
        seen.append(variable.get())

    run(lambda: context.run(work))
    return [*seen, variable.get()]


# --- loops and threads ----------------------------------------------------------------------------------


@gives([0, 1, 4, 9])
async def threads_feed_a_queue_of_the_loop() -> list[int]:
    loop, items = asyncio.get_running_loop(), asyncio.Queue[int]()

    def work(number: int) -> None:
        loop.call_soon_threadsafe(items.put_nowait, number * number)

    threads = start(*(functools.partial(work, number) for number in range(4)))
    found = sorted([await items.get() for _ in range(4)])
    for thread in threads:
        await asyncio.to_thread(thread.join)
    return found


@gives([10, 20])
async def threads_ask_the_loop() -> list[int]:
    loop = asyncio.get_running_loop()

    async def double(number: int) -> int:
        await asyncio.sleep(0.001)
        return number * 2

    def work(number: int) -> int:
        return asyncio.run_coroutine_threadsafe(double(number), loop).result(60)

    return list(await asyncio.gather(asyncio.to_thread(work, 5), asyncio.to_thread(work, 10)))


@gives("cancelled")
async def a_thread_cancels_what_it_asked_for() -> str:
    loop, seen = asyncio.get_running_loop(), asyncio.Queue[str]()

    async def forever() -> None:
        seen.put_nowait("begun")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.put_nowait("cancelled")
            raise

    def work() -> None:
        future = asyncio.run_coroutine_threadsafe(forever(), loop)
        begun.wait(60)
        future.cancel()

    begun = threading.Event()
    thread = asyncio.create_task(asyncio.to_thread(work))
    assert await seen.get() == "begun"
    begun.set()
    await thread
    return await seen.get()


@gives(["done", True])
def a_runner_in_a_thread() -> list[Any]:
    found: list[Any] = []

    async def main() -> str:
        await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(3)))
        return "done"

    def work() -> None:
        with asyncio.Runner() as runner:
            found.append(runner.run(main()))
            loop = runner.get_loop()
        found.append(loop.is_closed())

    run(work)
    return found


class Background:
    """A loop in a thread, with calls from any other one, which are refused once it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, function: Callable[[], object]) -> bool:
        with self._lock:
            if self._loop.is_closed():
                return False
            self._loop.call_soon_threadsafe(function)
            return True

    def close(self) -> None:
        self.call(self._loop.stop)
        self._thread.join()
        with self._lock:
            self._loop.close()


@gives([True, False, 2])
def calls_to_a_loop_that_may_be_closed() -> list[Any]:
    background, seen = Background(), list[int]()
    accepted: list[bool] = []
    run(*[lambda: accepted.append(background.call(lambda: seen.append(1)))] * 2)
    background.close()
    return [all(accepted), background.call(lambda: None), len(seen)]


@gives(["tidied up", 1])
def a_loop_in_a_thread_ends_its_tasks() -> list[Any]:
    seen: list[Any] = []
    ready = threading.Event()

    async def serve() -> None:
        try:
            ready.set()
            await asyncio.sleep(3600)
        finally:
            seen.append("tidied up")

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        task = asyncio.create_task(serve())
        await stop.wait()
        task.cancel()
        seen.append(len(await asyncio.gather(task, return_exceptions=True)))

    stops: list[Callable[[], object]] = []
    (thread,) = start(lambda: asyncio.run(main()))
    assert ready.wait(60)
    stops[0]()
    thread.join()
    return seen


@gives([1, 2, 3])
async def a_lock_of_asyncio_orders_jobs_of_threads() -> list[int]:
    lock, seen = asyncio.Lock(), list[int]()

    async def work(number: int) -> None:
        async with lock:
            await asyncio.to_thread(seen.append, number)

    await asyncio.gather(*(work(number) for number in (1, 2, 3)))
    return seen


@gives([3, 3])
async def an_own_executor_limits_jobs() -> list[int]:
    loop, inside, most, lock = asyncio.get_running_loop(), 0, 0, threading.Lock()

    def work() -> int:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.001)
        with lock:
            inside -= 1
        return 1

    with ThreadPoolExecutor(3) as pool:
        done = sum(await asyncio.gather(*(loop.run_in_executor(pool, work) for _ in range(3))))
    return [done, 3 if 1 <= most <= 3 else most]


@gives(["slept", "after"])
async def a_job_goes_on_after_its_waiter_gave_up() -> list[str]:
    seen: list[str] = []
    gate, begun, done = threading.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def job() -> None:
        loop.call_soon_threadsafe(begun.set)
        gate.wait(60)
        seen.append("slept")
        loop.call_soon_threadsafe(done.set)

    waiting = asyncio.create_task(asyncio.to_thread(job))
    await begun.wait()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(waiting, 0.01)
    gate.set()
    await done.wait()
    return [*seen, "after"]


@gives("woken")
async def a_thread_wakes_a_loop_through_a_pipe() -> str:
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def read() -> None:
        if os.read(reading, 1) == b"!":
            woken.set()

    loop.add_reader(reading, read)
    await asyncio.to_thread(os.write, writing, b"!")
    await woken.wait()
    loop.remove_reader(reading)
    os.close(reading)
    os.close(writing)
    return "woken"


# --- logging, timers, the rest --------------------------------------------------------------------------


@gives([20, True])
def a_log_of_many_threads() -> list[Any]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.Logger("own")
    logger.addHandler(handler)

    def work(name: str) -> None:
        for number in range(5):
            logger.info("%s %d", name, number)

    run(*(functools.partial(work, name) for name in "abcd"))
    lines = stream.getvalue().splitlines()
    return [len(lines), all([line[2:] for line in lines if line[0] == name] == list("01234") for name in "abcd")]


@gives([["info", "error"], ["error"]])
def a_listener_with_levels() -> list[list[str]]:
    class Keep(logging.Handler):
        def __init__(self, level: int) -> None:
            super().__init__(level)
            self.seen: list[str] = []

        def emit(self, record: logging.LogRecord) -> None:
            self.seen.append(record.getMessage())

    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    everything, errors = Keep(logging.DEBUG), Keep(logging.ERROR)
    listener = logging.handlers.QueueListener(records, everything, errors, respect_handler_level=True)
    logger = logging.Logger("own")
    logger.addHandler(logging.handlers.QueueHandler(records))
    listener.start()
    logger.info("info")
    run(lambda: logger.error("error"))
    listener.stop()
    return [everything.seen, errors.seen]


@gives([3, True])
def a_timer_that_sets_the_next_one() -> list[Any]:
    seen: list[float] = []
    done = threading.Event()

    def fire() -> None:
        seen.append(time.monotonic())
        if len(seen) == 3:
            done.set()
        else:
            threading.Timer(0.002, fire).start()

    threading.Timer(0.002, fire).start()
    assert done.wait(60)
    return [len(seen), seen == sorted(seen) and seen[2] - seen[0] >= 0.004]


@gives(["first", "second", "third"])
def a_scheduler_in_a_thread() -> list[str]:
    scheduler, seen = sched.scheduler(time.monotonic, time.sleep), list[str]()
    now = time.monotonic()  # one look for all: a thread may be preempted between two
    scheduler.enterabs(now + 0.006, 1, seen.append, ("third",))
    scheduler.enterabs(now + 0.002, 2, seen.append, ("first",))
    scheduler.enterabs(now + 0.004, 1, seen.append, ("second",))
    run(scheduler.run)
    return seen


@gives([2, "thread", "ValueError"])
def a_hook_reports_what_threads_raise() -> list[Any]:
    seen: list[Any] = []
    before, threading.excepthook = threading.excepthook, lambda args: seen.append(args)
    try:

        def fail() -> None:
            raise ValueError("of a thread")

        run(fail, fail)
    finally:
        threading.excepthook = before
    kinds = {args.exc_type.__name__ for args in seen}
    known = {isinstance(args.thread, threading.Thread) for args in seen}
    return [len(seen), "thread" if known == {True} else known, *kinds]


@gives([True, True, 3])
def a_daemon_beats_until_told() -> list[Any]:
    beats, stop, enough = itertools.count(), threading.Event(), threading.Event()
    last = 0

    def beat() -> None:
        nonlocal last
        while not stop.wait(0.001):
            last = next(beats)
            if last == 3:
                enough.set()

    (thread,) = start(beat, daemon=True)
    assert enough.wait(60)
    stop.set()
    thread.join()
    return [thread.daemon, not thread.is_alive(), min(last, 3)]


@gives(["gone"])
def a_weak_reference_calls_back_in_whatever_thread() -> list[str]:
    class Thing:
        pass

    seen: list[str] = []
    things = [Thing()]
    weakref.finalize(things[0], seen.append, "gone")
    run(things.clear)
    return seen


@gives([False, "made", 1])
def a_weak_cache_under_a_lock() -> list[Any]:
    class Thing:
        def __init__(self) -> None:
            self.name = "made"

    cache: weakref.WeakValueDictionary[str, Thing] = weakref.WeakValueDictionary()
    lock, made, kept = threading.Lock(), [], list[Thing]()

    def get() -> None:
        with lock:
            thing = cache.get("key")
            if thing is None:
                thing = cache["key"] = Thing()
                made.append(1)
            kept.append(thing)

    run(get, get, get)
    found = [kept[0].name, len(made)]
    kept.clear()
    return ["key" in cache, *found]


@gives([list(range(10)), 0])
def a_generator_is_shared_under_a_lock() -> list[Any]:
    lock, seen = threading.Lock(), list[int]()

    def count() -> Iterator[int]:
        yield from range(10)

    numbers = count()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            seen.append(number)

    errors = failing(work, work, work)
    return [sorted(seen), len(errors)]


@gives([400, 1])
def what_the_interpreter_does_in_one_step() -> list[int]:
    items: list[int] = []
    winners: dict[str, int] = {}

    def work(number: int) -> None:
        for _ in range(100):
            items.append(number)
        winners.setdefault("first", number)

    run(*(functools.partial(work, number) for number in range(4)))
    return [len(items), len(winners)]


@gives([5, 3])
def a_cache_of_the_library_gives_every_thread_the_same() -> list[int]:
    @functools.cache
    def square(number: int) -> int:
        time.sleep(0)
        return number * number

    found: set[int] = set()
    run(*(lambda: found.update(square(number) for number in range(5)) for _ in range(3)))
    hits = square.cache_info()
    return [len(found), 3 if hits.hits + hits.misses == 15 and hits.currsize == 5 else 0]


@gives(["child of a child"])
def threads_start_threads() -> list[str]:
    seen: list[str] = []

    def grandchild() -> None:
        seen.append("child of a child")

    def child() -> None:
        run(grandchild)

    run(child)
    return seen


@gives([b"hello", True])
def pipes_and_select_between_threads() -> list[Any]:
    reading, writing = os.pipe()

    def write() -> None:
        for byte in b"hello":
            os.write(writing, bytes([byte]))
        os.close(writing)

    (thread,) = start(write)
    data = b""
    while True:
        ready, _, _ = select.select([reading], [], [], 60)
        if not ready:
            break
        piece = os.read(reading, 100)
        if not piece:
            break
        data += piece
    thread.join()
    os.close(reading)
    return [data, bool(ready)]


class Upper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


@gives([["A\n", "B\n"]] * 3)
def a_threading_server() -> list[list[str]]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = False

    answers: list[list[str]] = []

    def ask() -> None:
        with socket.create_connection(server.socket.getsockname()) as connection, connection.makefile("rw") as stream:
            found = []
            for word in ("a\n", "b\n"):
                stream.write(word)
                stream.flush()
                found.append(stream.readline())
            answers.append(found)

    with Server(("127.0.0.1", 0), Upper) as server:
        (serving,) = start(lambda: server.serve_forever(0.01))
        run(ask, ask, ask)
        server.shutdown()
        serving.join()
    return answers


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"hello {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@gives(["hello /a", "hello /b"])
def a_web_server_and_its_clients() -> list[str]:
    # Not the server of `http.server`, which asks a real resolver for its name.
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Hello) as server:
        (serving,) = start(lambda: server.serve_forever(0.01))

        def get(path: str) -> str:
            connection = http.client.HTTPConnection("127.0.0.1", server.socket.getsockname()[1])
            connection.request("GET", path)
            answer = connection.getresponse().read().decode()
            connection.close()
            return answer

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(get, ["/a", "/b"]))
        server.shutdown()
        serving.join()
    return answers


@pytest.mark.parametrize(("program", "expected"), corpus.cases, ids=name_of)
def test_every_run_agrees_with_the_real_machine(program: Program, expected: Any) -> None:
    check_real(program, expected)
    check_simulated(program, expected, runs=examples(60))
    check_simulated(program, expected, runs=examples(20), preempt="lines")
