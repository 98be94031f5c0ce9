"""The scheduler: when arrivals come, whose turn it is, and how time passes."""

from __future__ import annotations

from functools import partial

import pytest
from fakes import FakeLoop, answering

from simloop.choices.choices import Choices
from simloop.errors import DeadlockError, TimeLimitError
from simloop.kernel.clock import MILLISECOND, SECOND
from simloop.kernel.scheduler import TIME_SLICES, Scheduler


def test_arrivals_come_in_order_of_time_and_then_of_their_planning() -> None:
    scheduler = Scheduler(Choices())
    loop, seen = FakeLoop(scheduler, "a"), []
    start = scheduler.clock.now

    def arrive(name: str) -> None:
        seen.append((name, scheduler.clock.now - start))

    for name, after_ns in (("late", 3), ("first", 1), ("second", 1)):
        scheduler.at(start + after_ns, partial(arrive, name))
    scheduler.at(start + 5, lambda: setattr(loop, "work", 1))
    scheduler.poll(loop, None)
    assert seen == [("first", 1), ("second", 1), ("late", 3)]
    assert scheduler.clock.now == start + 5


def test_what_is_held_for_turns_comes_after_so_many_polls_or_when_nothing_else_can() -> None:
    scheduler = Scheduler(Choices())
    loop, seen = FakeLoop(scheduler, "a"), []
    scheduler.after_turns(2, lambda: seen.append(scheduler.turn))
    scheduler.poll(loop, 0)
    assert seen == []
    scheduler.poll(loop, 0)
    assert seen == [2]
    scheduler.after_turns(1000, lambda: setattr(loop, "work", 1))
    before = scheduler.clock.now
    scheduler.poll(loop, None)
    assert scheduler.clock.now == before  # no time passes for it


def test_a_poll_never_returns_early_and_counts_in_milliseconds() -> None:
    scheduler = Scheduler(Choices())
    loop = FakeLoop(scheduler, "a")
    before = scheduler.clock.now
    scheduler.poll(loop, 0.0101)
    assert scheduler.clock.now - before == 11 * MILLISECOND


def test_nothing_can_happen_any_more() -> None:
    scheduler = Scheduler(Choices(), lambda scheduler: DeadlockError(f"at turn {scheduler.turn}"))
    with pytest.raises(DeadlockError, match="at turn 1"):
        scheduler.poll(FakeLoop(scheduler, "a"), None)


def test_time_has_an_end() -> None:
    scheduler = Scheduler(Choices(), max_time=2.0)
    loop = FakeLoop(scheduler, "a")
    scheduler.at(scheduler.clock.now + 3 * SECOND, lambda: None)
    with pytest.raises(TimeLimitError, match="2 virtual seconds"):
        scheduler.poll(loop, None)


def test_who_has_waited_longest_goes_first_and_a_choice_may_differ() -> None:
    def order(choices: Choices) -> str:
        log: list[str] = []
        scheduler = Scheduler(choices)
        polling = FakeLoop(scheduler, "p", log=log)
        for name, last_turn in (("a", 7), ("b", 3), ("c", 5)):
            FakeLoop(scheduler, name, work=1, log=log, stepped=True).last_turn = last_turn
        scheduler.at(scheduler.clock.now + 1, lambda: setattr(polling, "work", 1))
        scheduler.poll(polling, None)
        return "".join(log)

    assert order(Choices()) == "bca"
    assert order(answering(process_turn=2)) == "abc"


def test_a_time_slice_is_so_many_turns_in_a_row() -> None:
    log: list[str] = []
    scheduler = Scheduler(answering(process_turn=2 * 2))  # the third slice, of the first of two
    polling = FakeLoop(scheduler, "p", log=log)
    for name in "ab":
        FakeLoop(scheduler, name, work=6, log=log, stepped=True)
    scheduler.at(scheduler.clock.now + 1, lambda: setattr(polling, "work", 1))
    scheduler.poll(polling, None)
    assert "".join(log).startswith("a" * TIME_SLICES[2] + "b")


def test_a_process_that_blocks_stands_still_and_nobody_else_does() -> None:
    scheduler = Scheduler(Choices())
    loop, other = FakeLoop(scheduler, "a", work=5), FakeLoop(scheduler, "b", work=5, stepped=True)
    assert scheduler.block(loop.process, lambda: other.work == 0)
    assert (loop.work, other.work) == (5, 0)
    before = scheduler.clock.now
    assert not scheduler.block(loop.process, lambda: False, before + 7)
    assert scheduler.clock.now == before + 7


def test_a_late_arrival_may_meet_a_timer() -> None:
    def arrival(answer: int) -> int | None:
        scheduler = Scheduler(answering(net_race=answer))
        start = scheduler.clock.now
        FakeLoop(scheduler, "a").timers += [start + 10 * MILLISECOND, start + 20 * MILLISECOND, start + SECOND]
        due = scheduler.timer_race("c#", 1, "net.race", start, 50 * MILLISECOND, None)
        return None if due is None else due - start

    with_first, after_first, with_second = arrival(1), arrival(2), arrival(3)
    assert arrival(0) is None
    assert with_first is not None
    assert after_first is not None
    assert with_second is not None
    assert 10 * MILLISECOND <= with_first < 11 * MILLISECOND < after_first < 20 * MILLISECOND <= with_second
