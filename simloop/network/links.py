"""Links: the delay of packets between two hosts, and what the environment may add to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simloop.kernel.clock import MILLISECOND

if TYPE_CHECKING:
    from simloop.kernel.scheduler import Scheduler

# What the answers at a `net.deliver` point mean, in the order of their values. The last three need
# something that can be cut in two.
DELIVERIES = (
    "at once",
    "one turn later",
    "two turns later",
    "three turns later",
    "25 to 50 ms later",
    "its first byte alone, then the rest",
    "in two halves",
    "all but its last byte, then that",
)
_LATE = 4
_WHOLE = 5


@dataclass(frozen=True)
class Link:
    """Link from one host to another.

    `latency_ns` passes for every packet. `jitter_ns` is the most that the environment may add: on
    loopback it stands for a kernel thread that was not scheduled at once, elsewhere for a queue on the way.
    """

    latency_ns: int
    jitter_ns: int

    def ask(self, scheduler: Scheduler, who: str, kind: str, size: int, subject: object) -> int:
        """Return the environment's choice for the delivery of a packet of `size` bytes: an index of `DELIVERIES`."""
        choices = scheduler.choices
        answer = choices.choose(who, kind, len(DELIVERIES) if size > 1 else _WHOLE, subject)
        if answer >= _WHOLE:
            # How data is cut shows in no order, only in what the program reads.
            choices.fold(who, answer)
        return answer

    def timer_race(self, scheduler: Scheduler, who: str, which: int, subject: object) -> int | None:
        """Return the arrival time of a packet that the environment makes late enough to meet a timer, or None; see
        `Scheduler.timer_race`."""
        return scheduler.timer_race(
            who, which, "net.race", scheduler.clock.now + self.latency_ns, self.jitter_ns, subject
        )

    def carry(
        self, scheduler: Scheduler, answer: int, raced: int | None, size: int, deliver: Callable[[], None]
    ) -> int:
        """Carry a packet as `answer` says: calls ``deliver()`` when it arrives, which may be at once.

        Returns how many of its bytes travel in it: fewer than `size` when the packet is split, and the
        caller sends the rest as a packet of its own.
        """
        if raced is not None:
            scheduler.at(raced, deliver)
            return size
        if answer == 0 and not self.latency_ns:
            deliver()
            return size
        due = scheduler.clock.now + self.latency_ns
        if 1 <= answer <= 3:
            if self.latency_ns:
                scheduler.at(due, lambda: scheduler.after_turns(answer, deliver))
            else:
                scheduler.after_turns(answer, deliver)
            return size
        if answer == _LATE and (half := self.jitter_ns // 2):
            # Until a time at which others arrive, too: what is late in the same 25 ms is seen by one poll, so that
            # arrivals meet that no other pair of delays would bring together.
            due += half + -(due + half) % half
        scheduler.at(due, deliver)
        if answer < _WHOLE:
            return size
        return (1, size // 2, size - 1)[answer - _WHOLE]


LOOPBACK = Link(0, 50 * MILLISECOND)
LAN = Link(MILLISECOND // 2, 50 * MILLISECOND)
