"""Callbacks of the kernel into upper layers during a run: signals, programs, handling of blocking calls and
deadlocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.simulation.blocking import refuse_block, warn_of_block

if TYPE_CHECKING:
    from simloop.errors import DeadlockError
    from simloop.kernel.process.process import Process
    from simloop.kernel.scheduler import Scheduler
    from simloop.simulation.programs import Programs
    from simloop.world.world import World

_ANSWERS = {"ignore": lambda world, took_ns: None, "warn": warn_of_block, "fail": refuse_block}


class RunUserland:
    """Implementation of `simloop.world.userland.Userland` for runs whose option ``blocking`` has the given value."""

    def __init__(self, blocking: str) -> None:
        self._blocked = _ANSWERS[blocking]

    # Most runs send no signal, start no program, and end without a deadlock.

    def send(self, world: World, process: Process, number: int) -> None:
        from simloop.shims.signal import send

        send(world, process, number)

    def handle(self, world: World, process: Process, at_poll: bool) -> None:
        from simloop.shims.signal import handle

        handle(world, process, at_poll)

    def interrupts(self, world: World, process: Process) -> bool:
        from simloop.shims.signal import interrupts

        return interrupts(world, process)

    def programs(self, world: World) -> Programs:
        from simloop.simulation.programs import Programs

        return Programs(world)

    def end(self, world: World) -> None:
        if len(world.threads) == 1 and not world.current.exit_handlers:
            return
        from simloop.shims.atexit import call_handlers
        from simloop.shims.threading import end_threads

        end_threads(world)
        call_handlers(world)

    def blocked(self, world: World, took_ns: int) -> None:
        self._blocked(world, took_ns)

    def deadlock(self, scheduler: Scheduler) -> DeadlockError:
        from simloop.checks.deadlock import describe_deadlock

        return describe_deadlock(scheduler)

    def activity(self, scheduler: Scheduler) -> str:
        from simloop.checks.activity import describe_activity

        return describe_activity(scheduler)


USERLANDS = {blocking: RunUserland(blocking) for blocking in _ANSWERS}
