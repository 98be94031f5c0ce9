"""How packets travel: the delay of a link, and what the environment may add to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simloop.kernel.clock import MICROSECOND, MILLISECOND

if TYPE_CHECKING:
    from simloop.kernel.scheduler import Scheduler

# What the answers at a `net.deliver` point mean, in the order of their values. The last three need
# something that can be cut in two.
DELIVERIES = (
    "at once",
    "one turn later",
    "two turns later",
    "three turns later",
    "together with the next timer",
    "after the next timer",
    "its first byte alone, then the rest",
    "in two halves",
    "all but its last byte, then that",
)
_WHOLE = 6


@dataclass(frozen=True)
class Link:
    """One way between two hosts.

    `latency_ns` passes for every packet. `jitter_ns` is the most that the environment may add: on
    loopback it stands for a kernel thread that was not scheduled at once, elsewhere for a queue on the way.
    """

    latency_ns: int
    jitter_ns: int

    def ask(self, scheduler: Scheduler, who: str, kind: str, size: int, subject: object) -> int:
        """What the environment does with a packet of `size` bytes: a number of `DELIVERIES`."""
        return scheduler.choices.choose(who, kind, len(DELIVERIES) if size > 1 else _WHOLE, subject)

    def carry(self, scheduler: Scheduler, answer: int, size: int, deliver: Callable[[], None]) -> int:
        """Bring the packet over as answered: ``deliver()`` is called when it arrives, maybe at once.

        Returns how many of its bytes travel in it: fewer than `size` when the packet is split, and the
        caller sends the rest as a packet of its own.
        """
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
        if answer in (4, 5):
            due += self._until_timer(scheduler, after=answer == 5)
        scheduler.at(due, deliver)
        if answer < _WHOLE:
            return size
        return (1, size // 2, size - 1)[answer - _WHOLE]

    def _until_timer(self, scheduler: Scheduler, *, after: bool) -> int:
        """How much longer, to arrive with or after the next timer, if the link's jitter allows that."""
        timer = scheduler.next_timer_ns()
        if timer is not None:
            # A loop that waits for a timer wakes up to a millisecond late (see Scheduler.poll).
            wait = timer - scheduler.clock.now + (MILLISECOND + 100 * MICROSECOND if after else MICROSECOND)
            if 0 < wait <= self.jitter_ns:
                return wait
        return self.jitter_ns // 2


LOOPBACK = Link(0, 50 * MILLISECOND)
LAN = Link(MILLISECOND // 2, 50 * MILLISECOND)
