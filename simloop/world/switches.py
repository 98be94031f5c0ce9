"""Preemption of processes, if there are several: others may run before a system call of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.kernel.clock import MILLISECOND
from simloop.kernel.process.delays import CALLS_MAX, schedule_switch

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.world.world import World


class Switches:
    """Preemptions of one world's processes, each before one of their system calls."""

    __slots__ = ("_calling", "_calls", "_world")

    def __init__(self, world: World) -> None:
        self._world = world
        # Number of calls that a process has made in its turn.
        self._calls = 0
        self._calling: tuple[Process, int] | None = None

    def ask(self) -> None:
        """Preempt the current process if the environment chooses so. In reality processes run in parallel, and see of
        each other only the order of their calls."""
        world = self._world
        process, scheduler = world.current, world.scheduler
        if world.reaching_out or not process.alive or scheduler.is_waiting(process):
            return
        over = False

        def go_on() -> None:
            nonlocal over
            over = True

        turn = process, process.steps
        self._calls = self._calls + 1 if turn == self._calling else 1
        self._calling = turn
        if self._calls > CALLS_MAX:
            # It would go on for ever if it waits for others without blocking.
            self._calls = 0
            world.count_steps(CALLS_MAX, process.name)
            scheduler.at(scheduler.clock.now + MILLISECOND, go_on)
        elif not schedule_switch(process, scheduler, "process.switch", process.name, process, go_on):
            return
        process.preempted = True
        try:
            world.wait(process, lambda: over, None)
        finally:
            world.current = process
            process.preempted = False
