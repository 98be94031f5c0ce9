"""What the environment does to processes is told in words."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.schedule import Schedule
from simloop.explore.campaign import Campaign
from simloop.explore.strategies.delay import DelaySweep
from simloop.explore.strategies.timeout import TimeoutSweep
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

Main = Callable[[], Coroutine[Any, Any, None]]
PIPE = asyncio.subprocess.PIPE


async def exits() -> None:
    """The process that ends first is taken for the one that is heard of first."""
    sim = simloop.current()
    sim.program("quick", takes=0.1)
    sim.program("slow", takes=0.11)
    seen: list[str] = []

    async def run(name: str) -> None:
        process = await asyncio.create_subprocess_exec(name)
        await process.wait()
        seen.append(name)

    await asyncio.gather(run("quick"), run("slow"))
    assert seen == ["quick", "slow"]


async def close_exits() -> None:
    """The program that is done first is taken to write first."""
    sim = simloop.current()
    log: list[str] = []

    @sim.program("worker")
    async def worker(proc: simloop.SimProcess) -> None:
        await asyncio.sleep(float(proc.argv[1]))
        log.append(proc.argv[1])

    processes = [await asyncio.create_subprocess_exec("worker", after) for after in ("0.1", "0.102")]
    await asyncio.gather(*[process.wait() for process in processes])
    assert log == ["0.1", "0.102"]


async def late_exit() -> None:
    """A program is taken to be heard of as soon as it has ended."""
    sim = simloop.current()
    ended: list[float] = []

    @sim.program("tool")
    async def tool(proc: simloop.SimProcess) -> None:
        ended.append(sim.elapsed)

    process = await asyncio.create_subprocess_exec("tool")
    await process.wait()
    assert sim.elapsed - ended[0] < 0.015


async def signals() -> None:
    """A signal is taken to be seen before what its sender writes after it."""
    got: list[str] = []

    @simloop.current().program("daemon")
    async def daemon(proc: simloop.SimProcess) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, got.append, "signal")
        proc.stdout.write(b"ready\n")
        await proc.stdin.readline()
        got.append("line")

    process = await asyncio.create_subprocess_exec("daemon", stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    await process.communicate(b"line\n")
    assert got == ["signal", "line"]


async def starts() -> None:
    """Two programs that were started one after the other are taken to write in that order."""
    log: list[str] = []

    @simloop.current().program("worker")
    async def worker(proc: simloop.SimProcess) -> None:
        log.append(proc.argv[1])

    first = await asyncio.create_subprocess_exec("worker", "1")
    second = await asyncio.create_subprocess_exec("worker", "2")
    await first.wait()
    await second.wait()
    assert log == ["1", "2"]


async def turns() -> None:
    """Two programs that are told to go at once are taken to go in that order."""
    log: list[str] = []

    @simloop.current().program("worker")
    async def worker(proc: simloop.SimProcess) -> None:
        proc.stdout.write(b"ready\n")
        await proc.stdin.readline()
        log.append(proc.argv[1])

    async def start(name: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec("worker", name, stdin=PIPE, stdout=PIPE)
        assert process.stdout is not None
        await process.stdout.readline()
        return process

    first, second = await start("1"), await start("2")
    await asyncio.gather(first.communicate(b"go\n"), second.communicate(b"go\n"))
    assert log == ["1", "2"]


def runner(main: Main) -> Any:
    return lambda choices, observer=None, **_: execute(main, choices, Limits(), observer)


def found_by_a_sweep(main: Main) -> Schedule:
    """Return the first schedule that fails of those that a campaign's sweeps try: always the same one deviation."""
    canonical = execute(main, Choices(0, None), Limits()).choices
    for sweep in (TimeoutSweep(0, lambda: 300), DelaySweep(0, lambda: 300)):
        sweep.observe(canonical, False)
        while (plan := sweep.plan()) is not None:
            outcome = execute(main, Choices(plan.seed, plan.decide), Limits())
            if outcome.exception is not None:
                return Schedule(deviations=outcome.choices.deviations())
    raise AssertionError("no deviation makes it fail")


@pytest.mark.parametrize(
    ("main", "sentence"),
    [
        (
            exits,
            r"the end of process quick was delayed until just after the timer of process slow, started at \S+, was due",
        ),
        (
            close_exits,
            r"the poll that waited for the timer of task worker\(\) at \S+ returned [12]\.\d+ ms late, after the timer "
            r"of task worker#2\(\) at \S+ had fired in process worker#2",
        ),
        # Up to Python 3.11 a thread waits for it.
        (late_exit, r"the (end of|thread that waits for) process tool was (seen|started) 20 ms later"),
        (signals, r"SIGHUP to process daemon was seen by its loop (one turn|\d turns) later"),
        (starts, r"process worker#2, started at \S+\.py:\d+, began at once"),
        (turns, r"process worker(#2)?(, started at \S+,)? (ran|began) .*"),
    ],
)
def test_it_is_told(main: Main, sentence: str) -> None:
    failure = Campaign(runner(main), "it", saved=[found_by_a_sweep(main)]).explore().failure
    assert failure is not None
    (story,) = failure.story
    assert re.fullmatch(sentence, story)
