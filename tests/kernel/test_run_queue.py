"""The run queue of stepped loops: it finds what a look at each loop would find."""

from __future__ import annotations

import asyncio

import pytest
from fakes import FakeLoop, answering
from hypothesis import given
from hypothesis import strategies as st

import simloop
from simloop.kernel.scheduler import Scheduler

LOOPS = 12
Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["work comes", "takes a turn", "sleeps", "time passes", "is removed", "looks"]),
        st.integers(0, LOOPS - 1),
        st.integers(0, 50),
    ),
    max_size=40,
)


def allowed(process: object) -> bool:
    return True


def forbidden(process: object) -> bool:
    return False


@given(STEPS)
def test_same_as_a_look_at_each_loop(steps: list[Step]) -> None:
    scheduler = Scheduler(answering())
    clock = scheduler.clock
    loops = {number: FakeLoop(scheduler, str(number), stepped=True) for number in range(LOOPS)}
    queue, turns = scheduler.run_queue, 0
    for what, number, amount in steps:
        if what == "time passes":
            clock.now += amount
        loop = loops.get(number)
        if loop is not None:
            if what == "work comes":
                loop.work += 1
            elif what == "is removed":
                scheduler.remove(loop)
                del loops[number]
            elif what in ("takes a turn", "sleeps"):
                queue.look_at(loop)
                turns += 1
                loop.work, loop.last_turn = max(0, loop.work - 1), turns
                loop.timers = [clock.now + amount] if what == "sleeps" else []
        working = [loop for loop in loops.values() if loop.has_work()]
        found = queue.with_work(clock.now, allowed)
        assert found == sorted(working, key=lambda loop: loop.last_turn)
        if not found:
            dues = [due for loop in loops.values() if (due := loop.deadline_ns()) is not None]
            assert queue.next_deadline(allowed) == min(dues, default=None)
            if queue.indexed:
                limit_ns = clock.now + amount
                expected = {loop for loop in loops.values() if (loop.deadline_ns() or 1e99) <= limit_ns}
                assert set(queue.polling_until(limit_ns)) >= expected


@pytest.mark.parametrize("others", [0, 20])
def test_a_loop_that_may_not_run_is_found_later(others: int) -> None:
    scheduler = Scheduler(answering())
    loop = FakeLoop(scheduler, "a", work=1, stepped=True)
    for number in range(others):
        FakeLoop(scheduler, str(number), stepped=True)
    queue = scheduler.run_queue
    clock = scheduler.clock
    assert queue.with_work(clock.now, forbidden) == []
    assert queue.with_work(clock.now, allowed) == [loop]
    queue.look_at(loop)
    loop.work, loop.timers = 0, [clock.now + 100]
    assert queue.with_work(clock.now, allowed) == []
    queue.look_at(loop)
    assert queue.with_work(clock.now, forbidden) == []
    assert queue.next_deadline(forbidden) is None
    queue.look_at(loop)
    assert queue.with_work(clock.now, allowed) == []
    assert queue.next_deadline(allowed) == clock.now + 100
    clock.now += 100
    assert queue.with_work(clock.now, allowed) == [loop]


def test_many_loops_give_notice_of_what_others_queue() -> None:
    """Tests share objects of asyncio among hosts: whoever sets a future wakes the loop that waits for it."""
    size = 20

    async def main() -> list[int]:
        sim = simloop.current()
        waiting: list[asyncio.Future[int]] = []

        async def wait() -> int:
            waiting.append(asyncio.get_running_loop().create_future())
            return await waiting[-1]

        running = [asyncio.create_task(sim.host(str(number)).run(wait)) for number in range(size)]
        while len(waiting) < size:
            await asyncio.sleep(1)
        for number, future in enumerate(waiting):
            future.set_result(number)
        return sorted(await asyncio.gather(*running))

    assert simloop.run(main) == list(range(size))
