"""Races of threads that ordinary programs have: each is found in a campaign of the default size, from independent
seeds, and its mended version is clean."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pairs import Main, Pair, hold, pair_into

import simloop

PAIRS: list[Pair] = []
pair = pair_into(PAIRS)


async def both(*jobs: Callable[[], object]) -> None:
    await asyncio.gather(*(asyncio.to_thread(job) for job in jobs))


@pair
def an_update_of_a_file_is_lost(mended: bool) -> Main:
    def count(lock: contextlib.AbstractContextManager[Any]) -> None:
        with lock:
            with open("/n") as file:
                number = int(file.read() or 0)
            with open("/n", "w") as file:
                file.write(str(number + 1))

    async def main() -> None:
        simloop.current().fs.write_tree({"/": {"n": "0"}})
        lock = threading.Lock() if mended else contextlib.nullcontext()
        await both(lambda: count(lock), lambda: count(lock))
        assert simloop.current().fs.read_text("/n") == "2"

    return main


@pair
def a_file_is_gone_after_it_was_looked_for(mended: bool) -> Main:
    def move(target: str) -> None:
        if mended:
            with contextlib.suppress(FileNotFoundError):
                os.rename("/x", target)
        elif os.path.exists("/x"):
            os.rename("/x", target)

    async def main() -> None:
        simloop.current().fs.write_tree({"/": {"x": "1"}})
        await both(lambda: move("/y"), lambda: move("/z"))

    return main


@pair
def two_saves_share_a_temporary_file(mended: bool) -> Main:
    def save(value: str) -> None:
        temporary = f"/state.{value}" if mended else "/state.tmp"
        with open(temporary, "w") as file:
            json.dump({"value": value}, file)
        os.replace(temporary, "/state")

    async def main() -> None:
        await both(lambda: save("one"), lambda: save("another"))
        assert json.loads(simloop.current().fs.read_text("/state"))["value"]

    return main


@pair
def a_loop_is_closed_after_it_was_looked_at(mended: bool) -> Main:
    def wake(loop: asyncio.AbstractEventLoop) -> None:
        if mended:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(print)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(print)

    async def main() -> None:
        failed: list[BaseException] = []
        loop = asyncio.new_event_loop()

        def run() -> None:
            try:
                wake(loop)
            except RuntimeError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        loop.close()
        await asyncio.to_thread(thread.join)
        assert not failed

    return main


@pair
def a_queue_is_empty_after_it_was_looked_at(mended: bool) -> Main:
    def take(items: queue.SimpleQueue[int]) -> None:
        if mended:
            with contextlib.suppress(queue.Empty):
                items.get_nowait()
        elif not items.empty():
            items.get(timeout=0)

    async def main() -> None:
        items: queue.SimpleQueue[int] = queue.SimpleQueue()
        items.put(1)
        await both(lambda: take(items), lambda: take(items))

    return main


@pair
def a_lock_file_is_taken_twice(mended: bool) -> Main:
    def take(mine: list[int]) -> None:
        if mended:
            with contextlib.suppress(FileExistsError):
                os.close(os.open("/lock", os.O_CREAT | os.O_EXCL))
                mine.append(1)
        elif not os.path.exists("/lock"):
            os.close(os.open("/lock", os.O_CREAT))
            mine.append(1)

    async def main() -> None:
        mine: list[int] = []
        await both(lambda: take(mine), lambda: take(mine))
        assert len(mine) == 1

    return main


@pair
def two_locks_are_taken_in_two_orders(mended: bool) -> Main:
    async def main() -> None:
        first, second = threading.Lock(), threading.Lock()

        def work(one: threading.Lock, other: threading.Lock) -> None:
            with one, other:
                pass

        orders = [(first, second), (first, second) if mended else (second, first)]
        await both(*(lambda order=order: work(*order) for order in orders))

    return main


@pair
def a_file_is_there_at_the_first_of_two_looks(mended: bool) -> Main:
    """Program whose race needs two preemptions: of the writer between its two calls, and then of the reader."""

    def write() -> None:
        os.close(os.open("/flag", os.O_CREAT))
        os.unlink("/flag")

    def read() -> None:
        if mended:
            with contextlib.suppress(FileNotFoundError):
                os.stat("/flag")
        elif os.path.exists("/flag"):
            os.stat("/flag")

    async def main() -> None:
        await both(write, read)

    return main


@pytest.mark.parametrize(("wrong", "mended"), PAIRS, ids=[wrong.__name__ for wrong, _ in PAIRS])
def test_the_race_is_found_and_the_mended_program_is_clean(wrong: Main, mended: Main) -> None:
    hold(wrong, mended)
