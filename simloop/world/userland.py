"""Userland: the interface by which a world calls the layer above it, which runs Python programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from simloop.kernel.scheduler import Scheduler, plain_deadlock

if TYPE_CHECKING:
    from simloop.errors import DeadlockError
    from simloop.kernel.process.process import Process


class Userland(Protocol):
    """Protocol of the layer of Python programs above one world's kernel. `world` is a `simloop.world.world.World`. The
    implementation that runs use is in `simloop.simulation.userland`."""

    def send(self, world: Any, process: Process, number: int) -> None:
        """Send a signal to `process`, now."""

    def handle(self, world: Any, process: Process, at_poll: bool) -> None:
        """Run the handlers of signals that have come to `process`, in its main thread."""

    def interrupts(self, world: Any, process: Process) -> bool:
        """Return True if a signal has come that interrupts a blocking call of `process`."""

    def programs(self, world: Any) -> Any:
        """Return the simulated executables of the world. Called once per world, at the first use."""

    def end(self, world: Any) -> None:
        """Finalize Python in the current process: wait for its threads, and call exit handlers."""

    def blocked(self, world: Any, took_ns: int) -> None:
        """Handle a call that has blocked the loop of the current process for `took_ns` nanoseconds."""

    def deadlock(self, scheduler: Scheduler) -> DeadlockError:
        """Return the error for a world in which nothing can ever happen again."""

    def activity(self, scheduler: Scheduler) -> str:
        """Return a phrase on what a world that does not end is doing."""


class NoUserland:
    """Userland of a bare world, which runs no test: no signal handlers, no executables, no warnings."""

    def send(self, world: Any, process: Process, number: int) -> None:
        pass

    def handle(self, world: Any, process: Process, at_poll: bool) -> None:
        pass

    def interrupts(self, world: Any, process: Process) -> bool:
        return False

    def programs(self, world: Any) -> Any:
        return None

    def end(self, world: Any) -> None:
        pass

    def blocked(self, world: Any, took_ns: int) -> None:
        pass

    def deadlock(self, scheduler: Scheduler) -> DeadlockError:
        return plain_deadlock(scheduler)

    def activity(self, scheduler: Scheduler) -> str:
        return ""
