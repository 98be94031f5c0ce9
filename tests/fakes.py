"""What the kernel asks of others, in a few lines: answers at choice points, and a loop that has nothing but work."""

from __future__ import annotations

from collections.abc import Callable, Sized

from simloop.choices.choices import Choices
from simloop.kernel.process.pids import PidTable
from simloop.kernel.process.process import Process
from simloop.kernel.scheduler import Scheduler


def answering(**answers: int) -> Choices:
    """Returns choices that answer the first point of a kind as given, with _ for a dot, and all others with 0."""
    return Choices(0, lambda who, kind, number, n: answers.get(kind.replace(".", "_"), 0) if number == 1 else 0)


class FakeLoop:
    """A loop whose turns are counted; it has work while `work` is above 0, one unit of it a turn."""

    def __init__(
        self, scheduler: Scheduler, name: str, work: int = 0, log: list[str] | None = None, stepped: bool = False
    ) -> None:
        # Without a host: nobody asks for one here.
        self.process = Process(None, PidTable(), 1, name)  # type: ignore[arg-type]
        self.process.loop = self
        self.scheduler = scheduler
        self.work = work
        self.log = [] if log is None else log
        self.last_turn = 0
        self.stepped = stepped
        self.timers: list[int] = []
        self.polls_until_ns: int | None = None
        scheduler.add(self)
        if stepped:
            scheduler.step(self)

    def __len__(self) -> int:
        return self.work

    def tell(self, notice: Callable[[], None] | None) -> bool:
        return False

    def queues(self) -> tuple[Sized, Sized]:
        return self, ()

    def takes_turns(self) -> bool:
        return True

    def has_work(self) -> bool:
        due = self.deadline_ns()
        return self.work > 0 or (due is not None and due <= self.scheduler.clock.now)

    def poll_until(self, deadline_ns: int | None) -> None:
        self.polls_until_ns = deadline_ns

    def deadline_ns(self) -> int | None:
        return min(self.timers, default=self.polls_until_ns)

    def deadlines_between(self, start_ns: int, end_ns: int) -> list[int]:
        return sorted(due for due in self.timers if start_ns < due <= end_ns)

    def run_turn(self) -> None:
        self.work -= 1
        self.log.append(self.process.name)
        self.scheduler.poll(self, 0)

    def suspend(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def has_other_work(self) -> bool:
        return False

    def lose_power(self) -> None:
        raise AssertionError("nobody cuts the power here")

    def idle_arrival(self) -> bool:
        return False
