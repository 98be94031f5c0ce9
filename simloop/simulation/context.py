"""Context manager around one run: creates a world (the simulated machines), enters it, leaves it, and cleans it up."""

from __future__ import annotations

import asyncio
import gc
from asyncio import events
from typing import TYPE_CHECKING

from simloop.errors import WorldError
from simloop.kernel.clock import WALL_NS
from simloop.loop.cleanup import abandon, report_leftovers
from simloop.loop.loop import SimLoop
from simloop.shims import clock_tools, libraries, set_order
from simloop.shims import gc as gc_shim
from simloop.simulation import watchdog
from simloop.simulation.install import install
from simloop.simulation.userland import USERLANDS
from simloop.world import active
from simloop.world.world import World

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.simulation.limits import Limits


class WorldContext:
    """Context manager that creates a world and enters it: until the block ends, the patched functions act on that
    world."""

    __slots__ = ("_clocks", "_collecting", "_max_hang", "_strict", "_world")

    def __init__(self, choices: Choices, limits: Limits) -> None:
        if active.entered is not None:
            raise WorldError(
                "a world is already entered in this thread: leave it before entering another"
                if active.world() is not None
                else "another thread is inside of a world: use one world at a time, or one process for each"
            )
        if events._get_running_loop() is not None:
            raise WorldError("a world cannot be entered from a running event loop: enter it from synchronous code")
        install()
        set_order.number_objects(choices.numbered)
        # At once, and by position: a short run would take some per cent longer with as many attributes and keywords.
        profile, steps, time, stall, self._max_hang, _, start, cancel, blocking, preempt, self._strict = limits
        self._world = World(
            choices,
            USERLANDS[blocking],
            profile,
            steps,
            time,
            stall,
            cancel,
            preempt == "lines" or choices.lines,
            WALL_NS if start is None else limits.start_ns,
        )

    def __enter__(self) -> World:
        world = self._world
        if world.preempts_lines:
            from simloop.world import lines

            lines.start()
        # Finalisers run at the collector's time, which no seed covers: not in the middle of a run.
        if gc_shim.asked:
            gc_shim.collect_leftovers()
        self._collecting = gc.isenabled()
        gc.disable()
        watchdog.watch(world, self._max_hang)
        libraries.begin(world.choices.seed)
        # Outside of any other world, as `__init__` has seen. Short runs show what each call here costs.
        active.entered = world
        self._clocks = clock_tools.rewound()
        return world

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        world = self._world
        try:
            if len(world.processes) > 1 or not world.root.alive:
                from simloop.simulation.left_processes import discard, report

                if error is None:
                    report(world)
                discard(world)
            if world.scheduler.loops:
                if error is None:
                    for loop in _loops(world):
                        report_leftovers(loop)
                for loop in _loops(world):
                    abandon(loop)
            if error is None and self._strict and world.escape is None:
                world.programs.check_called()
        finally:
            try:
                world.close()
            finally:
                watchdog.rest()
                if self._clocks is not None:
                    self._clocks.put_back()
                libraries.end()
                active.entered = None
                if world.preempts_lines:
                    from simloop.world import lines

                    lines.stop()
                if self._collecting:
                    gc.enable()
        if error is None and world.escape is not None:
            raise world.escape
        # Who awaits a task that was cancelled for him is told so: under the option this is what should happen.
        return isinstance(error, asyncio.CancelledError) and world.cancel_own and world.cancellations > 0


def _loops(world: World) -> list[SimLoop]:
    return [loop for loop in world.scheduler.loops if isinstance(loop, SimLoop)]
