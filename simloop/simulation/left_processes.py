"""Processes that are left at the end of a world: children that nobody has waited for are reported, and all are
discarded. It is imported by the first world that has more than one process, or whose own has ended."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from simloop.kernel.process.process import State
from simloop.loop.crashed_tasks import keep
from simloop.loop.loop import SimLoop

if TYPE_CHECKING:
    from simloop.world.world import World


def report(world: World) -> None:
    """Warn of child processes that were not waited for: children of the test itself, and of processes started by
    ``host.run``."""
    for process in world.processes:
        parent = process.parent
        if parent is None or parent.environ is not None or process.state is State.POWERED_OFF:
            continue
        if isinstance(parent.loop, SimLoop) and process.pid in parent.loop.resources.reported:
            continue  # by its transport
        what = (
            "has ended, and is a zombie: nobody has waited for it"
            if process.exited
            else "is still running, and nobody has waited for it"
        )
        warnings.warn(
            f"child {process.name} (pid {process.pid}), started at {process.started_at}, {what}",
            ResourceWarning,
            stacklevel=2,
        )


def discard(world: World) -> None:
    """Discard the processes that lost power or were killed, so that closing their suspended coroutines has no effect on
    the world. Programs that still run are discarded in the same way."""
    for process in world.processes:
        if process.alive and (process.environ is not None or process.waits):
            if isinstance(process.loop, SimLoop) and process.loop in world.scheduler.loops:
                process.loop.lose_power()
            process.lose_power()
    world.scheduler.close()
    for process in world.processes:
        if not process.alive and isinstance(process.loop, SimLoop):
            world.current = process
            process.forget_holders()
            _discard_crashed(process.loop)
    world.current = world.root


def _discard_crashed(loop: SimLoop) -> None:
    """Discard the loop of a process that was killed or lost power, at the end of its world, without running ``finally``
    blocks of its tasks."""
    if loop.is_closed():
        return  # its process had ended before
    keep(loop.resources.silence())
    loop.discard()
