"""A loop that nobody runs does nothing, whatever goes on in other loops of the process."""

from __future__ import annotations

import asyncio

import simloop


def test_a_loop_between_two_runs_stands_still() -> None:
    ran: list[str] = []

    def program() -> None:
        idle = asyncio.new_event_loop()
        idle.call_soon(ran.append, "callback")
        idle.call_later(0.5, ran.append, "timer")
        asyncio.run(asyncio.sleep(3))
        ran.append("the other loop is done")
        idle.run_until_complete(asyncio.sleep(1))
        idle.close()

    with simloop.world():
        program()
    assert ran == ["the other loop is done", "callback", "timer"]
