"""Functions of the upper layers that the kernel of a run calls: signals, programs, and reactions to blocking and
deadlocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.shims import signal
from simloop.simulation.blocking import refuse_block, warn_of_block

if TYPE_CHECKING:
    from simloop.errors import DeadlockError
    from simloop.kernel.scheduler import Scheduler
    from simloop.simulation.programs import Programs
    from simloop.world.world import World

_ANSWERS = {"ignore": lambda world, took_ns: None, "warn": warn_of_block, "fail": refuse_block}


class RunUserland:
    """Implementation of `simloop.world.userland.Userland` for runs whose option ``blocking`` has the given value."""

    send = staticmethod(signal.send)
    handle = staticmethod(signal.handle)
    interrupts = staticmethod(signal.interrupts)

    def __init__(self, blocking: str) -> None:
        self._blocked = _ANSWERS[blocking]

    def programs(self, world: World) -> Programs:
        from simloop.simulation.programs import Programs  # most runs start no program

        return Programs(world)

    def blocked(self, world: World, took_ns: int) -> None:
        self._blocked(world, took_ns)

    def deadlock(self, scheduler: Scheduler) -> DeadlockError:
        from simloop.checks.deadlock import describe_deadlock

        return describe_deadlock(scheduler)


USERLANDS = {blocking: RunUserland(blocking) for blocking in _ANSWERS}
