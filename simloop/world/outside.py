"""Outside signals: signals that the environment may send to a process, once, as an operator or a supervisor would."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from simloop.errors import ConfigurationError
from simloop.kernel.process.signals import name_of

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.kernel.host import Host
    from simloop.kernel.process.process import Process
    from simloop.kernel.scheduler import Scheduler


class OutsideSignal:
    """Signal with the number `number` that the environment may send once, by calling ``send(process, number)``, to a
    process on `host`. `process` is its pid, an object with that attribute, or the name of its program."""

    def __init__(
        self, scheduler: Scheduler, send: Callable[[Process, int], None], host: Host, process: object, number: int
    ) -> None:
        self._scheduler = scheduler
        self._send = send
        self._host = host
        self._which = process if isinstance(process, str) else getattr(process, "pid", process)
        if isinstance(self._which, bool) or not isinstance(self._which, (int, str)) or not self._which:
            raise ConfigurationError(f"{process!r} is no process: give the name of its program, or what was started")
        self._number = number
        self._sent = False

    def matches(self, process: Process) -> bool:
        """Return True if the signal may be sent to this process."""
        if process.host is not self._host:
            return False
        name = process.name.partition("#")[0]
        return self._which in (process.pid, name, name.partition(":")[2])

    def at_polls_of(self, process: Process) -> PendingSignal:
        """Return a `PendingSignal`, which the loop of `process` asks at each poll whether the signal is delivered
        now."""
        return PendingSignal(self, process)

    def ask(self, process: Process, choices: Choices) -> bool:
        """Ask at a choice point if the signal is sent to `process` now. Returns True if it is."""
        self._sent = choices.choose(f"{process.name} {name_of(self._number)}", "signal.sent", 2, process) != 0
        return self._sent

    def ask_in_call(self, process: Process, choices: Choices) -> None:
        """Ask at a choice point, at the start of a blocking call of `process`, if the signal is sent, and send it if
        so."""
        if self.matches(process) and not self.is_over(process) and self.ask(process, choices):
            self.send(process)

    def is_over(self, process: Process) -> bool:
        """Return True if the signal can no longer be sent to `process`: it was sent already, or the process has
        ended."""
        return self._sent or not process.alive

    def send(self, process: Process) -> None:
        """Send the signal, so that it arrives during the current poll or blocking call."""

        def arrive() -> None:
            if process.alive:
                self._send(process, self._number)

        self._scheduler.at(self._scheduler.clock.now, arrive)


class PendingSignal:
    """Outside signal as seen by the loop of one process, with the same interface as
    `simloop.loop.cancellation.Cancellable`."""

    def __init__(self, signal: OutsideSignal, process: Process) -> None:
        self._signal = signal
        self._process = process

    def done(self) -> bool:
        return self._signal.is_over(self._process)

    def ask(self, choices: Choices) -> bool:
        return self._signal.ask(self._process, choices)

    def arrive(self, loop: object) -> None:
        self._signal.send(self._process)

    def stable_id(self) -> int:
        return zlib.crc32(self._process.name.encode())
