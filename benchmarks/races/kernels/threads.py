"""Races of threads that share files, locks and queues: check and then act, read and then write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernels.registry import Main, kernel


async def staggered(work: Callable[..., Any], *arguments: Any, seconds: float) -> list[Any]:
    """Run ``work(argument)`` in a thread for each of the arguments, each so many seconds after the one before."""

    async def run(at: int, argument: Any) -> Any:
        await asyncio.sleep(at * seconds)
        return await asyncio.to_thread(work, argument)

    return await asyncio.gather(*(run(at, argument) for at, argument in enumerate(arguments)))


def lock_if(mended: bool) -> contextlib.AbstractContextManager[Any]:
    return threading.Lock() if mended else contextlib.nullcontext()


@kernel("thread", "counters in files: two jobs read the same number")
def an_update_is_lost(mended: bool) -> Main:
    async def main() -> None:
        lock = lock_if(mended)
        with tempfile.TemporaryDirectory() as folder:
            counter = Path(folder, "counter")
            counter.write_text("0")

            def count(_: int) -> None:
                with lock:
                    counter.write_text(str(int(counter.read_text() or 0) + 1))

            await staggered(count, 1, 2, 3, seconds=0.001)
            assert counter.read_text() == "3"

    return main


@kernel("thread", "lock files: two owners have seen that there was none")
def a_lock_file_has_two_owners(mended: bool) -> Main:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            taken = Path(folder, "lock")

            def claim(number: int) -> bool:
                mine = Path(folder, str(number))
                mine.write_text(str(number))
                if mended:
                    with contextlib.suppress(FileExistsError):
                        os.link(mine, taken)
                        return True
                elif not taken.exists():
                    mine.rename(taken)
                    return True
                return False

            assert sum(await staggered(claim, 1, 2, 3, seconds=0.002)) == 1

    return main


@kernel("thread", "settings in JSON: saved by two jobs, each with its own change")
def a_setting_is_lost(mended: bool) -> Main:
    async def main() -> None:
        lock = lock_if(mended)
        with tempfile.TemporaryDirectory() as folder:
            settings, new = Path(folder, "settings.json"), Path(folder, "settings.new")
            settings.write_text("{}")

            def save(key: str) -> None:
                with lock:
                    content = {**json.loads(settings.read_text()), key: 1}
                    new.write_text(json.dumps(content))
                    with contextlib.suppress(FileNotFoundError):
                        new.replace(settings)

            await staggered(save, "a", "b", "c", seconds=0.003)
            assert sorted(json.loads(settings.read_text() or "{}")) == ["a", "b", "c"]

    return main


@kernel("thread", "logging.handlers: two processes or threads rotate one log")
def a_log_is_rotated_twice(mended: bool) -> Main:
    async def main() -> None:
        lock = lock_if(mended)
        with tempfile.TemporaryDirectory() as folder:
            log, old = Path(folder, "log"), Path(folder, "log.1")

            def write(line: str) -> None:
                with lock:
                    with contextlib.suppress(FileNotFoundError):
                        if log.exists() and log.stat().st_size >= 10:
                            log.rename(old)
                    with log.open("a") as file:
                        file.write(line + "\n")

            await staggered(write, "aaaa", "bbbb", "cccc", "dddd", seconds=0.002)
            lines = [line for file in (old, log) if file.exists() for line in file.read_text().split()]
            assert sorted(lines) == ["aaaa", "bbbb", "cccc", "dddd"]

    return main


@kernel("thread", "lazily made clients: made by two who saw that there was none")
def a_client_is_made_twice(mended: bool) -> Main:
    async def main() -> None:
        lock = lock_if(mended)
        made: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "config")
            config.write_text("x")

            def use(_: int) -> None:
                with lock:
                    if not made:
                        made.append(config.read_text())

            await staggered(use, 1, 2, seconds=0.01)
        assert len(made) == 1

    return main


@kernel("thread", "loops in threads: closed between is_closed() and call_soon_threadsafe()")
def a_loop_is_closed_before_the_call(mended: bool) -> Main:
    async def main() -> None:
        loops: list[asyncio.AbstractEventLoop] = []
        ready, failed = threading.Event(), threading.Event()

        def serve() -> None:
            loop = asyncio.new_event_loop()
            loops.append(loop)
            ready.set()
            loop.run_until_complete(asyncio.sleep(0.02))
            loop.close()

        def call() -> None:
            time.sleep(0.01)
            try:
                if not loops[0].is_closed():
                    time.time()  # as a line of a log is written
                    loops[0].call_soon_threadsafe(ready.clear)
            except RuntimeError:
                if not mended:
                    failed.set()

        server = threading.Thread(target=serve)
        server.start()
        await asyncio.to_thread(ready.wait)
        await asyncio.to_thread(call)
        await asyncio.to_thread(server.join)
        assert not failed.is_set()

    return main


@kernel("thread", "threading.Event: cleared after the work was done, not before")
def a_wake_up_is_cleared(mended: bool) -> Main:
    async def main() -> None:
        work: list[int | None] = []
        woken = threading.Event()
        done: list[int] = []

        def worker() -> None:
            while woken.wait(2):
                if mended:
                    woken.clear()
                while work:
                    if (item := work.pop(0)) is None:
                        return
                    done.append(item)
                    time.sleep(0.001)
                if not mended:
                    woken.clear()

        thread = threading.Thread(target=worker)
        thread.start()
        for number in (1, 2, 3, None):
            work.append(number)
            woken.set()
            await asyncio.sleep(0.01)
        await asyncio.to_thread(thread.join)
        assert (done, work) == ([1, 2, 3], [])

    return main


@kernel("thread", "queue.Queue: empty() and then get_nowait()")
def a_queue_is_empty_after_all(mended: bool) -> Main:
    async def main() -> None:
        jobs: queue.Queue[int] = queue.Queue()
        jobs.put(1)

        def take(_: int) -> None:
            if mended:
                with contextlib.suppress(queue.Empty):
                    jobs.get_nowait()
            elif not jobs.empty():
                jobs.get_nowait()

        await staggered(take, 1, 2, seconds=0.001)

    return main
