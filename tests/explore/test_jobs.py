"""Jobs: several processes make the runs of one campaign, and it finds the same whatever their number."""

from __future__ import annotations

import asyncio
import os
import posix
import signal
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.errors import ConfigurationError, JobWarning
from simloop.explore import jobs
from simloop.explore.campaign import Campaign
from simloop.explore.jobs import Jobs, check_jobs
from simloop.explore.strategies.base import Plan
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute


@pytest.fixture(autouse=True)
def worth_it(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Processes that are forked for every batch, however short, and their identifiers."""
    monkeypatch.setattr(jobs, "_WORTH_IT", 0.0)
    pids: list[int] = []
    fork = posix.fork

    def forking() -> int:
        pids.append(fork())
        return pids[-1]

    monkeypatch.setattr(posix, "fork", forking)
    yield pids
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


async def passing() -> None:
    order: list[int] = []

    async def work(number: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0.001)
            await asyncio.to_thread(int)
        order.append(number)

    await asyncio.gather(work(0), work(1))
    simloop.current().sometimes("the second is first", order == [1, 0])


async def racing() -> None:
    order: list[int] = []

    async def work(number: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(int)
        order.append(number)

    await asyncio.gather(work(0, 0.01), work(1, 0.012), work(2, 0.014))
    assert order != [2, 1, 0]


def told(report: simloop.Report) -> Any:
    failure = report.failure
    found = None if failure is None else (failure.token, failure.run_number, failure.strategy, failure.deviations_found)
    coverage = report.coverage
    return report.runs, report.distinct, report.schedules_in_all, repr(coverage), coverage.sometimes, found


@pytest.mark.parametrize("main", [passing, racing])
@pytest.mark.parametrize("seed", range(2))
def test_the_report_is_the_same_for_any_number(main: Any, seed: int, worth_it: list[int]) -> None:
    alone = told(simloop.explore(main, runs=100, seed=seed, jobs=1))
    assert not worth_it
    for number in (2, 3):
        assert told(simloop.explore(main, runs=100, seed=seed, jobs=number)) == alone
    assert worth_it


async def few_schedules() -> None:
    await asyncio.gather(*(asyncio.sleep(0.01) for _ in range(2)))


def test_all_schedules_of_a_small_test_are_run() -> None:
    report = simloop.explore(few_schedules, runs=500)
    assert report.schedules_in_all
    assert simloop.explore(few_schedules, runs=500, jobs=2).schedules_in_all == report.schedules_in_all


class Killing:
    """Executor of runs that kills each fork in its first run."""

    def __init__(self) -> None:
        self.home = os.getpid()
        self.made = 0

    def __call__(self, choices: Choices, *_: Any, **__: Any) -> Outcome:
        if os.getpid() != self.home:
            self.made += 1
            if self.made == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        else:
            self.made = 0
        return execute(racing, choices, Limits())


def test_a_process_that_is_ended_loses_nothing() -> None:
    expected = told(Campaign(lambda choices, *_, **__: execute(racing, choices, Limits()), "it", jobs=1).explore())
    with pytest.warns(
        JobWarning, match=r"a process of --sim-jobs was ended by SIGKILL: its runs are made by the others"
    ):
        report = Campaign(Killing(), "it", jobs=2).explore()
    assert told(report) == expected
    assert report.failure is not None


def test_what_a_run_raises_comes_from_it(worth_it: list[int]) -> None:
    def skips(choices: Choices, *_: Any, **__: Any) -> Outcome:
        if len(choices.deviations()) or choices.decide is not None:
            pytest.skip("not today")
        return execute(passing, choices, Limits())

    with pytest.raises(pytest.skip.Exception, match="not today"):
        Campaign(skips, "it", jobs=2).explore()


class NoFailure(BaseException):
    """Exception that ends a campaign, as a skip does."""


def test_what_a_later_run_raises_hides_no_earlier_one() -> None:
    def third_skips(choices: Choices, *_: Any) -> Outcome:
        if choices.seed == 2:
            raise NoFailure
        return execute(passing, choices, Limits())

    makers = Jobs(2, third_skips)
    makers.note(1)
    made = makers.make([Plan(seed, None) for seed in range(6)], False, None)
    # The third is made once more by the campaign, after it has looked at the others, and so are those behind it.
    assert sorted(made) == [0, 1, 3, 5]


def test_short_batches_are_made_by_one_process(monkeypatch: pytest.MonkeyPatch, worth_it: list[int]) -> None:
    monkeypatch.setattr(jobs, "_WORTH_IT", 1000.0)
    assert simloop.explore(passing, runs=50, jobs=2)
    assert not worth_it


def test_time_ends_a_batch() -> None:
    # It seems to have ten thousand runs, which no machine makes in that time.
    assert 1 <= simloop.explore(passing, seconds=0.2, jobs=2).runs < 10_000


def test_plugins_see_each_run_in_this_process(worth_it: list[int]) -> None:
    seen: list[Outcome] = []
    Campaign(
        lambda choices, *_, **__: execute(passing, choices, Limits()), "it", runs=20, jobs=2, observe=seen.append
    ).explore()
    assert len(seen) == 20
    assert not worth_it


def test_no_more_processes_than_asked_for() -> None:
    assert check_jobs("auto") == len(os.sched_getaffinity(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert simloop.explore(passing, runs=5, jobs="auto")
    for wrong in (0, -1, True, 1.5, "two", ""):
        with pytest.raises(ConfigurationError, match="jobs must be a whole number of at least 1, or auto, not"):
            simloop.explore(passing, jobs=wrong)  # type: ignore[arg-type]
