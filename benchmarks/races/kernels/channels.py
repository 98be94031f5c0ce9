"""Bugs of Go programs' channels, after GoKer (GoBench, CGO 2021), as programs of queues; bugs of Node programs' events,
after NodeRacer (ICST 2020). Deadlocks, mostly: somebody puts, or gets, where nobody is left at the other end."""

from __future__ import annotations

import asyncio
import contextlib

from kernels.lines import ask, connected, echo, serving
from kernels.registry import Main, kernel


@kernel("network", "GoKer moby_33293: two workers fail, and only one error is ever received")
def nobody_receives_the_second_error(mended: bool) -> Main:
    async def main() -> None:
        errors: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        stop = False

        async def answer(request: str) -> str:
            return "error" if request == "last" else "ok"

        async def work(steps: int) -> None:
            async with connected(7000) as client:
                for step in range(steps):
                    found = await client.ask("last" if step == steps - 1 else "next")
                    if stop:
                        return
                    if found == "error":
                        # A channel without room: whoever sends waits until it is received.
                        received: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                        errors.put_nowait(received)
                        if not mended:
                            await received

        async with serving(7000, answer), asyncio.timeout(10):
            workers = [asyncio.create_task(work(steps)) for steps in (2, 4, 6)]
            (await errors.get()).set_result(None)
            stop = True
            await asyncio.wait(workers)

    return main


@kernel("network", "GoKer kubernetes_5316: the answer comes as the one who asked has given up")
def nobody_waits_for_the_answer(mended: bool) -> Main:
    async def main() -> None:
        async def fetch(answers: asyncio.Queue[str]) -> None:
            found = await ask(7000, "get")
            await answers.put(found)
            if not mended:
                await answers.join()  # a channel without room: until it is taken

        async with serving(7000, echo), asyncio.timeout(10):
            answers: asyncio.Queue[str] = asyncio.Queue()
            fetching = asyncio.create_task(fetch(answers))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(answers.get(), 0.04)
                answers.task_done()
            await fetching

    return main


@kernel("network", "GoKer etcd_6857: a status is asked of a node that stops")
def a_question_to_a_node_that_stops(mended: bool) -> Main:
    async def main() -> None:
        questions: asyncio.Queue[asyncio.Future[str]] = asyncio.Queue()
        stopped = asyncio.Event()

        async def node() -> None:
            while True:
                asked = asyncio.create_task(questions.get())
                stopping = asyncio.create_task(stopped.wait())
                await asyncio.wait([asked, stopping], return_when=asyncio.FIRST_COMPLETED)
                if stopped.is_set():
                    asked.cancel()
                    if mended:
                        if asked.done():
                            asked.result().set_result("stopped")
                        while not questions.empty():
                            questions.get_nowait().set_result("stopped")
                    return
                stopping.cancel()
                asked.result().set_result("fine")

        async def answer(request: str) -> str:
            if request == "stop":
                stopped.set()
            elif request == "status":
                if stopped.is_set():
                    return "stopped"
                question: asyncio.Future[str] = asyncio.get_running_loop().create_future()
                await ask(7001, "may I?")
                if mended and stopped.is_set():
                    return "stopped"
                questions.put_nowait(question)
                return await question
            return request

        async with serving(7000, answer), serving(7001, echo), asyncio.timeout(10):
            running = asyncio.create_task(node())
            await asyncio.gather(ask(7000, "status", "status"), ask(7000, *["ping"] * 20, "stop"))
            await running

    return main


@kernel("network", "GoKer istio_8967: what is shut sets to None what its loop still reads")
def a_watcher_is_shut_as_it_is_told(mended: bool) -> Main:
    async def main() -> None:
        inbox: asyncio.Queue[str] | None = asyncio.Queue()
        failures: list[BaseException] = []

        async def watch() -> None:
            own = inbox
            while True:
                queue = own if mended else inbox
                message = await queue.get()  # type: ignore[union-attr]
                if message == "shut":
                    return
                await ask(7001, message)

        async def answer(request: str) -> str:
            nonlocal inbox
            if request != "ping" and inbox is not None:
                queue = inbox
                if request == "shut":
                    inbox = None
                queue.put_nowait(request)
            return request

        async with serving(7000, answer), serving(7001, echo):
            watching = asyncio.create_task(watch())
            await asyncio.gather(ask(7000, "a"), ask(7000, *["ping"] * 8, "shut"))
            try:
                async with asyncio.timeout(10):
                    await watching
            except AttributeError as error:
                failures.append(error)
        assert not failures

    return main


@kernel("network", "NodeRacer simplecrawler_298: nothing is queued, nothing is loading, but something is being checked")
def a_crawler_is_done_too_early(mended: bool) -> Main:
    async def main() -> None:
        links = {"/": ["/a", "/b"], "/a": [], "/b": ["/c"], "/c": []}
        seen: set[str] = set()
        busy = 0
        done = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def answer(request: str) -> str:
            return " ".join(links.get(request, []))

        async def add(page: str) -> None:
            nonlocal busy
            if mended:
                busy += 1
            await ask(7000, "/robots.txt")
            if not mended:
                busy += 1
            await load(page)

        async def load(page: str) -> None:
            nonlocal busy
            found = (await ask(7000, page)).split()
            assert not done.is_set(), "loaded after the end"
            seen.add(page)
            tasks.extend(asyncio.create_task(add(link)) for link in found)
            await ask(7000, "/favicon.ico")
            await ask(7000, "/favicon.ico")
            busy -= 1
            if not busy:
                done.set()

        async with serving(7000, answer):
            busy += 1
            await load("/")
            async with asyncio.timeout(10):
                await done.wait()
            for task in tasks:
                await task

    return main


@kernel("network", "NodeRacer node-mkdirp_2: a directory is made by both who saw that there was none")
def a_directory_is_made_twice(mended: bool) -> Main:
    async def main() -> None:
        there: set[str] = set()

        async def store(request: str) -> str:
            verb, _, path = request.partition(" ")
            if verb == "stat":
                return "yes" if path in there else "no"
            if verb == "mkdir":
                if path in there:
                    return "exists"
                there.add(path)
            return "ok"

        async def make(wait: float, *paths: str) -> None:
            await asyncio.sleep(wait)
            async with connected(7000) as client:
                for path in paths:
                    if await client.ask(f"stat {path}") == "no":
                        made = await client.ask(f"mkdir {path}")
                        assert made == "ok" or mended, f"{path} exists"

        async with serving(7000, store):
            await asyncio.gather(make(0, "/a", "/a/b"), make(0.005, "/a", "/a/c"), make(0.01, "/a", "/a/b"))

    return main
