"""Ends of simulated processes: threads that Python waits for, handlers of `atexit`, `os._exit`."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import simloop
from simloop.simulation.run import run

LOCK = threading.Lock()


def output_of(body: Callable[[], int | None], number: int | None = None) -> set[tuple[bytes, int | None]]:
    """Return output and exit code of a program, in each run. If `number` is given, it gets that signal once it has said
    something."""

    async def main() -> tuple[bytes, int | None]:
        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> int | None:
            return body()

        child = await asyncio.create_subprocess_exec("tool", stdout=-1)
        assert child.stdout is not None
        output = b""
        if number is not None:
            output = await child.stdout.readline()
            child.send_signal(number)
        output += await child.stdout.read()
        return output, await child.wait()

    return {run(main, seed=seed, blocking="ignore") for seed in range(50)}


def says_later() -> None:
    time.sleep(1)
    os.write(1, b"later\n")


def test_the_end_waits_for_threads_but_for_daemons() -> None:
    def body() -> int:
        threading.Thread(target=says_later).start()
        threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
        return 3

    assert output_of(body) == {(b"later\n", 3)}


def test_the_end_waits_for_jobs() -> None:
    def body() -> None:
        kept.append(ThreadPoolExecutor(1))
        for _ in range(2):
            kept[-1].submit(says_later)

    kept: list[ThreadPoolExecutor] = []
    assert output_of(body) == {(b"later\nlater\n", 0)}
    with pytest.raises(RuntimeError, match="after shutdown"):
        kept[-1].submit(int)


def test_signals_come_while_the_end_waits() -> None:
    def body() -> None:
        signal.signal(signal.SIGUSR1, lambda number, frame: os.write(1, b"handled\n") and None)
        threading.Thread(target=says_later).start()
        os.write(1, b"waits\n")

    assert output_of(body, signal.SIGUSR1) == {(b"waits\nhandled\nlater\n", 0)}
    assert output_of(body, signal.SIGTERM) == {(b"waits\n", -signal.SIGTERM)}


def test_handlers_of_the_end() -> None:
    def body() -> int:
        for word in (b"3", b"no", b"2", b"1"):
            atexit.register(os.write, 1, word) if word != b"no" else atexit.register(unwanted)
        atexit.unregister(unwanted)
        threading.Thread(target=says_later).start()
        return 4

    def unwanted() -> None:
        os.write(1, b"no")

    assert output_of(body) == {(b"later\n123", 4)}


def test_exit_at_once_from_wherever_it_is() -> None:
    def body() -> None:
        atexit.register(os.write, 1, b"no")
        try:
            os._exit(7)
        finally:
            os.write(1, b"no")

    def beside() -> None:
        threading.Thread(target=os._exit, args=[8]).start()
        time.sleep(60)
        os.write(1, b"no")

    assert output_of(body) == {(b"", 7)}
    assert output_of(beside) == {(b"", 8)}


def test_what_is_unwound_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        try:
            os.write(1, b"sleeps\n")
            time.sleep(60)
        finally:
            os.write(1, b"no")

    assert output_of(body, signal.SIGKILL) == {(b"sleeps\n", -signal.SIGKILL)}
    assert capfd.readouterr().out == ""


def test_exit_at_once_of_the_test_itself_escapes() -> None:
    async def main() -> None:
        os._exit(0)

    with pytest.raises(simloop.EscapedSimulationError, match="would end the test"):
        run(main)


def test_threads_of_who_is_killed_give_back_what_they_share() -> None:
    def body() -> None:
        def work() -> None:
            with LOCK:
                os.write(1, b"locked\n")
                time.sleep(60)

        threading.Thread(target=work).start()
        time.sleep(60)

    assert output_of(body, signal.SIGKILL) == {(b"locked\n", -signal.SIGKILL)}

    async def main() -> float:
        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            body()

        child = await asyncio.create_subprocess_exec("tool", stdout=-1)
        assert child.stdout is not None
        await child.stdout.readline()
        child.kill()
        await child.communicate()
        await asyncio.to_thread(LOCK.acquire)
        LOCK.release()
        return simloop.current().elapsed

    assert all(run(main, seed=seed, blocking="ignore") < 1 for seed in range(50))


def test_each_process_knows_its_own_threads() -> None:
    async def main() -> list[Any]:
        gate = threading.Event()
        seen: list[Any] = []

        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            thread = threading.Thread(target=gate.wait)
            thread.start()
            seen.append([thread.name for thread in threading.enumerate()])
            seen.append(threading.active_count())
            gate.set()
            thread.join()

        here = threading.Thread(target=gate.wait)
        here.start()
        child = await asyncio.create_subprocess_exec("tool")
        await child.wait()
        here.join()
        return seen

    for seed in range(20):
        assert run(main, seed=seed, blocking="ignore") == [["MainThread", "Thread-1 (wait)"], 2]
