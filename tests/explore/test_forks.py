"""Campaigns of programs whose runs go another way with each state of the process: each run is made in a fork of one
that stands still."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import random
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.explore import forks
from simloop.explore.campaign import Campaign
from simloop.explore.forks import Forks
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute

Program = Callable[[], Coroutine[Any, Any, None]]
# The real ones, since runs are to know in which process they are.
_libc = ctypes.CDLL(None)
_getpid, _exit = _libc.getpid, _libc._exit


async def _two_jobs() -> None:
    await asyncio.gather(asyncio.to_thread(int), asyncio.to_thread(str))


async def _jobs_that_may_be_cancelled() -> asyncio.Task[None]:
    task = asyncio.create_task(_two_jobs())
    simloop.current().may_cancel(task)
    await asyncio.wait([task])
    return task


def by_address() -> Program:
    kept: list[object] = []

    async def main() -> None:
        kept.append([object() for _ in range(len(kept))])
        await asyncio.sleep(1 + id(kept[-1]) // 16 % 9999)
        await _two_jobs()
        simloop.current().sometimes("done")

    return main


def by_a_count() -> Program:
    count = itertools.count()

    async def main() -> None:
        number = next(count)
        await asyncio.sleep(number)
        await asyncio.gather(*(asyncio.create_task(asyncio.sleep(1), name=f"job {number}") for _ in range(2)))
        await _two_jobs()

    return main


@pytest.mark.parametrize("make", [by_address, by_a_count])
@pytest.mark.parametrize("jobs", [None, 2])
def test_runs_that_differ_with_the_state_of_the_process_are_alike_in_forks(
    make: Callable[[], Program], jobs: int | None
) -> None:
    report = simloop.explore(make(), runs=30, jobs=jobs)
    assert report.failure is None
    assert report.forked
    assert report.numbered
    assert report.distinct > 1


def test_strategies_learn_of_forked_runs_as_of_others() -> None:
    async def alike() -> None:
        await _two_jobs()
        await asyncio.sleep(random.random())

    count = itertools.count()

    async def differs() -> None:
        number = next(count)
        if number < 6:  # as long as this process makes the runs
            await asyncio.sleep(number)
        await alike()

    forked, own = (simloop.explore(main, runs=40) for main in (differs, alike))
    assert (forked.forked, own.forked) == (True, False)
    assert (forked.runs, forked.distinct, forked.schedules_in_all) == (own.runs, own.distinct, own.schedules_in_all)
    assert forked.coverage.new_in_last == own.coverage.new_in_last


def loses_an_update() -> Program:
    count = itertools.count()

    async def main() -> None:
        await asyncio.sleep(next(count))
        stock = 0

        async def add() -> None:
            nonlocal stock
            seen = stock
            await asyncio.to_thread(int)
            stock = seen + 1

        async def late() -> None:
            await asyncio.sleep(0.5)
            await add()

        first = asyncio.create_task(late())
        simloop.current().may_cancel(first)
        await asyncio.wait([first])
        assert stock == 1

    return main


def test_a_failure_in_a_fork_is_made_small_and_explained() -> None:
    failure = simloop.explore(loses_an_update()).failure
    assert failure is not None
    assert isinstance(failure.exception, AssertionError)
    assert failure.exception.__traceback__ is not None
    [sentence] = failure.story
    assert "late()" in sentence
    assert "was cancelled from outside" in sentence


def test_a_failure_that_only_forks_have_is_an_error() -> None:
    pid = _getpid()
    count = itertools.count()

    async def main() -> None:
        await asyncio.sleep(next(count))
        task = await _jobs_that_may_be_cancelled()
        assert not task.cancelled() or _getpid() == pid

    with pytest.raises(simloop.NondeterminismError) as caught:
        simloop.explore(main)
    assert "AssertionError" in str(caught.value.__cause__)


def test_a_limit_in_a_fork_is_told_as_ever() -> None:
    count = itertools.count()

    async def main() -> None:
        await asyncio.sleep(next(count))
        task = await _jobs_that_may_be_cancelled()
        while task.cancelled():
            await asyncio.sleep(0)

    failure = simloop.explore(main, max_steps=1000).failure
    assert failure is not None
    assert isinstance(failure.exception, simloop.StepLimitError)


def test_threads_of_the_process_change_no_address() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            report = simloop.explore(by_address(), runs=5)
            assert report.forked
            assert report.coverage.sometimes["done"] == 5
    finally:
        sys.setswitchinterval(before)


def test_a_run_that_hangs_in_a_fork_is_ended_by_the_campaign_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_PATIENCE", 0.2)
    count = itertools.count()

    async def main() -> None:
        await asyncio.sleep(next(count))
        task = await _jobs_that_may_be_cancelled()
        while task.cancelled():
            pass

    with pytest.raises(simloop.HangError):
        simloop.explore(main, max_hang=0.5)


def test_a_run_that_ends_its_process_is_made_by_the_campaign_itself() -> None:
    pid = _getpid()
    count = itertools.count()

    async def main() -> None:
        await asyncio.sleep(next(count))
        task = await _jobs_that_may_be_cancelled()
        if task.cancelled():
            if _getpid() != pid:
                _exit(7)
            raise ValueError

    failure = simloop.explore(main).failure
    assert failure is not None
    assert isinstance(failure.exception, ValueError)


def test_what_is_no_failure_is_raised_by_the_campaign_itself() -> None:
    class NoVerdict(BaseException):
        pass

    def skips(choices: Choices, observer: Any = None, **_: Any) -> Outcome:
        outcome = execute(main, choices, Limits(), observer)
        if choices.deviations():
            raise NoVerdict
        return outcome

    main = by_a_count()
    with pytest.raises(NoVerdict):
        Campaign(skips, "skips").explore()


def test_no_fork_where_plugins_see_all_runs() -> None:
    def executor(choices: Choices, observer: Any = None, **_: Any) -> Outcome:
        return execute(main, choices, Limits(), observer)

    main, seen = by_a_count(), list[Outcome]()
    with pytest.raises(simloop.NondeterminismError):
        Campaign(executor, "observed", observe=seen.append).explore()


def children() -> set[str]:
    return {child for file in Path("/proc/self/task").glob("*/children") for child in file.read_text().split()}


@pytest.mark.parametrize("interrupted", [False, True])
def test_no_process_is_left(interrupted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if interrupted:
        run, made = Forks.run, itertools.count()

        def interrupts(self: Forks, *args: Any) -> Any:
            if next(made) == 5:
                raise KeyboardInterrupt
            return run(self, *args)

        monkeypatch.setattr(Forks, "run", interrupts)
    before = children()  # of another test, or of multiprocessing
    try:
        simloop.explore(by_a_count(), runs=10)
    except KeyboardInterrupt:
        assert interrupted
    assert children() == before


def test_a_process_with_threads_forks_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert simloop.explore(by_address(), runs=5).forked
    finally:
        over.set()
        thread.join()
    assert not [warning for warning in recwarn if "fork" in str(warning.message)]
