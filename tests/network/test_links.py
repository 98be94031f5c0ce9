"""Links: when a packet arrives, and in how many pieces, by the answer of the environment."""

from __future__ import annotations

import pytest

from simloop.choices.choices import Choices
from simloop.kernel.clock import MILLISECOND
from simloop.kernel.scheduler import Scheduler
from simloop.network.links import DELIVERIES, JITTER_NS, LATENCY_NS, Link

SIZE = 10
LOOPBACK, LAN = Link(0, JITTER_NS), Link(LATENCY_NS, JITTER_NS)


def offered(size: int) -> int:
    """How many answers there are for a packet of that size."""
    choices = Choices()
    LAN.ask(Scheduler(choices), "c", "net.deliver", size, None)
    return choices.answers()[0].n


def carried(link: Link, answer: int) -> tuple[int, list[int], int]:
    """The bytes that travel in the packet; after how many nanoseconds it arrives; and in how many turns."""
    scheduler, arrived = Scheduler(Choices()), []
    start, turn = scheduler.clock.now, scheduler.turn
    size = link.carry(scheduler, answer, None, SIZE, lambda: arrived.append(scheduler.clock.now - start))
    while not arrived:
        if scheduler.arrivals and not scheduler.held:
            scheduler.clock.now = scheduler.arrivals[0][0]
        scheduler.turn += 1
        scheduler.deliver()
    return size, arrived, scheduler.turn - turn


def test_what_is_one_byte_cannot_be_cut() -> None:
    assert offered(2) == len(DELIVERIES)
    assert [answer for answer in DELIVERIES[: offered(1)] if "then" in answer or "halves" in answer] == []


@pytest.mark.parametrize("answer", range(len(DELIVERIES)), ids=DELIVERIES)
@pytest.mark.parametrize(("link", "latency_ns"), [(LOOPBACK, 0), (LAN, LAN.latency_ns)], ids=["loopback", "lan"])
def test_a_packet_arrives_as_its_answer_says(link: Link, latency_ns: int, answer: int) -> None:
    size, (after_ns,), turns = carried(link, answer)
    assert size == {5: 1, 6: SIZE // 2, 7: SIZE - 1}.get(answer, SIZE)
    if answer == 4:
        assert 25 * MILLISECOND <= after_ns - latency_ns < 50 * MILLISECOND
    else:
        assert after_ns == latency_ns
    if 1 <= answer <= 3:
        assert turns == answer + (latency_ns > 0)


def test_what_is_late_in_the_same_25_ms_meets() -> None:
    scheduler, arrived = Scheduler(Choices()), []
    scheduler.clock.now = 1000 * MILLISECOND
    for after in (1, 9, 24):
        scheduler.clock.now = (1000 + after) * MILLISECOND
        LOOPBACK.carry(scheduler, 4, None, SIZE, lambda: arrived.append(True))
    assert {due for due, _, _ in scheduler.arrivals} == {1050 * MILLISECOND}
    scheduler.clock.now = 1050 * MILLISECOND
    scheduler.deliver()
    assert len(arrived) == 3


def test_a_link_without_jitter_is_never_late() -> None:
    scheduler = Scheduler(Choices())
    Link(7, 0).carry(scheduler, 4, None, SIZE, lambda: None)
    assert [due - scheduler.clock.now for due, _, _ in scheduler.arrivals] == [7]


def test_a_packet_that_races_a_timer_arrives_when_that_says() -> None:
    scheduler, arrived = Scheduler(Choices()), []
    assert LAN.carry(scheduler, 0, scheduler.clock.now + 5, SIZE, lambda: arrived.append(True)) == SIZE
    assert [due - scheduler.clock.now for due, _, _ in scheduler.arrivals] == [5]


def test_how_data_is_cut_is_a_part_of_the_fingerprint() -> None:
    def folded(answer: int) -> int:
        choices = Choices(0, lambda *_: answer)
        LOOPBACK.ask(Scheduler(choices), "c", "net.deliver", SIZE, None)
        return choices.folded

    assert folded(0) == folded(4) == 0
    assert len({folded(answer) for answer in (5, 6, 7)}) == 3
