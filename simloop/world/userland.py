"""Interface by which a world calls the layer above it, which runs Python programs (the userland)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from simloop.kernel.scheduler import Scheduler, plain_deadlock

if TYPE_CHECKING:
    from simloop.errors import DeadlockError
    from simloop.kernel.process.process import Process


class Userland(Protocol):
    """Structural type of the layer that runs Python programs on one world's kernel. `world` is a
    `simloop.world.world.World`. Runs use the implementation in `simloop.simulation.userland`."""

    def send(self, world: Any, process: Process, number: int) -> None:
        """Send the signal `number` to `process` now."""

    def handle(self, world: Any, process: Process, at_poll: bool) -> None:
        """Run the handlers of signals delivered to `process`, in its main thread. `at_poll` is True in a poll of its
        loop, and False in a blocking call."""

    def interrupts(self, world: Any, process: Process) -> bool:
        """Return True if a signal was delivered that interrupts a blocking call of `process`."""

    def programs(self, world: Any) -> Any:
        """Return the table of the world's simulated executables. Called once per world, when it is first used."""

    def end(self, world: Any) -> None:
        """Finalize the Python interpreter of the current process: join its threads, and call exit handlers
        (`atexit`)."""

    def blocked(self, world: Any, took_ns: int) -> None:
        """Handle a call that blocked the event loop of the current process for `took_ns` nanoseconds, for example by a
        warning."""

    def deadlock(self, scheduler: Scheduler) -> DeadlockError:
        """Return the error for a world in which nothing can happen any more."""

    def activity(self, scheduler: Scheduler) -> str:
        """Return a phrase for an error message on the activity of a world that does not end."""


class NoUserland:
    """Userland of a world in which no test runs: no signal handlers, no executables, no warnings."""

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
