"""How sure a campaign is: what it counts, and what it estimates of what it has not seen."""

from __future__ import annotations

import asyncio
import itertools

import pytest

import simloop
from simloop.choices.choices import Choices, Point
from simloop.choices.draws import drawer
from simloop.explore import campaign
from simloop.explore.coverage import Coverage


def test_new_runs_are_counted_and_unseen_ones_estimated() -> None:
    coverage = Coverage()
    assert (coverage.runs, coverage.unseen, coverage.last, coverage.new_in_last) == (0, 1, 0, 0)
    for fingerprint in [1, 2, 1, 3, 1, 2, 1, 1, 1, 4, 1]:
        coverage.add(fingerprint, Choices())
    assert (coverage.runs, coverage.distinct) == (11, 4)
    assert (coverage.last, coverage.new_in_last) == (2, 1)
    assert coverage.unseen == 2 / 11
    assert (
        repr(coverage) == "Coverage(11 runs, 4 distinct, 1 new of the last 2, 18% unseen, 0 points never deviated at)"
    )


@pytest.mark.parametrize("kinds", [50, 300, 2000])
def test_the_estimate_is_near_the_truth_on_a_known_distribution(kinds: int) -> None:
    """Draws from so many kinds, of which the rarer ones are drawn less: the smaller of two numbers."""
    below, coverage = drawer(kinds), Coverage()
    for _ in range(600):
        coverage.add(min(below(kinds), below(kinds)), Choices())
    seen = set(coverage._times)
    missed = sum(2 * (kinds - kind) - 1 for kind in range(kinds) if kind not in seen) / kinds**2
    assert abs(coverage.unseen - missed) < 0.05


def test_points_never_deviated_at_are_those_of_the_first_run() -> None:
    coverage = Coverage()
    for answers in ([0, 0, 0], [0, 1, 0]):
        choices = Choices(0, lambda who, kind, number, n, answers=answers: answers[number - 1])  # type: ignore[misc]
        for n in (2, 3, 1):
            choices.choose("a", "net.deliver", n)
        coverage.add(1, choices)
    assert coverage.never_deviated == [Point("a", "net.deliver", 1)]


async def threads() -> None:
    await asyncio.gather(*(asyncio.to_thread(int) for _ in range(4)))


def test_a_report_holds_its_coverage() -> None:
    report = simloop.explore(threads, runs=80)
    assert report.coverage.runs == report.runs == 80
    assert report.coverage.distinct == report.distinct
    assert 0 < report.coverage.unseen < 1


def test_coverage_names_who_was_never_raced() -> None:
    def run(*late: str) -> Choices:
        choices = Choices(0, lambda who, kind, number, n: int(who in late and number == 2))
        for _ in range(2):
            for who in ("a", "b", "c"):
                choices.choose(who, "net.deliver", 8)
        choices.choose("d", "poll.order", 1)  # there is nothing to decide
        return choices

    coverage = Coverage()
    coverage.add(1, run())
    assert coverage.never_raced == ["a", "b", "c"]
    coverage.add(2, run("b"))
    assert coverage.never_raced == ["a", "c"]
    assert len(coverage.never_deviated) == 5


async def two_answers() -> None:
    order: list[int] = []

    async def work(number: int) -> None:
        await asyncio.to_thread(int)
        simloop.current().sometimes("both are done", len(order) > 1)
        order.append(number)

    await asyncio.gather(work(0), work(1))
    simloop.current().sometimes("the second is first", order[0])


def test_runs_that_met_a_condition_are_counted() -> None:
    met = simloop.explore(two_answers, runs=60).coverage.sometimes
    assert met["both are done"] == 0
    assert 0 < met["the second is first"] < 60
    assert len(met) == 2


def test_a_condition_without_a_name_is_refused() -> None:
    async def main() -> None:
        simloop.current().sometimes(True)  # type: ignore[arg-type]

    with pytest.raises(simloop.ConfigurationError, match=r"test_coverage.py:\d+: the name of a condition must be text"):
        simloop.run(main)


def test_strategies_are_chosen_by_name() -> None:
    for chosen in ("dense walk", ["dense-walk", "delay sweep"]):
        assert simloop.explore(threads, runs=20, strategies=chosen).runs == 20
    report = simloop.explore(threads, runs=50, strategies=["crash sweep"])
    assert report.runs == 1
    with pytest.raises(simloop.ConfigurationError, match="unknown strategy 'dense': use some of cancel-sweep, "):
        simloop.explore(threads, strategies=["dense"])


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "1", True])
def test_a_time_that_is_none_is_refused(seconds: object) -> None:
    with pytest.raises(simloop.ConfigurationError, match="time of a campaign must be more than 0"):
        simloop.explore(threads, seconds=seconds)  # type: ignore[arg-type]


def test_a_campaign_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = itertools.count()
    monkeypatch.setattr(campaign, "_monotonic", lambda: next(looks))
    assert simloop.explore(threads, seconds=0.5).runs == 1
    few, many = (simloop.explore(threads, seconds=seconds).runs for seconds in (5, 40))
    assert 1 < few < many < 100
