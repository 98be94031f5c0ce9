"""What Linux guarantees of processes and signals holds in every run.

Each program runs once on stock asyncio with real processes, and is then explored with ones that are played.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sizes import examples

import simloop

RUNS = examples(300)
PIPE = asyncio.subprocess.PIPE
Program = Callable[[], Coroutine[Any, Any, Any]]
PROGRAMS: list[tuple[Program, Any]] = []

# The real ones, and below how they are played.
WRITES = "import sys; sys.stdout.write('x' * 200_000); sys.exit(3)"
EXITS = "import sys; sys.exit(int(sys.argv[1]))"
CAT = "import sys; sys.stdout.write(sys.stdin.read())"
LISTENS = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda number, frame: os.write(1, b"signal "))
os.write(1, b"ready\\n")
os.write(1, sys.stdin.readline().encode())
"""
WAITS = """
import os, signal, sys, time
def stop(number, frame):
    os.write(1, b"stopped")
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
os.write(1, b"ready\\n")
time.sleep(60)
"""
SLEEPS = "import os, time; os.write(1, b'ready\\n'); time.sleep(60)"


def play(sim: simloop.Sim) -> None:
    @sim.program(sys.executable, "-c", WRITES)
    async def writes(proc: simloop.SimProcess) -> int:
        proc.stdout.write(b"x" * 200_000)
        return 3

    @sim.program(sys.executable, "-c", EXITS)
    async def exits(proc: simloop.SimProcess) -> int:
        return int(proc.argv[3])

    @sim.program(sys.executable, "-c", CAT)
    async def cat(proc: simloop.SimProcess) -> None:
        proc.stdout.write(await proc.stdin.read())

    @sim.program(sys.executable, "-c", LISTENS)
    async def listens(proc: simloop.SimProcess) -> None:
        signal.signal(signal.SIGUSR1, lambda number, frame: os.write(1, b"signal ") and None)
        os.write(1, b"ready\n")
        os.write(1, await proc.stdin.readline())

    @sim.program(sys.executable, "-c", WAITS)
    async def waits(proc: simloop.SimProcess) -> None:
        def stop(number: int, frame: object) -> None:
            os.write(1, b"stopped")
            sys.exit(3)

        signal.signal(signal.SIGTERM, stop)
        os.write(1, b"ready\n")
        await asyncio.sleep(60)

    @sim.program(sys.executable, "-c", SLEEPS)
    async def sleeps(proc: simloop.SimProcess) -> None:
        os.write(1, b"ready\n")
        await asyncio.sleep(60)


def gives(expected: Any) -> Callable[[Program], Program]:
    def note(program: Program) -> Program:
        PROGRAMS.append((program, expected))
        return program

    return note


async def start(code: str, *arguments: str, **options: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", code, *arguments, stdout=PIPE, **options)


async def ready(code: str, **options: Any) -> asyncio.subprocess.Process:
    child = await start(code, **options)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ready\n"
    return child


@gives((200_000, 3))
async def nothing_that_was_written_before_the_end_is_lost() -> tuple[int, int | None]:
    child = await start(WRITES)
    out, _ = await child.communicate()
    return len(out), child.returncode


@gives((200_000, 3))
async def what_is_read_after_the_end_is_all_of_it() -> tuple[int, int]:
    child = await start(WRITES)
    assert child.stdout is not None
    reading = asyncio.create_task(child.stdout.read())
    code = await child.wait()
    return len(await reading), code


@gives([0, 1, 2, 3])
async def exit_codes_are_not_mixed_up() -> list[int]:
    children = [await start(EXITS, str(code)) for code in range(4)]
    return list(await asyncio.gather(*(child.wait() for child in children)))


@gives(b"hello")
async def the_end_of_its_input_comes_after_all_of_it() -> bytes:
    child = await start(CAT, stdin=PIPE)
    out, _ = await child.communicate(b"hello")
    return out


@gives((b"stopped", 3))
async def a_signal_after_the_handler_is_handled() -> tuple[bytes, int | None]:
    child = await ready(WAITS)
    child.terminate()
    out, _ = await child.communicate()
    return out, child.returncode


@gives(b"signal line\n")
async def a_signal_comes_before_what_its_sender_wrote_after_it() -> bytes:
    child = await ready(LISTENS, stdin=PIPE)
    child.send_signal(signal.SIGUSR1)
    out, _ = await child.communicate(b"line\n")
    return out


@gives((-signal.SIGKILL, "nobody"))
async def a_process_that_was_waited_for_is_gone() -> tuple[int, str]:
    child = await ready(SLEEPS)
    child.kill()
    code = await child.wait()
    try:
        os.kill(child.pid, 0)
    except ProcessLookupError:
        return code, "nobody"
    return code, "somebody"


@gives(True)
async def a_zombie_keeps_its_pid() -> bool:
    child = subprocess.Popen([sys.executable, "-c", EXITS, "0"])
    await asyncio.sleep(0.5)
    os.kill(child.pid, 0)
    child.kill()
    return child.wait() == 0


@gives(["still there", -signal.SIGTERM])
async def who_is_stopped_does_not_end() -> list[Any]:
    seen: list[Any] = []
    child = await ready(SLEEPS)
    child.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.1)
    child.terminate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await child.wait()
    if child.returncode is None:
        seen.append("still there")
    child.send_signal(signal.SIGCONT)
    seen.append(await child.wait())
    return seen


@gives([signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1])
async def a_loop_sees_its_signals_in_order() -> list[int]:
    loop = asyncio.get_running_loop()
    seen: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, seen.append, number)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    await asyncio.sleep(0.1)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.1)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.remove_signal_handler(number)
    return seen


@gives(["handler", "after kill"])
async def who_signals_himself_is_interrupted_at_once() -> list[str]:
    seen: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append("handler"))
    os.kill(os.getpid(), signal.SIGUSR1)
    seen.append("after kill")
    signal.signal(signal.SIGUSR1, before)
    return seen


@pytest.mark.parametrize(("program", "expected"), PROGRAMS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_run_agrees_with_linux(program: Program, expected: Any) -> None:
    assert asyncio.run(program()) == expected, "the expectation itself does not hold on Linux"

    async def main() -> None:
        play(simloop.current())
        assert await program() == expected

    report = simloop.explore(main, runs=RUNS, blocking="ignore")
    assert report.failure is None, report.failure.describe()
