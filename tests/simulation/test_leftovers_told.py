"""What is told at the end of a run, when no process goes on any more."""

from __future__ import annotations

import asyncio
import time

import simloop
from simloop.choices.choices import Choices
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute


def test_nobody_goes_first_while_leftovers_are_told() -> None:
    told: list[float] = []

    async def stays() -> None:
        def tell(loop: object, context: object) -> None:
            told.append(time.time())

        asyncio.get_running_loop().set_exception_handler(tell)
        await asyncio.sleep(1000)

    async def main() -> None:
        sim = simloop.current()
        for name in ("a", "b"):
            keep.append(asyncio.create_task(sim.host(name).run(stays)))
        await asyncio.sleep(1)
        sim.host("a").pause()

    keep: list[asyncio.Task[None]] = []
    # Before each look at a clock others would go first.
    choices = Choices(0, lambda who, kind, number, n: 1 if kind == "process.switch" else 0)
    outcome = execute(main, choices, Limits(max_hang=5))
    assert outcome.exception is None
    assert told
