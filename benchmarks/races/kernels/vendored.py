"""asyncio's own locks and queues as they were in older versions, in other words, with the part that was mended."""

from __future__ import annotations

import asyncio
from collections import deque

from kernels.lines import ask, echo, serving
from kernels.registry import Main, kernel

Waiter = asyncio.Future[None]


def new_waiter() -> Waiter:
    return asyncio.get_running_loop().create_future()


def wake_first(waiters: deque[Waiter]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
            return


@kernel("cancel", "python/cpython#76915: Lock.acquire, cancelled after it was woken, wakes nobody else")
def a_lock_is_lost_with_its_waiter(mended: bool) -> Main:
    class Lock:
        def __init__(self) -> None:
            self.locked = False
            self.waiters: deque[Waiter] = deque()

        async def acquire(self) -> None:
            if not self.locked and not self.waiters:
                self.locked = True
                return
            waiter = new_waiter()
            self.waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self.waiters.remove(waiter)
                if mended and not self.locked:
                    wake_first(self.waiters)
                raise
            self.waiters.remove(waiter)
            self.locked = True

        def release(self) -> None:
            self.locked = False
            wake_first(self.waiters)

    async def main() -> None:
        lock = Lock()

        async def work() -> None:
            await lock.acquire()
            try:
                await asyncio.sleep(0.01)
            finally:
                lock.release()

        tasks = [asyncio.create_task(work()) for _ in range(3)]
        async with asyncio.timeout(10):
            await asyncio.wait(tasks)

    return main


@kernel("cancel", "python/cpython#90155: Semaphore.acquire, cancelled after it was woken, wakes nobody else")
def a_semaphore_is_lost_with_its_waiter(mended: bool) -> Main:
    class Semaphore:
        def __init__(self) -> None:
            self.value = 1
            self.waiters: deque[Waiter] = deque()

        async def acquire(self) -> None:
            while self.value <= 0:
                waiter = new_waiter()
                self.waiters.append(waiter)
                try:
                    await waiter
                except asyncio.CancelledError:
                    waiter.cancel()
                    if mended and self.value > 0:
                        wake_first(self.waiters)
                    raise
                finally:
                    if waiter in self.waiters:
                        self.waiters.remove(waiter)
            self.value -= 1

        def release(self) -> None:
            self.value += 1
            wake_first(self.waiters)

    async def main() -> None:
        semaphore = Semaphore()

        async def request() -> None:
            await semaphore.acquire()
            try:
                await asyncio.sleep(0.005)
            finally:
                semaphore.release()

        tasks = [asyncio.create_task(request()) for _ in range(4)]
        async with asyncio.timeout(10):
            await asyncio.wait(tasks)

    return main


@kernel("network", "python/cpython#90155: a newcomer overtakes a waiter that was woken already")
def a_newcomer_overtakes_a_waiter(mended: bool) -> Main:
    class Semaphore:
        def __init__(self) -> None:
            self.value = 1
            self.waiters: deque[Waiter] = deque()

        async def acquire(self) -> None:
            if self.value > 0 and not (mended and self.waiters):
                self.value -= 1
                return
            waiter = new_waiter()
            self.waiters.append(waiter)
            await waiter
            self.waiters.remove(waiter)
            while self.value <= 0:
                waiter = new_waiter()
                self.waiters.append(waiter)
                await waiter
                self.waiters.remove(waiter)
            self.value -= 1

        def release(self) -> None:
            self.value += 1
            wake_first(self.waiters)

    async def main() -> None:
        semaphore = Semaphore()
        came: list[str] = []
        served: list[str] = []

        async def answer(request: str) -> str:
            if request != "ping":
                came.append(request)
                await semaphore.acquire()
                served.append(request)
                await ask(7001, request)
                semaphore.release()
            return request

        async with serving(7000, answer), serving(7001, echo):
            pings = (0, 0, 4, 9)
            await asyncio.gather(*(ask(7000, *["ping"] * count, str(at)) for at, count in enumerate(pings)))
        assert served == came

    return main


@kernel("cancel", "Queue.get of Python 3.4: the wake-up of a getter that is cancelled is lost")
def an_item_stays_in_its_queue(mended: bool) -> Main:
    class Queue:
        def __init__(self) -> None:
            self.items: deque[int] = deque()
            self.getters: deque[Waiter] = deque()

        def put(self, item: int) -> None:
            self.items.append(item)
            while self.getters:
                getter = self.getters.popleft()
                if not getter.done():
                    getter.set_result(None)
                    break

        async def get(self) -> int:
            while not self.items:
                getter = new_waiter()
                self.getters.append(getter)
                try:
                    await getter
                except asyncio.CancelledError:
                    if mended and self.items and not getter.cancelled():
                        wake_first(self.getters)
                    raise
            return self.items.popleft()

    async def main() -> None:
        queue = Queue()
        got: list[int] = []

        async def consume() -> None:
            got.append(await queue.get())

        consumers = [asyncio.create_task(consume()) for _ in range(2)]

        async def produce() -> None:
            await asyncio.sleep(0.01)
            queue.put(1)

        await produce()
        async with asyncio.timeout(10):
            done, _ = await asyncio.wait(consumers, return_when=asyncio.FIRST_COMPLETED)
            while not got and len(done) < 2:
                done, _ = await asyncio.wait(consumers, timeout=1, return_when=asyncio.ALL_COMPLETED)
                assert got or len(done) == 2, "an item, somebody who waits for one, and nobody is woken"
        for consumer in consumers:
            consumer.cancel()

    return main


@kernel("cancel", "python/cpython#112202: Condition.notify is lost with a waiter that is cancelled")
def a_notification_is_lost(mended: bool) -> Main:
    class Condition:
        def __init__(self) -> None:
            self.lock = asyncio.Lock()
            self.waiters: deque[Waiter] = deque()

        async def wait(self) -> None:
            self.lock.release()
            waiter = new_waiter()
            self.waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if mended and waiter.done() and not waiter.cancelled():
                    self.waiters.remove(waiter)
                    wake_first(self.waiters)
                raise
            finally:
                if waiter in self.waiters:
                    self.waiters.remove(waiter)
                await self.lock.acquire()

    async def main() -> None:
        condition = Condition()
        free = 1

        async def use() -> None:
            nonlocal free
            async with condition.lock:
                while not free:
                    await condition.wait()
                free -= 1
            try:
                await asyncio.sleep(0.01)
            finally:
                free += 1
                wake_first(condition.waiters)

        users = [asyncio.create_task(use()) for _ in range(4)]
        async with asyncio.timeout(10):
            await asyncio.wait(users)

    return main


@kernel("cancel", "asyncpg, aiopg: a connection that is made for somebody who is gone is lost to the pool")
def a_connection_is_lost_to_its_pool(mended: bool) -> Main:
    async def main() -> None:
        free: asyncio.Queue[int] = asyncio.Queue()
        free.put_nowait(1)

        async def reset(connection: int) -> None:
            await asyncio.sleep(0.001)

        async def use() -> None:
            connection = await free.get()
            try:
                await asyncio.sleep(0.01)
            finally:
                if mended:
                    try:
                        await reset(connection)
                    finally:
                        free.put_nowait(connection)
                else:
                    await reset(connection)
                    free.put_nowait(connection)

        users = [asyncio.create_task(use()) for _ in range(3)]
        async with asyncio.timeout(10):
            await asyncio.wait(users)

    return main
