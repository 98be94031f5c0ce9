"""Forked runs: each run of a campaign is made in a process of its own, for tests whose runs depend on the state of the
process (addresses of objects, module globals).

A *zygote* is a process that is forked once, and only forks: so each run begins with the same heap, byte for byte, and
its objects get the same addresses as in every other run of the same schedule. Strategies stay in the process that has
begun the campaign and are told of every run: the fork sends each choice point there, and gets the answer.

The zygote forks before it is sent the run's data, which would otherwise end up in the zygote's own heap. (Zygotes are
Android's word: https://source.android.com/docs/core/runtime/zygote. Their use for runs that are alike is AFL's fork
server, https://lcamtuf.blogspot.com/2014/10/fuzzing-binaries-without-execve.html.)
"""

from __future__ import annotations

import contextlib
import marshal
import os
import pickle
import posix
import select
import signal
import socket
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from simloop.choices.choices import Choices
from simloop.errors import limit_met
from simloop.explore.signature import FailedElsewhere, signature_of
from simloop.shims.patch import original
from simloop.simulation import watchdog

if TYPE_CHECKING:
    from simloop.simulation.run import Execute

# A run asks its choice points from inside of its world.
_read, _write = original(os, "read"), original(os, "write")
# Real seconds that a fork may take from one choice point to the next. Then this process makes the run itself, and ends
# it if it hangs: forks have no watchdog.
_PATIENCE = 30.0
# Kinds of messages from a fork.
_ASKED, _ENDED, _REFUSED = b"?", b"=", b"!"


@dataclass(frozen=True)
class ForkedOutcome:
    """Result of a forked run, as plain data that can be sent between processes, without the world."""

    choices: Choices
    fingerprint: int
    steps: int
    exception: FailedElsewhere | None
    #: Always None: a run that escapes is repeated in this process instead.
    escape: None = None
    is_here: bool = False


class Zygote(Protocol):
    """Structural type of a zygote: a process that forks once for each run."""

    #: Descriptor of the socket to the process that makes the next run.
    link: int

    def close(self) -> None:
        """Kill the process and all of its forks."""


class Forks:
    """Runner of single runs, each in a forked process of its own. ``begin()`` starts the process that forks (a zygote),
    or raises `OSError`. Call `close` after the campaign."""

    def __init__(self, begin: Callable[[], Zygote]) -> None:
        self._begin = begin
        self._zygote: Zygote | None = begin()

    def run(self, choices: Choices, profile: str | None) -> ForkedOutcome | None:
        """Make a run in a fork, and record its answers in `choices`. Return its outcome, or None for a run that this
        process has to make itself: one that met a limit of the simulation, was skipped, hangs, or ended its process."""
        if self._zygote is None:
            try:
                self._zygote = self._begin()
            except OSError:
                return None
        link = self._zygote.link
        asks = choices.decide is not None
        try:
            _send(link, pickle.dumps((choices.seed, asks, choices.lines, choices.numbered, profile)))
            while (message := _heard(link))[:1] == _ASKED:
                assert choices.decide is not None
                _send(link, marshal.dumps(choices.decide(*marshal.loads(message[1:]))))
        except (ConnectionError, TimeoutError):
            self.close()
            return None
        if message[:1] == _REFUSED:
            return None
        state, fingerprint, steps, failure = pickle.loads(message[1:])
        choices.restore(state)
        return ForkedOutcome(choices, fingerprint, steps, FailedElsewhere(*failure) if failure else None)

    def close(self) -> None:
        """End the processes."""
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None


class OwnZygote:
    """Zygote (a process from which each run is forked) made by forking this process. `execute` is the function that
    makes a run."""

    def __init__(self, execute: Execute) -> None:
        ours, theirs = socket.socketpair()
        self._pid = _fork()
        if self._pid == 0:
            try:
                ours.close()
                _lead_a_group(0)
                fork_for_runs(execute, theirs.detach())
            finally:
                posix._exit(0)
        theirs.close()
        self.link = ours.detach()
        _lead_a_group(self._pid)

    def close(self) -> None:
        posix.close(self.link)
        with contextlib.suppress(ProcessLookupError):
            posix.killpg(self._pid, signal.SIGKILL)
        posix.waitpid(self._pid, 0)


def fork_for_runs(execute: Execute, link: int) -> None:
    """Run the main loop of a zygote: fork once for each run, until the socket `link` is closed at its other end.
    `execute` is the function that makes a run."""
    while True:
        child = _fork()
        if child == 0:
            _make_run(execute, link)
        if posix.waitpid(child, 0)[1]:
            return


def _make_run(execute: Execute, link: int) -> NoReturn:
    """Make one run, whose parameters are the first message on the socket `link`, send its outcome there, and end the
    process."""
    status = 1
    with contextlib.suppress(BaseException):
        seed, asks, lines, numbered, profile = pickle.loads(_receive(link))

        def decide(*point: Any) -> int:
            _send(link, _ASKED + marshal.dumps(point))
            value: int = marshal.loads(_receive(link))
            return value

        watchdog.leave_out()
        choices = Choices(seed, decide if asks else None, lines=lines, numbered=numbered)
        result = _REFUSED
        with contextlib.suppress(BaseException):
            outcome = execute(choices, None, profile=profile)
            error = outcome.exception
            if not (outcome.escape or outcome.limit or limit_met(error)):
                failure = (signature_of(error), "".join(format_exception_only(error)).rstrip()) if error else None
                result = _ENDED + pickle.dumps((choices.state(), outcome.fingerprint, outcome.steps, failure))
        _send(link, result)
        status = 0
    posix._exit(status)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads: of them, a fork has none
        return posix.fork()


def _lead_a_group(pid: int) -> None:
    """Make a process (0: the calling one) the leader of a new process group, so that its children can be killed with
    it. Both the process and its parent call this, as either may run first."""
    with contextlib.suppress(OSError):
        posix.setpgid(pid, 0)


def _heard(link: int) -> bytes:
    """Return the next message from a fork. Raises `TimeoutError` if none comes for some real seconds."""
    if not select.select([link], [], [], _PATIENCE)[0]:
        raise TimeoutError
    return _receive(link)


def _send(link: int, message: bytes) -> None:
    data = memoryview(len(message).to_bytes(4, "little") + message)
    while data:
        data = data[_write(link, data) :]


def _receive(link: int) -> bytes:
    """Return the next message from a socket. Raises `ConnectionError` if the other end is closed."""
    return _exactly(link, int.from_bytes(_exactly(link, 4), "little"))


def _exactly(link: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = _read(link, size - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data
