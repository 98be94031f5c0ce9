"""`host.slow`: the loops of a starved machine lag behind, and nobody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import simloop


async def worked(turns: int = 100) -> float:
    """Virtual seconds that so many turns take."""
    began = simloop.current().elapsed
    for _ in range(turns):
        await asyncio.sleep(0)
    return round(simloop.current().elapsed - began, 2)


def test_its_turns_take_longer_and_nobody_elses() -> None:
    async def main() -> Any:
        sim = simloop.current()
        sim.host("slow").slow(5000)
        slow = asyncio.create_task(sim.host("slow").run(worked))
        await asyncio.sleep(1)
        return await sim.host("other").run(worked), await worked(), await slow

    assert simloop.run(main) == (0, 0, pytest.approx(10, abs=0.2))


def test_every_callback_counts() -> None:
    async def ten_at_once() -> float:
        began = simloop.current().elapsed
        await asyncio.gather(*(worked(1) for _ in range(10)))
        return simloop.current().elapsed - began

    async def main() -> Any:
        host = simloop.current().host("slow")
        host.slow(5001)
        return await host.run(ten_at_once)

    assert simloop.run(main) > 2


def test_it_ends_with_its_block() -> None:
    async def main() -> Any:
        host = simloop.current().host("slow")
        with host.slow(100), host.slow(5000):
            first = await host.run(worked)
        with host.slow(100):
            second = await host.run(worked)
        return first, second, await host.run(worked)

    assert simloop.run(main) == (pytest.approx(10, abs=0.2), pytest.approx(0.2, abs=0.02), 0)


def test_its_timers_are_late_and_its_answers_too() -> None:
    async def serve() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line)
            writer.close()

        async with await asyncio.start_server(echo, "0.0.0.0", 7):
            await asyncio.sleep(60)

    async def main() -> None:
        sim = simloop.current()
        serving = asyncio.create_task(sim.host("slow").run(serve))
        await asyncio.sleep(1)
        reader, writer = await asyncio.open_connection("slow", 7)
        for factor, least, most in ((1, 0, 0.1), (10_000, 0.2, 2)):
            with sim.host("slow").slow(factor):
                began = sim.elapsed
                writer.write(b"x\n")
                await reader.readline()
                writer.write(b"x\n")
                await reader.readline()
                assert least <= sim.elapsed - began <= most
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(1)
        serving.cancel()
        await asyncio.wait([serving])

    simloop.run(main)


@pytest.mark.parametrize("end", ["crash", "pause", "converges"])
def test_it_can_lose_power_stand_still_and_recover_meanwhile(end: str) -> None:
    async def main() -> Any:
        sim = simloop.current()
        host = sim.host("slow")
        host.slow(5000)
        working = asyncio.create_task(host.run(worked))
        await asyncio.sleep(1.05)
        if end == "crash":
            host.crash()
            with pytest.raises(simloop.HostCrashedError):
                await working
            return 0
        if end == "pause":
            host.pause()
            await asyncio.sleep(30)
            host.resume()
            return await working
        await sim.converges(working.done, within=1)
        return await working

    assert simloop.run(main) == pytest.approx({"crash": 0, "pause": 40, "converges": 1.1}[end], abs=0.3)


def test_runs_of_a_seed_are_equal() -> None:
    async def main() -> list[float]:
        sim = simloop.current()
        hosts = [sim.host(name) for name in "abc"]
        for number, host in enumerate(hosts):
            host.slow(100 * number + 1)
        return list(await asyncio.gather(*(host.run(worked) for host in hosts)))

    for seed in range(5):
        assert simloop.run(main, seed=seed) == simloop.run(main, seed=seed)


@pytest.mark.parametrize("factor", [0, 0.5, -1, True, "2", float("inf"), float("nan")])
def test_a_wrong_factor_is_told_in_one_line(factor: Any) -> None:
    async def main() -> None:
        simloop.current().host("slow").slow(factor)

    with pytest.raises(simloop.ConfigurationError) as caught:
        simloop.run(main)
    line = main.__code__.co_firstlineno + 1
    assert str(caught.value) == f"{__file__}:{line}: factor must be a number of at least 1, not {factor!r}"


def test_the_tests_own_host_is_not_slow() -> None:
    async def main() -> None:
        simloop.current().host("localhost").slow(2)

    with pytest.raises(simloop.WorldError, match="be slow"):
        simloop.run(main)
