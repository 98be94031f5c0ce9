"""Userland: what a world calls when something concerns the Python programs that run in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from simloop.kernel.scheduler import Scheduler, plain_deadlock

if TYPE_CHECKING:
    from simloop.errors import DeadlockError
    from simloop.kernel.process.process import Process


class Userland(Protocol):
    """Python above the kernel of one world, of type `simloop.world.world.World`; `simloop.simulation.userland` has
    the one that runs use."""

    def send(self, world: Any, process: Process, number: int) -> None:
        """A signal comes to `process`, now."""

    def handle(self, world: Any, process: Process, at_poll: bool) -> None:
        """Run the handlers of signals that have come to `process`, in its main thread."""

    def interrupts(self, world: Any, process: Process) -> bool:
        """True if a signal has come that a blocking call is interrupted for."""

    def programs(self, world: Any) -> Any:
        """The executables that there are, beside Python: made once for a world, when something asks."""

    def blocked(self, world: Any, took_ns: int) -> None:
        """A call has stopped the loop of the current process for so many nanoseconds."""

    def deadlock(self, scheduler: Scheduler) -> DeadlockError:
        """The error for a world in which nothing can ever happen again."""


class NoUserland:
    """Userland of a bare world: no handlers, no programs, no complaints."""

    def send(self, world: Any, process: Process, number: int) -> None:
        pass

    def handle(self, world: Any, process: Process, at_poll: bool) -> None:
        pass

    def interrupts(self, world: Any, process: Process) -> bool:
        return False

    def programs(self, world: Any) -> Any:
        return None

    def blocked(self, world: Any, took_ns: int) -> None:
        pass

    def deadlock(self, scheduler: Scheduler) -> DeadlockError:
        return plain_deadlock(scheduler)
