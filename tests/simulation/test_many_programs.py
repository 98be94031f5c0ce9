"""A run may start any number of programs: those that are gone are forgotten, and nobody misses them."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.kernel.process.table import PROCESSES_START
from simloop.world.world import World

MANY = 4 * PROCESSES_START


def known() -> list[str]:
    return [process.name for process in simloop.current()._world.processes]


async def start(*command: str) -> Any:
    return await asyncio.create_subprocess_exec(*command)


@pytest.mark.parametrize("has_main", [False, True])
def test_programs_that_are_gone_are_forgotten(has_main: bool) -> None:
    async def main() -> None:
        program = simloop.current().program("one", returncode=3)
        if has_main:

            @program
            async def one(proc: simloop.SimProcess) -> int:
                await asyncio.sleep(0)
                return 3

        for _ in range(MANY):
            assert await (await start("one")).wait() == 3
            assert len(known()) <= PROCESSES_START
        assert len(program.calls) == MANY

    simloop.run(main)


def test_who_is_still_there_or_unwaited_for_is_not() -> None:
    async def main() -> None:
        simloop.current().program("short")
        simloop.current().program("long", takes=60.0)
        long, zombie = await start("long"), await start("short")
        transport = zombie._transport
        await asyncio.sleep(1)
        hosted = asyncio.ensure_future(simloop.current().host("web").run(lambda: asyncio.sleep(60, "served")))
        for _ in range(MANY):
            await (await start("short")).wait()
        assert {"localhost", "localhost:long", "web"} < set(known())
        long.send_signal(9)
        assert await long.wait() == -9
        assert await hosted == "served"
        assert transport.get_returncode() == 0

    simloop.run(main)


def test_a_zombie_is_told_after_many_others() -> None:
    async def main() -> None:
        simloop.current().program("one")
        kept.append(subprocess.Popen(["one"]))
        await asyncio.sleep(1)
        for _ in range(MANY):
            await (await start("one")).wait()

    kept: list[subprocess.Popen[bytes]] = []
    with pytest.warns(ResourceWarning, match=r"child localhost:one \(.* is a zombie"):
        simloop.run(main)


def test_what_the_forgotten_have_seen_stays_in_the_fingerprint() -> None:
    def fingerprint(order: int, forgets: bool) -> int:
        world = World(Choices())
        for number in range(2):
            process = world.add_process(world.root.host, "one")
            process.status, process.order = 0, order + number
        orphan = world.add_process(world.root.host, "runs")
        if forgets:
            world.processes._forget_reaped()
            assert list(world.processes) == [world.root, orphan]
        return world.fingerprint()

    assert fingerprint(1, True) == fingerprint(1, True)
    assert len({fingerprint(order, forgets) for order in (1, 2) for forgets in (False, True)}) == 4


def test_output_after_the_end_goes_where_it_went_before(capsys: pytest.CaptureFixture[str]) -> None:
    ended: list[simloop.SimProcess] = []

    async def main() -> None:
        @simloop.current().program("one")
        async def one(proc: simloop.SimProcess) -> None:
            ended.append(proc)

        await (await start("one")).wait()
        ended[0].stdout.write(b"late\n")
        ended[0].stdout.close()

    simloop.run(main)
    assert capsys.readouterr().out == "late\n"
