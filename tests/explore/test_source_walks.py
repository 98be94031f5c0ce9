"""The strategies after published samplers draw as their papers say, on sources that are known."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.choices.draws import coincidences
from simloop.choices.lateness import LATE, Arrival
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


def late_ones(points: list[tuple[str, str, int]]) -> list[list[tuple[str, str, int]]]:
    """Return, for each of many runs of the coincidence walk, those of these points at which an arrival is late."""
    walk, canonical = CoincidenceWalk(1), Choices(1)
    for point in points:
        canonical.choose(*point)
    walk.observe(canonical, False)
    found = []
    for _ in range(RUNS):
        plan = walk.plan()
        choices = Choices(plan.seed, plan.decide)
        found.append([point for point in points if choices.choose(*point) == LATE[point[1]]])
    return found


def test_coincidences_are_pairs_that_were_not_late_together_before() -> None:
    sources = [[(f"{name}:1#1>", "net.deliver", number) for number in range(1, 9)] for name in "abcde"]
    seen: set[tuple[Arrival, Arrival]] = set()
    for seed in range(20):
        coincidences(seed, sources, seen)
    # Without a choice among draws it would be 133 pairs.
    assert len(seen) > 160


def test_in_half_of_the_coincidences_sources_have_as_many_arrivals_left() -> None:
    sources = [[(f"{name}:1#1>", "net.deliver", number) for number in range(1, 40)] for name in "abcdef"]
    alike = 0
    for seed in range(RUNS):
        decide = coincidences(seed, sources, set())
        left = [
            39 - number for points in sources for _, _, number in points if decide(*points[number - 1], 8) == LATEST
        ]
        alike += len(left) > 2 and max(left) - min(left) <= 2
    assert abs(alike / RUNS - 0.5) < 0.1, alike / RUNS


def test_coincidences_are_of_connections_or_of_their_directions() -> None:
    points = [(f"{name}:1#1{way}", "net.deliver", 8) for _ in range(6) for name in "abc" for way in "<>"]
    at_once = Counter(
        max(Counter(who.rstrip("<>") for who, _, _ in late).values(), default=0) for late in late_ones(points)
    )
    # Each connection is late once in three tenths of the runs; twice, or both ways of it once; and up to six times.
    assert 0.2 < at_once[1] / RUNS < 0.4
    assert 0.3 < at_once[2] / RUNS < 0.5
    assert all(at_once[times] for times in range(1, 6))
    assert sum(at_once[times] for times in range(7)) > 0.97 * RUNS


def test_coincidences_are_mostly_of_arrivals_with_contents() -> None:
    points = [(f"{name}:1#1>", "net.deliver", n) for name in "abc" for n in [5] * 5 + [8] * 5]
    late = Counter(n for points_late in late_ones(points) for _, _, n in points_late)
    # Beginnings and ends are so in one of three runs, and then as often as they are there.
    assert 0.1 < late[5] / (late[5] + late[8]) < 0.2


def test_the_first_coincidences_are_plain_and_take_turns() -> None:
    points = [(f"{name}:1#1{way}", "net.deliver", n) for name in "abcdef" for way in "<>" for n in [5] * 5 + [8] * 5]
    alone = 0
    for at, late in enumerate(late_ones(points)[:8], 1):
        # Every fourth run has beginnings and ends, too.
        assert {n for _, _, n in late} == ({5, 8} if at % 4 == 0 else {8})
        sources = Counter(who.rstrip("<>") for who, _, _ in late)
        assert len(sources) > 3
        # Both ways of a connection are late once together, or each by itself.
        alone += at // 2 % 2 == 0
        assert (max(sources.values()) == 1) == (at // 2 % 2 == 1)
    assert alone == 4


def test_coincidences_reach_what_comes_only_as_others_are_late() -> None:
    walk = CoincidenceWalk(1)
    for length in (2, 9, 4):
        choices = Choices(1)
        for _ in range(length):
            for name in "ab":
                choices.choose(f"{name}:1#1>", "net.deliver", 8)
        walk.observe(choices, False)
    numbers = set()
    for _ in range(300):
        plan = walk.plan()
        numbers |= {
            n for n in range(1, 12) if plan.decide is not None and plan.decide("a:1#1>", "net.deliver", n, 8) == 4
        }
    assert {1, 2, 5, 9} <= numbers


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
