"""The scheduler: when arrivals come, whose turn it is, and how time passes."""

from __future__ import annotations

import math
import random
import select
import selectors
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from fakes import FakeLoop, answering

from simloop.choices.choices import Choices
from simloop.errors import DeadlockError, TimeLimitError
from simloop.kernel.clock import MICROSECOND, MILLISECOND, SECOND
from simloop.kernel.scheduler import LATE_MAX_NS, Scheduler
from simloop.kernel.turn_taking import TIME_SLICES


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
    assert scheduler.clock.now - before == 11 * MILLISECOND + 70 * MICROSECOND


class FakeEpoll:
    """Stands for select.epoll, and writes down for how many milliseconds epoll_wait(2) would be called. The arithmetic
    is that of _PyTime_FromSecondsObject(ROUND_TIMEOUT) and _PyTime_AsMilliseconds(ROUND_CEILING), Python/pytime.c."""

    waited_ms = 0

    def poll(self, timeout: float, maxevents: int = -1) -> list[tuple[int, int]]:
        self.waited_ms = -(-math.ceil(timeout * 1e9) // 10**6)
        return []

    def close(self) -> None:
        pass


@pytest.fixture
def real_poll(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], int]:
    """Returns a function that returns for how many milliseconds the real selector waits."""
    monkeypatch.setattr(selectors.EpollSelector, "_selector_cls", FakeEpoll)
    selector: Any = selectors.EpollSelector()

    def waited_ms(timeout: float) -> int:
        selector.select(timeout)
        return int(selector._selector.waited_ms)

    return waited_ms


def test_timeouts_are_rounded_up_twice_as_by_the_real_selector(real_poll: Callable[[float], int]) -> None:
    scheduler = Scheduler(Choices())
    draw = random.Random(0)
    timeouts = [ms * 1e-3 for ms in range(1, 1001)] + [ms / 1000 - 1e-5 for ms in range(1, 1001)]
    timeouts += [draw.uniform(0, 2) for _ in range(2000)] + [10 ** draw.uniform(-9, 5) for _ in range(2000)]
    for timeout in timeouts:
        waits_ns = real_poll(timeout) * MILLISECOND
        late_ns = (scheduler.poll_deadline(timeout) or 0) - scheduler.clock.now - waits_ns
        assert late_ns == min(max(50 * MICROSECOND, waits_ns // 1000), LATE_MAX_NS) + 20 * MICROSECOND, timeout
    assert sum(real_poll(ms / 1000 - 1e-5) > ms for ms in range(1, 1001)) == 112


@pytest.mark.parametrize("ms", [9, 10, 13])
def test_real_polls_wait_as_long_as_the_stand_in_says(ms: int, real_poll: Callable[[float], int]) -> None:
    timeout = ms / 1000 - 1e-5
    took = [math.inf]
    with select.epoll() as epoll:
        # A busy machine may be late at any of them.
        while len(took) < 500 and min(took) >= real_poll(timeout) + 1:
            before = time.monotonic()
            epoll.poll(math.ceil(timeout * 1e3) * 1e-3)
            took.append((time.monotonic() - before) * 1000)
    assert int(min(took)) == real_poll(timeout)


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
