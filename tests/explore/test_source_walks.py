"""The strategies after published samplers draw as their papers say, on sources that are known."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import LATE
from simloop.explore.strategies.arrivals import SourceWalk
from simloop.explore.strategies.coincidence import CoincidenceWalk
from simloop.explore.strategies.pct import PCT
from simloop.explore.strategies.pos import POS
from simloop.explore.strategies.surw import SURW

RUNS = 3000
LATEST = LATE["net.deliver"]


def sampled(kind: Callable[[int], SourceWalk], sizes: dict[str, int]) -> list[list[tuple[str, int]]]:
    """Return, for each of many runs, the source and the lateness of each arrival. Sources take turns, as long as they
    have any arrivals left."""
    order = [name for at in range(max(sizes.values())) for name, size in sizes.items() if at < size]

    def run(choices: Choices) -> list[tuple[str, int]]:
        return [(name, choices.choose(f"{name}:1#1>", "net.deliver", 8)) for name in order]

    walk = kind(1)
    canonical = Choices(1)
    run(canonical)
    walk.observe(canonical, False)
    found = []
    for _ in range(RUNS):
        plan = walk.plan()
        found.append(run(Choices(plan.seed, plan.decide)))
    return found


def shares(values: list[object]) -> dict[object, float]:
    return {value: count / len(values) for value, count in Counter(values).items()}


def test_pct_ranks_sources_in_any_order_and_lowers_them_anywhere() -> None:
    found = sampled(PCT, dict.fromkeys("abcd", 5))
    # The first arrivals are before most changes: they tell the ranks, which are all orders of four alike.
    ranks = [tuple(value for _, value in run[:4]) for run in found]
    whole = shares([rank for rank in ranks if LATEST not in rank])
    assert len(whole) == 24
    assert all(abs(share - 1 / 24) < 0.02 for share in whole.values())
    # Two of twenty arrivals lower the priority of their source, for good.
    first = [next((at for at, (_, value) in enumerate(run) if value == LATEST), 20) for run in found]
    assert abs(shares(first)[0] - 2 / 20) < 0.02  # type: ignore[arg-type]
    for run in found:
        for name in "abcd":
            values = [value for source, value in run if source == name]
            assert values == sorted(values)
            assert len(set(values)) <= 2
        assert len({source for source, value in run if value == LATEST}) <= 2


def test_coincidences_are_of_connections_or_of_their_directions() -> None:
    walk, canonical = CoincidenceWalk(1), Choices(1)
    points = [(f"{name}:1#1{way}", "net.deliver", 8) for _ in range(6) for name in "abc" for way in "<>"]
    for who, kind, n in points:
        canonical.choose(who, kind, n)
    walk.observe(canonical, False)
    at_once: list[int] = []
    for _ in range(RUNS):
        plan = walk.plan()
        choices = Choices(plan.seed, plan.decide)
        late = [who.rstrip("<>") for who, kind, n in points if choices.choose(who, kind, n) == LATEST]
        at_once.append(max(Counter(late).values(), default=0))
    # In half of the runs each connection is late once, and in the others mostly both ways of one are.
    assert 0.35 < at_once.count(1) / RUNS < 0.65
    assert 0.35 < at_once.count(2) / RUNS < 0.65


def test_pos_draws_each_arrival_by_itself() -> None:
    found = sampled(POS, {"a": 2, "b": 2})
    for at in range(4):
        alone = shares([run[at][1] for run in found])
        assert set(alone) == {0, 1, 2, 3, LATEST}
        assert all(abs(share - 1 / 5) < 0.03 for share in alone.values())
    pairs = shares([(run[0][1], run[2][1]) for run in found])
    assert len(pairs) == 25
    assert all(abs(share - 1 / 25) < 0.015 for share in pairs.values())


def test_surw_takes_sources_by_what_they_have_left() -> None:
    found = sampled(SURW, {"a": 6, "b": 2})
    going = {at: sum(run[at][1] == 0 for run in found) / RUNS for at in range(8)}
    # a and b take turns: 6 of 8 are left of a, then 2 of 7 of b, 5 of 6 of a, 1 of 5 of b, and then all are of a.
    expected = [6 / 8, 2 / 7, 5 / 6, 1 / 5, 1, 1, 1, 1]
    assert all(abs(going[at] - share) < 0.03 for at, share in enumerate(expected))
    late = shares([run[0][1] for run in found])
    assert abs(late[1] - 6 / 8 * 2 / 8) < 0.03
    assert abs(late[LATEST] - (2 / 8) ** 4) < 0.01


async def two_clients() -> None:
    order: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        order.append(await reader.readline())
        writer.close()

    async def client(line: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", 7000)
        writer.write(line)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 7000):
        await asyncio.gather(client(b"1\n"), client(b"2\n"))
        await asyncio.sleep(1)
    assert order == [b"1\n", b"2\n"]


@pytest.mark.parametrize("name", ["pct", "pos", "surw"])
def test_they_find_a_race_when_they_are_chosen_and_have_no_turns_otherwise(name: str) -> None:
    failure = simloop.explore(two_clients, strategies=name).failure
    assert failure is not None
    assert failure.strategy == name
    assert len(failure.schedule.deviations) == 1

    async def nothing_to_vary() -> None:
        await asyncio.sleep(1)

    assert simloop.explore(nothing_to_vary, strategies=[name]).runs == 1
