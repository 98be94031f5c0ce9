"""What shrinking promises, for generated programs: small, the same failure, and nothing left to leave out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sizes import examples

import simloop
from simloop.choices.choices import Choices, Decide, Point
from simloop.choices.draws import random_walk
from simloop.choices.schedule import Schedule
from simloop.choices.tokens import decode, encode
from simloop.explore.shrink import Shrinker
from simloop.explore.signature import Signature, signature_of
from simloop.simulation.limits import Limits
from simloop.simulation.outcome import Outcome
from simloop.simulation.run import execute

Main = Callable[[], Coroutine[Any, Any, None]]
LIMITS = Limits()

#: What the tasks of a generated program do, one after another: sleep so many tenths of milliseconds, or go
#: through a thread.
PROGRAMS = st.lists(st.lists(st.one_of(st.integers(0, 60), st.just("thread")), max_size=6), min_size=2, max_size=5)


def program(tasks: list[list[Any]]) -> Main:
    """Two of its tasks update a counter, and lose one where they overlap; any of its tasks may be cancelled."""

    async def main() -> None:
        sim = simloop.current()
        counter = 0

        async def work(steps: list[Any]) -> None:
            for step in steps:
                if step == "thread":
                    await asyncio.to_thread(lambda: None)
                else:
                    await asyncio.sleep(step / 10_000)

        async def increment(steps: list[Any]) -> None:
            nonlocal counter
            await work(steps[:3])
            seen = counter
            await work(steps[3:])
            counter = seen + 1

        running = [asyncio.create_task((increment if at < 2 else work)(steps)) for at, steps in enumerate(tasks)]
        for task in running:
            sim.may_cancel(task)
        await asyncio.wait(running)
        for task in running[:2]:
            assert not task.cancelled()
        assert counter == 2

    return main


def run(main: Main, schedule: Schedule) -> Outcome:
    return execute(main, Choices(schedule.seed, schedule.decider()), LIMITS)


def fails_as(main: Main, wanted: Signature) -> Callable[[Schedule], tuple[bool, Choices]]:
    def still_fails(schedule: Schedule) -> tuple[bool, Choices]:
        outcome = run(main, schedule)
        return outcome.exception is not None and signature_of(outcome.exception) == wanted, outcome.choices

    return still_fails


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(tasks=PROGRAMS, seed=st.integers(1, 2**16))
def test_what_is_shrunk_fails_alike_cannot_lose_anything_and_stays_as_it_is(tasks: list[list[Any]], seed: int) -> None:
    main = program(tasks)
    found = execute(main, Choices(seed, random_walk(seed)), LIMITS)
    assume(found.exception is not None)
    assert found.exception is not None
    wanted = signature_of(found.exception)
    still_fails = fails_as(main, wanted)

    large = Schedule("cpython", seed, found.choices.deviations())
    small = Shrinker(large, still_fails, 500).shrink()

    assert len(small.deviations) <= len(large.deviations)
    assert still_fails(small)[0]
    for dropped in small.deviations:
        rest = {point: value for point, value in small.deviations.items() if point != dropped}
        assert not still_fails(Schedule("cpython", small.seed, rest))[0]
    assert Shrinker(small, still_fails, 500).shrink() == small
    assert decode(encode(small, "it"), "it") == small


async def noisy() -> None:
    """Ten tasks of twenty steps around a race of two: `withdraw` reads, waits for a thread, and writes."""
    sim = simloop.current()
    balance = 10

    async def noise(number: int) -> None:
        for step in range(20):
            await asyncio.sleep(0.001 * (1 + (number + step) % 3))

    async def withdraw() -> None:
        nonlocal balance
        seen = balance
        await asyncio.to_thread(lambda: None)
        balance = seen - 5

    async def deposit() -> None:
        nonlocal balance
        await asyncio.sleep(0.005)
        seen = balance
        balance = seen + 1

    others = [asyncio.create_task(noise(number)) for number in range(10)]
    for other in others:
        sim.may_cancel(other)
    await asyncio.wait([asyncio.create_task(withdraw()), asyncio.create_task(deposit()), *others])
    assert balance == 6


def racing(seed: int) -> Decide:
    """A random walk in which the race happens besides: the thread is seen to end after the deposit."""
    walk = random_walk(seed)
    return lambda who, kind, number, n: 5 if kind == "thread.finish" else walk(who, kind, number, n)


def test_noise_around_a_race_goes_away() -> None:
    examined = 0
    for seed in range(1, 30):
        found = execute(noisy, Choices(seed, racing(seed)), LIMITS)
        if not isinstance(found.exception, AssertionError) or len(found.choices.deviations()) < 5:
            continue
        shrinker = Shrinker(
            Schedule("cpython", seed, found.choices.deviations()),
            fails_as(noisy, signature_of(found.exception)),
            500,
        )
        assert len(shrinker.shrink().deviations) <= 2
        assert shrinker.runs < 300
        examined += 1
    assert examined >= 10


async def two_bugs() -> None:
    """Cancelling `first` fails in one line, and cancelling `second` in another."""
    sim = simloop.current()

    async def sleep() -> None:
        await asyncio.sleep(0.01)

    first, second = asyncio.create_task(sleep()), asyncio.create_task(sleep())
    sim.may_cancel(first)
    sim.may_cancel(second)
    await asyncio.wait([first, second])
    if second.cancelled():
        raise ValueError("second")
    if first.cancelled():
        raise ValueError("first")


def test_it_never_ends_at_another_bug() -> None:
    seen = set()
    for seed in range(1, 60):
        found = execute(two_bugs, Choices(seed, random_walk(seed)), LIMITS)
        if found.exception is None:
            continue
        wanted = signature_of(found.exception)
        large = Schedule("cpython", seed, found.choices.deviations())
        small = Shrinker(large, fails_as(two_bugs, wanted), 500).shrink()
        exception = run(two_bugs, small).exception
        assert exception is not None
        assert str(exception) == str(found.exception)
        assert len(small.deviations) == 1
        seen.add(str(exception))
    assert seen == {"first", "second"}


def test_the_budget_is_kept() -> None:
    runs = 0

    def always(schedule: Schedule) -> tuple[bool, Choices]:
        nonlocal runs
        runs += 1
        return False, run(two_bugs, schedule).choices

    found = execute(two_bugs, Choices(3, random_walk(3)), LIMITS)
    large = Schedule("cpython", 3, {**found.choices.deviations()})
    assert Shrinker(large, always, budget=2).shrink() == large
    assert runs <= 2


def test_failures_inside_of_groups_and_deadlocks_are_told_apart() -> None:
    def group(inner: type[Exception]) -> BaseException:
        try:
            raise ExceptionGroup("several", [inner()])
        except ExceptionGroup as error:
            return error

    assert signature_of(group(ValueError)) != signature_of(group(KeyError))

    async def stuck(where: int) -> None:
        if where:
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    errors = []
    for where in (0, 1, 1):
        with pytest.raises(simloop.DeadlockError) as caught:
            simloop.run(lambda where=where: stuck(where))  # type: ignore[misc]
        errors.append(signature_of(caught.value))
    assert errors[0] != errors[1] == errors[2]


class Fake:
    """A run of 40 points in which `fails` decides by the numbers of those that deviate; the first `known` of them are
    also in the canonical run."""

    def __init__(self, fails: Callable[[set[int]], bool], known: int = 40) -> None:
        self.fails = fails
        self.known = known
        self.runs = 0

    def __call__(self, schedule: Schedule) -> tuple[bool, Choices]:
        self.runs += 1
        choices = Choices(0, schedule.decider())
        taken = {
            number
            for number in range(1, 41)
            if (number <= self.known or schedule.deviations) and choices.choose("a>b:1#1>", "net.deliver", 5)
        }
        return self.fails(taken), choices


def deviating(*numbers: int) -> Schedule:
    return Schedule(deviations={Point("a>b:1#1>", "net.deliver", number): 4 for number in numbers})


def numbers(schedule: Schedule) -> set[int]:
    return {point.number for point in schedule.deviations}


def test_a_single_cause_is_found_that_the_schedule_does_not_hold() -> None:
    run = Fake(lambda taken: 7 in taken or {20, 30} <= taken)
    assert numbers(Shrinker(deviating(*range(10, 40)), run, 500).shrink()) == {7}


def test_one_deviation_is_found_for_two_of_three() -> None:
    run = Fake(lambda taken: {20, 28, 30} <= taken or {7, 30} <= taken)
    assert numbers(Shrinker(deviating(*range(10, 40)), run, 500).shrink()) == {7, 30}


def test_deviations_are_dropped_in_several_orders() -> None:
    # The first order leaves two of them; and 35 is at no point of the canonical run.
    run = Fake(lambda taken: 35 in taken or {11, 25} <= taken, known=4)
    small = Shrinker(deviating(*range(10, 40)), run, 500).shrink()
    assert numbers(small) == {35}
    assert run.runs < 300


def test_what_comes_after_the_cause_is_dropped_by_bisection() -> None:
    run = Fake(lambda taken: 3 in taken)
    shrinker = Shrinker(deviating(*range(1, 41)), run, 500)
    shrinker._try({})
    shrinker._drop_the_end()
    assert numbers(shrinker.best) == {1, 2, 3}
    assert run.runs <= 7


def test_two_arrivals_are_found_for_three_that_only_brought_them_together() -> None:
    def run(schedule: Schedule) -> tuple[bool, Choices]:
        choices = Choices(0, schedule.decider())
        late = {
            (name, number)
            for number in range(1, 5)
            for name in ("a", "b", "c", "pool:1#1", "pool:1#2")
            if choices.choose(f"{name}>", "net.deliver", 8) == 4
        }
        brought_together = {("a", 2), ("b", 3), ("c", 4)}
        return brought_together <= late or {("pool:1#1", 2), ("pool:1#2", 2)} <= late, choices

    found = {Point("a>", "net.deliver", 2): 4, Point("b>", "net.deliver", 3): 4, Point("c>", "net.deliver", 4): 4}
    small = Shrinker(Schedule(deviations=found), run, 500).shrink()
    assert set(small.deviations) == {Point("pool:1#1>", "net.deliver", 2), Point("pool:1#2>", "net.deliver", 2)}
