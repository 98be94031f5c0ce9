"""Preemption of processes, if there are several: others may run before a system call of one."""

from __future__ import annotations

from functools import partial
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
        if world.reaching_out or not process.alive or process.waits:
            return
        turn = process, process.steps
        self._calls = self._calls + 1 if turn == self._calling else 1
        self._calling = turn
        if self._calls > CALLS_MAX:
            # It would go on for ever if it waits for others without blocking.
            self._calls = 0
            world.count_steps(CALLS_MAX, process.name)
            scheduler.at(scheduler.clock.now + MILLISECOND, partial(_go_on, process))
        elif not schedule_switch(process, scheduler, "process.switch", process.name, process, partial(_go_on, process)):
            return
        process.preempted = True
        try:
            world.wait(process, lambda: not process.preempted, None)
        finally:
            world.current = process
            process.preempted = False


def _go_on(process: Process) -> None:
    process.preempted = False
