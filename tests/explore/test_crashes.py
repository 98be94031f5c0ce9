"""The crash sweep: which cuts and losses it tries, and in which order."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices, Point
from simloop.explore.strategies.crash import CrashSweep
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

Main = Callable[[], Coroutine[Any, Any, Any]]
Answers = dict[Point, int]


def cut_by_the_test(may: bool, profile: str = "ext4-ordered") -> Main:
    async def test() -> None:
        host = simloop.current().host("db")
        host.fs.write_tree({"/old": "o" * 8192})
        host.fs.profile = profile

        async def write() -> None:
            fd = os.open("/new", os.O_CREAT | os.O_WRONLY)
            os.write(fd, b"n" * 8192)
            with open("/old", "r+b") as file:
                file.write(b"n" * 8192)

        if may:
            host.may_crash()
        with contextlib.suppress(simloop.HostCrashedError):
            await host.run(write)
        host.crash()

    return test


def tried(main: Main, runs: int, seed: int = 0) -> list[Answers]:
    """What the sweep makes of a test, run by run."""
    sweep = CrashSweep(seed, lambda: runs)
    sweep.observe(execute(main, Choices(seed), Limits()).choices, False)
    found: list[Any] = []
    while len(found) < runs and (plan := sweep.plan()) is not None:
        outcome = execute(main, Choices(plan.seed, plan.decide), Limits())
        assert outcome.exception is None
        found.append(outcome.choices.deviations())
    return found


def losses(answers: Answers) -> dict[str, int]:
    return {point.who: value for point, value in answers.items() if point.kind != "host.crash"}


def test_the_losses_of_a_cut_that_the_test_makes() -> None:
    first = tried(cut_by_the_test(False), 4)
    assert [losses(answers) for answers in first] == [
        {"db:/old:0": 1, "db:/old:1": 1, "db:/new:end": 2},  # the data
        {"db": 1},  # the names: of one operation, all are lost with the first
        {"db:/old:0": 1, "db:/old:1": 1},  # pages, but no file gets shorter
        {"db": 1, "db:/old:0": 1, "db:/old:1": 1},  # everything
    ]
    posix = tried(cut_by_the_test(False, "posix"), 4)
    assert losses(posix[2]) == {f"db:/{name}:{page}": 1 for name in ("new", "old") for page in (0, 1)}


def test_then_any_of_them() -> None:
    rest = tried(cut_by_the_test(False), 100)[4:]
    assert 1 <= len(rest) <= 8
    seen = Counter(value for answers in rest for who, value in losses(answers).items() if who.startswith("db:/old:"))
    assert max(seen) > 1  # torn


def test_every_place_is_tried_with_every_pattern() -> None:
    places = Counter(
        next((point for point in answers if point.kind == "host.crash"), None)
        for answers in tried(cut_by_the_test(True), 1000)
    )
    assert set(places) == {
        None,
        Point("db:before making /new", "host.crash", 1),
        Point("db:before writing to /new", "host.crash", 1),
        Point("db:before writing to /old", "host.crash", 1),
    }
    assert set(places.values()) == {12}


def test_where_not_all_fit_the_seed_decides_which_come_first() -> None:
    orders = {tuple(tuple(answers) for answers in tried(cut_by_the_test(True), 3, seed)) for seed in range(8)}
    assert len(orders) > 1
    assert tried(cut_by_the_test(True), 3, 5) == tried(cut_by_the_test(True), 3, 5)


@pytest.mark.parametrize("main", [cut_by_the_test(False), cut_by_the_test(True)])
def test_a_run_that_deviates_teaches_it_nothing(main: Main) -> None:
    sweep = CrashSweep(0, lambda: 10)
    sweep.observe(execute(main, Choices(0, lambda who, kind, number, n: n - 1), Limits()).choices, False)
    assert sweep.plan() is None


def test_a_test_without_crashes_gives_it_nothing_to_do() -> None:
    async def test() -> None:
        simloop.current().fs.write_tree({"/a": "1"})

    assert tried(test, 10) == []
