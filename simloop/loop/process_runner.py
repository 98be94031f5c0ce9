"""State machine that does what `asyncio.run` does, for simulated processes whose loops are run turn by turn (a turn is
one iteration) while other processes wait."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal  # constants only
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Generic

from simloop.errors import HostCrashedError, ProcessEndedError
from simloop.kernel.process.exits import exit_status
from simloop.kernel.process.signals import name_of
from simloop.loop.cleanup import report_leftovers, shutdown_stages
from simloop.loop.runner import T
from simloop.loop.turns import SteppedLoop

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.world.world import World


class ProcessRunner(Generic[T]):
    """State machine that does what `asyncio.run` does: runs the main coroutine of a process, then the stages of
    shutting down.

    ``on_end(status)`` is called at the end with the wait status of the process (wait(2)), or with None if the process
    was killed or its machine lost power.
    """

    def __init__(
        self, world: World, process: Process, main: Coroutine[Any, Any, T], on_end: Callable[[int | None], None]
    ) -> None:
        self._world = world
        self._process = process
        self._process.on_kill = self._died
        self._on_end = on_end
        # Nothing is inherited from whoever starts a process.
        self._context = contextvars.Context()
        self._name = getattr(main, "__qualname__", "a coroutine")
        self._stages: Iterator[asyncio.Future[Any]] | None = None
        self.over = False
        self._lost = False
        #: Exception that ended the process, but was not raised by its main task; None if there is none.
        self._error: BaseException | None = None
        previous, world.current = world.current, self._process
        try:
            self.loop = loop = SteppedLoop(world, self._process, self._next_stage, self._broken)
            self._task: asyncio.Task[T] = loop.create_main(main, self._context)
            loop.until = self._task
        finally:
            world.current = previous

    def _next_stage(self, quiet: bool) -> None:
        loop = self.loop
        # As shut_down() does: leave out what would find nothing to do.
        if not quiet and not loop.is_quiet():
            if self._stages is None:
                self._stages = shutdown_stages(loop, self._context)
            loop.until = next(self._stages, None)
            if loop.until is not None:
                return
            if self._task.done() and not self._task.cancelled():
                self._task.exception()  # it is raised where `result` is asked for: nobody need be told of it
            report_leftovers(loop)
        if loop.was_interrupted(self._task):
            self._error = KeyboardInterrupt()
        loop.end_turns()
        try:
            self._world.userland.end(self._world)
        except BaseException as error:
            if not self._process.alive:
                return  # it was killed meanwhile
            if error is not self._process.broken_by:
                raise
        self.over = True
        self._process.on_kill = None
        self._ended(self._status())

    def _broken(self, error: BaseException) -> None:
        """Handle an exception that left the loop: store it, and shut down, as `asyncio.run` does."""
        if self._error is not None:
            self._stages = iter(())  # out of the closing, too
        self._error = error
        self._next_stage(False)

    def _died(self) -> None:
        if not self.over:
            self.over = self._lost = True
            self._ended(None)

    def _ended(self, status: int | None) -> None:
        self._on_end(status)
        # Its generator and its loop know this object: nothing is to be left to the collector.
        self._stages = None
        self.loop.on_stop = self.loop.on_break = self.loop.until = None

    def interrupt(self) -> None:
        """Cancel the main task, as Ctrl-C does in `asyncio.run`."""
        # Through the queue, so that it wakes the loop and happens in a turn of its own process.
        if self._process.alive:
            self.loop.call_soon_threadsafe(self._task.cancel)

    def _status(self) -> int:
        """Return the wait status of the process (wait(2)): that of a Python interpreter whose main module ends in the
        same way."""
        error, task = self._error, self._task
        if error is None and task.done() and not task.cancelled():
            error = task.exception()
            if error is None:
                # What a program returns; nobody waits for the processes of `SimHost.run`.
                value = task.result()
                return exit_status(value) if isinstance(value, int) else 0
        if isinstance(error, KeyboardInterrupt):
            # "kills itself with SIGINT" (exit_sigint in Modules/main.c).
            return int(signal.SIGINT)
        if isinstance(error, SystemExit):
            return exit_status(exit_code(error))
        return exit_status(1)

    def result(self) -> T:
        if self._lost and self._process.status is None:
            host = self._process.host.name
            raise HostCrashedError(f"host {host!r} lost power while it ran {self._name}()")
        returncode = os.waitstatus_to_exitcode(self._process.status or 0)
        if self._lost or isinstance(self._error, (KeyboardInterrupt, SystemExit)):
            how = f"exit code {returncode}" if returncode >= 0 else name_of(-returncode)
            raise ProcessEndedError(f"{self._process.name} was ended by {how} while it ran {self._name}()", returncode)
        if self._error is not None:
            raise self._error
        return self._task.result()


def exit_code(error: SystemExit) -> int:
    """Return the exit code for a `SystemExit` (handle_system_exit in Python/pythonrun.c)."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1
