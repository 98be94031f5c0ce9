"""Races by the timing of the network alone, as reports on clients, pools and servers tell them."""

from __future__ import annotations

import asyncio
import contextlib

from kernels.lines import Client, ask, connect, connected, echo, serving
from kernels.registry import Main, kernel


@kernel("network", "asyncio.Lock as first written: a lock between two owners looks free")
def a_lock_between_two_owners(mended: bool) -> Main:
    class Lock:
        def __init__(self) -> None:
            self.locked = False
            self.waiters: list[asyncio.Future[None]] = []

        async def acquire(self) -> None:
            if not self.locked and not (mended and self.waiters):
                self.locked = True
                return
            waiter = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            await waiter
            self.waiters.remove(waiter)
            self.locked = True

        def release(self) -> None:
            self.locked = False
            if self.waiters and not self.waiters[0].done():
                self.waiters[0].set_result(None)

    async def main() -> None:
        lock = Lock()
        inside: list[str] = []

        async def book(request: str) -> str:
            if request != "ping":
                await lock.acquire()
                assert not inside
                inside.append(request)
                await ask(7001, request)
                inside.remove(request)
                lock.release()
            return request

        async with serving(7000, book), serving(7001, echo):
            await asyncio.gather(ask(7000, "a"), ask(7000, "b"), ask(7000, "ping", "ping", "ping", "c"))

    return main


@kernel("network", "OAuth clients: a request that was refused late refreshes a fresh token")
def a_token_is_refreshed_twice(mended: bool) -> Main:
    async def main() -> None:
        valid = 1
        token = 0
        refreshing: asyncio.Task[str] | None = None

        async def api(request: str) -> str:
            return "200" if request == str(valid) else "401"

        async def auth(request: str) -> str:
            nonlocal valid
            valid += 1
            return str(valid)

        async def call(client: Client, pings: int) -> str:
            nonlocal token, refreshing
            for _ in range(pings):
                await client.ask("ping")
            while True:
                used = token
                if await client.ask(str(used)) == "200":
                    return "200"
                if mended and used != token:
                    continue
                if refreshing is None:
                    refreshing = asyncio.create_task(ask(7001, "refresh"))
                    token = int(await refreshing)
                    refreshing = None
                else:
                    await asyncio.shield(refreshing)
                    await asyncio.sleep(0)

        async with serving(7000, api), serving(7001, auth), contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(7000)) for _ in range(3)]
            await asyncio.gather(*(call(client, at) for at, client in enumerate(clients)))
        assert valid == 2

    return main


@kernel("network", "optimistic locking (Redis WATCH): gives up at the second conflict")
def two_conflicts_in_a_row(mended: bool) -> Main:
    async def main() -> None:
        version = 0

        async def store(request: str) -> str:
            nonlocal version
            if request == "get":
                return str(version)
            if int(request) != version:
                return "conflict"
            version += 1
            return "ok"

        async def update(wait: float) -> None:
            await asyncio.sleep(wait)
            async with connected(7000) as client:
                for _ in range(100 if mended else 2):
                    if await client.ask(await client.ask("get")) == "ok":
                        return
            raise AssertionError("gave up")

        async with serving(7000, store):
            await asyncio.gather(update(0), update(0.01), update(0.02))

    return main


@kernel("network", "config clients: an old answer over one connection overwrites a new one over another")
def an_old_answer_comes_last(mended: bool) -> Main:
    async def main() -> None:
        version = 1
        shown = 0

        async def answer(request: str) -> str:
            return str(version)

        async def refresh() -> None:
            nonlocal shown
            found = int(await ask(7000, "get"))
            if not mended or found > shown:
                shown = found

        async with serving(7000, answer):
            first = asyncio.create_task(refresh())
            await asyncio.sleep(0.03)
            version = 2
            await asyncio.gather(first, asyncio.create_task(refresh()))
        assert shown == 2

    return main


@kernel("network", "aiohttp, grpc: the second failure of a turn meets a future that is done")
def two_failures_in_one_turn(mended: bool) -> Main:
    async def main() -> None:
        failed = asyncio.get_running_loop().create_future()

        async def shut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(int(await reader.readline())):
                writer.write(b"more\n")
                await reader.readline()
            writer.close()

        async def watch(lines: int) -> None:
            async with connected(7000) as client:
                await client.ask(str(lines))
                while await client.ask("go"):
                    pass
                if not (mended and failed.done()):
                    failed.set_result(lines)

        server = await asyncio.start_server(shut, "127.0.0.1", 7000)
        watchers = [asyncio.create_task(watch(lines)) for lines in (2, 4)]
        await failed
        for watcher in watchers:
            watcher.cancel()
        results = await asyncio.gather(*watchers, return_exceptions=True)
        server.close()
        assert not any(isinstance(result, asyncio.InvalidStateError) for result in results), results

    return main


@kernel("network", "StreamWriter.drain before 3.12: one waiter for a connection that two tasks write to")
def two_tasks_wait_for_one_window(mended: bool) -> Main:
    class Window:
        def __init__(self) -> None:
            self.credit = 1
            self.waiters: list[asyncio.Future[None]] = []

        async def take(self) -> None:
            while not self.credit:
                assert mended or not self.waiters
                waiter = asyncio.get_running_loop().create_future()
                self.waiters.append(waiter)
                await waiter
            self.credit -= 1

        def give(self) -> None:
            self.credit += 1
            waiting, self.waiters = self.waiters, []
            for waiter in waiting:
                waiter.set_result(None)

    async def main() -> None:
        window = Window()

        async def send(request: str) -> str:
            if request != "ping":
                await window.take()
                await ask(7001, request)
                window.give()
            return request

        async with serving(7000, send), serving(7001, echo):
            await asyncio.gather(ask(7000, "a"), ask(7000, "ping", "ping", "b"), ask(7000, *["ping"] * 6, "c"))

    return main


@kernel("network", "httpcore, aiohttp: a kept-alive connection is closed as it is used again")
def a_connection_is_closed_as_it_is_used(mended: bool) -> Main:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(TimeoutError, ConnectionError):
                while line := await asyncio.wait_for(reader.readline(), 0.03):
                    writer.write(line)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 7000)
        client = await connect(7000)
        for _ in range(3):
            answer = await client.ask("get")
            while mended and not answer:
                client.close()
                client = await connect(7000)
                answer = await client.ask("get")
            assert answer == "get"
            await asyncio.sleep(0.02)
        client.close()
        server.close()

    return main


@kernel("network", "leases (Redlock): the owner counts from when it was told, not from when it asked")
def a_lease_is_counted_from_its_answer(mended: bool) -> Main:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        owner, ends = "", 0.0

        async def lease(request: str) -> str:
            nonlocal owner, ends
            if owner not in ("", request) and loop.time() < ends:
                return "no"
            owner, ends = request, loop.time() + 0.05
            return "yes"

        async def first() -> None:
            async with connected(7000) as client:
                for _ in range(3):
                    asked = loop.time()
                    if await client.ask("first") != "yes":
                        return
                    mine = (asked if mended else loop.time()) + 0.05
                    for _ in range(3):
                        await asyncio.sleep(0.01)
                        if loop.time() < mine:
                            assert owner == "first"

        async def second() -> None:
            async with connected(7000) as client:
                for _ in range(12):
                    await asyncio.sleep(0.009)
                    await client.ask("second")

        async with serving(7000, lease):
            await asyncio.gather(first(), second())

    return main


@kernel("network", "live queries: what changes between the snapshot and the subscription is missed")
def a_change_before_the_subscription(mended: bool) -> Main:
    async def main() -> None:
        value = 0
        listeners: list[asyncio.Queue[int]] = []

        async def store(request: str) -> str:
            nonlocal value
            if request == "set":
                value += 1
                for listener in listeners:
                    listener.put_nowait(value)
            return str(value)

        async def follow(client: Client) -> None:
            changes: asyncio.Queue[int] = asyncio.Queue()
            if mended:
                listeners.append(changes)
                await client.ask("subscribe")
            seen = int(await client.ask("get"))
            if not mended:
                await client.ask("subscribe")
                listeners.append(changes)
            while seen < 1:
                async with asyncio.timeout(1):
                    seen = max(seen, await changes.get())

        async with serving(7000, store), connected(7000) as client, connected(7000) as other:

            async def change() -> None:
                for _ in range(5):
                    await other.ask("ping")
                await other.ask("set")

            await asyncio.gather(follow(client), change())

    return main


@kernel("network", "HTTP pipelining: answers go out as they are ready, not in order")
def answers_out_of_order(mended: bool) -> Main:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            before: asyncio.Task[None] | None = None

            async def answer(line: str, earlier: asyncio.Task[None] | None) -> None:
                found = await ask(7001, line)
                if mended and earlier is not None:
                    await earlier
                writer.write(f"{found}\n".encode())

            while line := await reader.readline():
                before = asyncio.create_task(answer(line.decode().strip(), before))
            if before is not None:
                await before
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 7000)
        async with serving(7001, echo), connected(7000) as client:
            client.writer.write(b"1\n2\n3\n")
            answers = [(await client.reader.readline()).decode().strip() for _ in range(3)]
            assert answers == ["1", "2", "3"]
        server.close()

    return main


@kernel("network", "databases that refuse the connection too many: a pool without a limit")
def too_many_connections_at_once(mended: bool) -> Main:
    async def main() -> None:
        limit = asyncio.Semaphore(3 if mended else 100)
        used = 0

        async def query(wait: float) -> None:
            nonlocal used
            await asyncio.sleep(wait)
            async with limit:
                used += 1
                assert used <= 3
                async with connected(7000) as client:
                    await client.ask("select")
                    used -= 1

        async with serving(7000, echo):
            await asyncio.gather(*(query(0.007 * at) for at in range(5)))

    return main


@kernel("network", "asyncpg, aiopg: the pool counts a connection only once it is made")
def a_pool_grows_past_its_size(mended: bool) -> Main:
    class Pool:
        def __init__(self) -> None:
            self.free: list[Client] = []
            self.size = self.making = 0
            self.changed = asyncio.Condition()

        async def acquire(self) -> Client:
            async with self.changed:
                while not self.free and self.size + (self.making if mended else 0) >= 2:
                    await self.changed.wait()
                if self.free:
                    return self.free.pop()
                self.making += 1
            client = await connect(7001)
            self.making -= 1
            self.size += 1
            assert self.size <= 2
            return client

        async def release(self, client: Client) -> None:
            async with self.changed:
                self.free.append(client)
                self.changed.notify()

    async def main() -> None:
        pool = Pool()

        async def answer(request: str) -> str:
            if request == "ping":
                return request
            client = await pool.acquire()
            found = await client.ask(request)
            await pool.release(client)
            return found

        async with serving(7000, answer), serving(7001, echo):
            await asyncio.gather(*(ask(7000, *["ping"] * (4 * at), "get", "get") for at in range(3)))
        for client in pool.free:
            client.close()

    return main


@kernel("network", "graceful shutdown: a request that is read, and not counted yet, is cut off")
def a_request_at_the_shutdown(mended: bool) -> Main:
    async def main() -> None:
        active = 0
        idle = asyncio.Event()
        idle.set()
        closing = False

        async def handle(request: str) -> str:
            nonlocal active
            if closing:
                return "503"
            if mended:
                active += 1
                idle.clear()
            await ask(7001, request)
            if not mended:
                active += 1
                idle.clear()
            await ask(7001, request)
            active -= 1
            if not active:
                idle.set()
            assert not stopped
            return "200"

        stopped = False

        async def stop() -> None:
            nonlocal closing, stopped
            for _ in range(3):
                await ask(7001, "healthy?")
            await asyncio.sleep(0.01)
            closing = True
            await idle.wait()
            stopped = True

        async with serving(7000, handle), serving(7001, echo):
            await asyncio.gather(ask(7000, "a"), ask(7000, "b", "c"), stop())

    return main


@kernel("network", "quorums: the first of the answers is taken, not the newest")
def a_quorum_answers_with_an_old_value(mended: bool) -> Main:
    async def main() -> None:
        versions = dict.fromkeys((7000, 7001, 7002), 0)

        async def write(port: int) -> None:
            await ask(port, "1")

        async def read(port: int) -> int:
            # The last of them has the longest way.
            return int(await ask(port, *["ping"] * (port - 7000), "get"))

        def replica(port: int) -> contextlib.AbstractAsyncContextManager[None]:
            async def answer(request: str) -> str:
                if request.isdigit():
                    versions[port] = int(request)
                return str(versions[port])

            return serving(port, answer)

        async with contextlib.AsyncExitStack() as stack:
            for port in versions:
                await stack.enter_async_context(replica(port))
            writes = [asyncio.create_task(write(port)) for port in versions]
            for done in list(asyncio.as_completed(writes))[:2]:
                await done
            reads = [asyncio.create_task(read(port)) for port in versions]
            first_two = [await done for done in list(asyncio.as_completed(reads))[:2]]
            assert (max(first_two) if mended else first_two[1]) == 1
            await asyncio.wait([*writes, *reads])

    return main


@kernel("network", "retries: the last of three attempts is as late as the others")
def three_attempts_are_too_late(mended: bool) -> Main:
    async def main() -> None:
        async def attempt() -> bool:
            async with connected(7000) as client:
                try:
                    async with asyncio.timeout(0.03):
                        return await client.ask("a") == "a"
                except TimeoutError:
                    return False

        async with serving(7000, echo):
            for _ in range(3):
                if await attempt():
                    return
                await asyncio.sleep(0.1)
            # Wrong: it takes for granted that one of the three is in time.
            assert mended

    return main


@kernel("network", "health checks: two that are late make a second leader, of whom the first one never hears")
def two_missed_beats_make_two_leaders(mended: bool) -> Main:
    async def main() -> None:
        leaders = {"one"}

        async with serving(7000, echo):
            missed = 0
            for _ in range(5):
                async with connected(7000) as client:
                    try:
                        async with asyncio.timeout(0.03):
                            await client.ask("beat")
                            missed = 0
                    except TimeoutError:
                        missed += 1
                if missed == 2:
                    leaders.add("two")
                    if mended:
                        leaders.discard("one")
                    break
                await asyncio.sleep(0.1)
        assert len(leaders) == 1

    return main
