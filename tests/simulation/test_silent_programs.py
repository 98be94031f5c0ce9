"""Programs that only end, which run without a loop: nobody can tell them from a main function that returns."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

import simloop
from simloop.simulation.run import run


def register(silent: bool, returncode: int = 0) -> None:
    if silent:
        simloop.current().program("tool", returncode=returncode)
        return

    @simloop.current().program("tool")
    async def tool(proc: simloop.SimProcess) -> int:
        return returncode


both = pytest.mark.parametrize("silent", [True, False])


@both
def test_it_ends_a_millisecond_after_its_start(silent: bool) -> None:
    async def main() -> tuple[int, float]:
        register(silent, 3)
        process = await asyncio.create_subprocess_exec("tool")
        return await process.wait(), round(simloop.current().elapsed, 3)

    assert run(main) == (3, 0.001)


@both
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGUSR1, signal.SIGHUP])
def test_signals_end_it_before_it_has_begun(silent: bool, number: int) -> None:
    async def main() -> int:
        register(silent)
        process = await asyncio.create_subprocess_exec("tool")
        process.send_signal(number)
        return await process.wait()

    assert run(main) == -number


@both
def test_it_does_not_end_while_it_is_stopped(silent: bool) -> None:
    async def main() -> tuple[int, int]:
        register(silent)
        process = await asyncio.create_subprocess_exec("tool")
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 10)
        process.send_signal(signal.SIGCONT)
        return await process.wait(), round(simloop.current().elapsed)

    assert run(main) == (0, 10)


@both
def test_it_ignores_what_its_parent_ignores(silent: bool) -> None:
    async def main() -> int:
        register(silent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        process = await asyncio.create_subprocess_exec("tool")
        process.send_signal(signal.SIGINT)
        return await process.wait()

    assert run(main) == 0


@both
def test_its_parent_gets_sigchld_and_need_not_have_it(silent: bool) -> None:
    async def main() -> list[str]:
        register(silent)
        told: list[str] = []
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, told.append, "child")
        os.posix_spawn("tool", ["tool"], {})
        await asyncio.sleep(1)
        os.wait()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.posix_spawn("tool", ["tool"], {})
        await asyncio.sleep(1)
        with pytest.raises(ChildProcessError):
            os.wait()
        return told

    assert run(main) == ["child"]


@both
def test_a_machine_without_power_ends_nothing(silent: bool) -> None:
    async def main() -> None:
        sim = simloop.current()
        register(silent)
        host = sim.host("far")

        async def start() -> None:
            await asyncio.create_subprocess_exec("tool")
            host.crash()

        with pytest.raises(simloop.HostCrashedError):
            await host.run(start)
        await asyncio.sleep(1)

    run(main)


@both
@pytest.mark.parametrize("wanted", ["before", "after"])
def test_its_end_may_meet_any_timer_of_the_next_milliseconds(silent: bool, wanted: str) -> None:
    async def main() -> None:
        register(silent)
        order: list[str] = []

        async def tick() -> None:
            await asyncio.sleep(0.0105 if wanted == "before" else 0.0002)
            order.append("timer")

        async def child() -> None:
            process = await asyncio.create_subprocess_exec("tool")
            await process.wait()
            order.append("child")

        await asyncio.gather(tick(), child())
        assert order == (["child", "timer"] if wanted == "before" else ["timer", "child"])

    failure = simloop.explore(main, runs=200).failure
    assert failure is not None
    assert len(failure.schedule.deviations) == 1


@both
def test_its_end_may_come_just_as_a_timer_is_due(silent: bool) -> None:
    async def main() -> None:
        register(silent)
        timer = asyncio.create_task(asyncio.sleep(0.0105))
        process = await asyncio.create_subprocess_exec("tool")
        await process.wait()
        assert abs(simloop.current().elapsed - 0.0105) > 0.001
        await timer

    failure = simloop.explore(main, runs=200, max_stall=0).failure
    assert failure is not None
    assert len(failure.schedule.deviations) == 1


# --- what belongs to the process whose turn it is --------------------------------------------------------


def test_async_generators_end_in_the_loop_that_began_them() -> None:
    """Whichever process's turn its loop's turn is in the middle of."""

    async def main() -> list[tuple[str, bool]]:
        ended: list[tuple[str, bool]] = []

        async def numbers(whose: str) -> Any:
            loop = asyncio.get_running_loop()
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                ended.append((whose, asyncio.get_running_loop() is loop))

        async def leave_one(whose: str) -> None:
            async for _ in numbers(whose):
                break
            await asyncio.sleep(0.01)

        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            await leave_one("tool")
            open_one = numbers("closed at the end")
            await anext(open_one)
            ended.append(("open", True))
            sys.modules[__name__].__dict__["kept"] = open_one

        process = await asyncio.create_subprocess_exec("tool")
        await leave_one("test")
        await process.wait()
        return sorted(ended)

    assert run(main) == [("closed at the end", True), ("open", True), ("test", True), ("tool", True)]
