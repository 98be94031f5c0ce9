"""The mutation strategy draws as it says, and climbs where each step leads somewhere new."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from simloop.choices.choices import Choices, Point
from simloop.choices.lateness import LATE
from simloop.choices.schedule import Schedule
from simloop.explore.campaign import Campaign
from simloop.explore.strategies.mutation import KEPT_MAX, Mutation, timeline
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute
from simloop.world.observer import Observer

RUNS = 3000
POINTS = [Point(f"{name}:1#1>", "net.deliver", number) for number in range(1, 4) for name in "ab"]


def recorded(order: str, deviations: dict[Point, int] | None = None) -> Choices:
    """Return the choices of a run in which packets of these connections are sent in this order."""
    choices = Choices(1, Schedule(deviations=deviations or {}).decider())
    for name in order:
        choices.choose(f"{name}:1#1>", "net.deliver", 8)
    return choices


def planned(mutation: Mutation) -> dict[Point, int]:
    plan = mutation.plan()
    assert plan is not None
    assert plan.decide is not None
    return {point: value for point in POINTS if (value := plan.decide(*point, 8))}


def test_changes_are_many_or_few_of_any_points_and_mostly_meet() -> None:
    mutation = Mutation(1)
    mutation.observe(recorded("ababab"), False)
    found = [planned(mutation) for _ in range(RUNS)]
    sizes = Counter(map(len, found))
    # One change in a third of the runs, two in two ninths, and so on; some of them undo one another.
    assert 0.35 < sizes[1] / RUNS < 0.55
    assert 0.15 < sizes[2] / RUNS < 0.35
    assert sizes[4] > 0.02 * RUNS
    points = Counter(point for one in found for point in one)
    values = Counter(value for one in found for value in one.values())
    assert all(abs(points[point] / points.total() - 1 / 6) < 0.02 for point in POINTS)
    assert abs(values[LATE["net.deliver"]] / values.total() - (0.7 + 0.3 / 7)) < 0.03


def test_what_a_schedule_has_is_mostly_kept() -> None:
    mutation = Mutation(1)
    mutation.observe(recorded(""), False)  # a run that has nothing to change
    assert mutation.plan() is None
    mutation.observe(recorded("ababab", {POINTS[0]: 2, POINTS[3]: 1}), False)
    found = [planned(mutation) for _ in range(RUNS)]
    left = Counter((one.get(POINTS[0]) == 2) + (one.get(POINTS[3]) == 1) for one in found)
    # Of two deviations; with one change it is one at most that goes.
    assert 0.15 < left[2] / RUNS < 0.3
    assert 0.4 < left[1] / RUNS < 0.6


def test_the_further_a_schedule_led_the_oftener_it_is_changed() -> None:
    mutation = Mutation(1)
    mutation.observe(recorded("ab"), False)
    mutation.observe(recorded("abbbbbb", {POINTS[3]: 1}), False)
    one, other = mutation.kept
    assert (one.new, other.new) == (2, 1)
    for _ in range(300):
        mutation.plan()
    assert (one.used, other.used) == (200, 100)


def test_the_timeline_tells_how_often_what_comes_after_what() -> None:
    a, b = (("a:1#1>", "net.deliver"), ("b:1#1>", "net.deliver"))
    assert timeline(recorded("abab")) == {(("", ""), a, 1), (a, b, 2), (b, a, 1)}
    assert timeline(recorded("ab" * 20)) == timeline(recorded("ab" * 25))
    assert timeline(recorded("ab" * 7)) != timeline(recorded("ab" * 8))


def test_only_runs_that_pass_and_reach_something_new_are_kept() -> None:
    mutation = Mutation(1)
    for order, failed in [("ab", False), ("ab", False), ("ba", True), ("ba", False), ("abba", False)]:
        mutation.observe(recorded(order, {POINTS[0]: 1}), failed)
    assert [kept.new for kept in mutation.kept] == [2, 2, 1]
    mutation.observe(recorded("bbbb"), True)
    assert len(mutation.kept) == 3


def test_a_condition_that_a_run_is_the_first_to_meet_is_something_new() -> None:
    mutation = Mutation(1)
    for sometimes in ({"late": False}, {"late": True}, {"late": True}):
        choices = recorded("ab", {POINTS[0]: 1})
        choices.sometimes.update(sometimes)
        mutation.observe(choices, False)
    assert len(mutation.kept) == 2
    assert mutation.kept[1].new > mutation.kept[0].new


def test_no_more_are_kept_than_a_corpus_has() -> None:
    mutation = Mutation(1)
    for at in range(KEPT_MAX + 20):
        mutation.observe(recorded("ab" * (at + 1)), False)
        choices = Choices(1)
        choices.choose(f"{at}:1#1>", "net.deliver", 8)
        mutation.observe(choices, False)
    assert len(mutation.kept) == KEPT_MAX
    assert mutation.kept[0].new == 2


def test_schedules_of_a_corpus_are_run_in_every_other_turn() -> None:
    corpus = [Schedule(seed=1, deviations={POINTS[at]: 5}) for at in range(3)]
    mutation = Mutation(1, corpus)
    mutation.observe(recorded("ababab"), False)
    found = [planned(mutation) for _ in range(6)]
    assert [found[at] for at in (0, 2, 4)] == [schedule.deviations for schedule in corpus]
    assert mutation.corpus() == []
    # Those that were not run are first, and then those that led somewhere.
    mutation = Mutation(1, corpus)
    mutation.observe(recorded("ababab"), False)
    mutation.plan()
    mutation.observe(recorded("abb", {POINTS[5]: 2, POINTS[1]: 3}), False)
    assert mutation.corpus() == [*corpus[1:], Schedule(seed=1, deviations={POINTS[1]: 3})]


async def stairs() -> None:
    """Eight rounds of two requests. The next one comes only if the first of the two is answered last."""
    order: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            order.append(line)
            writer.write(line)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 7000):
        one, other = [await asyncio.open_connection("127.0.0.1", 7000) for _ in range(2)]
        for _ in range(8):
            order.clear()
            one[1].write(b"one\n")
            other[1].write(b"other\n")
            await asyncio.gather(one[0].readline(), other[0].readline())
            if order[0] == b"one\n":
                break
        else:
            raise AssertionError("at the top")
        for _, writer in (one, other):
            writer.close()
        await asyncio.sleep(1)


def run(choices: Choices, observer: Observer | None = None, **_: Any) -> Outcome:
    return execute(stairs, choices, Limits(), observer)


@pytest.mark.parametrize(("name", "least", "most"), [("mutation", 3, 4), ("dense walk", 0, 1)])
def test_it_climbs_where_a_walk_falls(name: str, least: int, most: int) -> None:
    seeds = (2000, 3000, 4000, 5000)
    campaigns = [Campaign(run, "it", runs=500, seed=seed, chosen=[name], shrink_runs=0) for seed in seeds]
    assert least <= sum(campaign.explore().failure is not None for campaign in campaigns) <= most
