"""Forked runs: each run of a campaign in a process of its own, for tests whose runs depend on the state of the process
(addresses of objects, module globals).

A *zygote* is forked once, and does nothing but fork: so each run begins with the same heap, byte for byte, and its
objects get the same addresses as in every other run of the same schedule. Strategies stay in the process that has begun
the campaign, and learn of every run: each choice point is asked there.

The zygote's child is there before it is told of its run, since what it receives would else lie in the zygote's heap.
(Zygotes are Android's word: https://source.android.com/docs/core/runtime/zygote. Their use for runs that are alike is
AFL's fork server, https://lcamtuf.blogspot.com/2014/10/fuzzing-binaries-without-execve.html.)
"""

from __future__ import annotations

import contextlib
import marshal
import os
import pickle
import select
import signal
import socket
import warnings
from dataclasses import dataclass
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any, NoReturn

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
_ASKED, _ENDED = b"?", b"="


@dataclass(frozen=True)
class ForkedOutcome:
    """Outcome of a forked run, as plain data for the campaign, without the world."""

    choices: Choices
    fingerprint: int
    steps: int
    exception: FailedElsewhere | None
    #: No run that escapes is handed over.
    escape: None = None
    is_here: bool = False


class Forks:
    """Runner of single runs, each in a forked process of its own. ``execute`` makes a run. Close it after the
    campaign."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._zygote = 0
        self._link = -1

    def run(self, choices: Choices, profile: str | None) -> ForkedOutcome | None:
        """Make a run in a fork, which records its answers in `choices`. Return None for a run that this process has to
        make: one that met a limit of the simulation, hangs, was no failure but a skip, say, or ended its process."""
        if not self._zygote:
            self._start()
        asks = choices.decide is not None
        try:
            _send(self._link, pickle.dumps((choices.seed, asks, choices.lines, choices.numbered, profile)))
            while (message := self._heard())[:1] == _ASKED:
                assert choices.decide is not None
                _send(self._link, marshal.dumps(choices.decide(*marshal.loads(message[1:]))))
        except (ConnectionError, TimeoutError):
            self.close()
            return None
        state, fingerprint, steps, failure = pickle.loads(message[1:])
        choices.restore(state)
        return ForkedOutcome(choices, fingerprint, steps, FailedElsewhere(*failure) if failure else None)

    def _heard(self) -> bytes:
        """Return the next message of the fork. Raises `TimeoutError` if there is none for a while."""
        if not select.select([self._link], [], [], _PATIENCE)[0]:
            raise TimeoutError
        return _receive(self._link)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._zygote = _fork()
        if self._zygote == 0:
            ours.close()
            self._fork_for_ever(theirs.detach())
        theirs.close()
        self._link = ours.detach()
        _lead_a_group(self._zygote)

    def _fork_for_ever(self, link: int) -> NoReturn:
        try:
            _lead_a_group(0)
            while True:
                child = _fork()
                if child == 0:
                    self._work(link)
                if os.waitpid(child, 0)[1]:
                    break
        finally:
            os._exit(0)

    def _work(self, link: int) -> NoReturn:
        """Make the run that the first message describes, send its outcome, and exit."""
        status = 1
        with contextlib.suppress(BaseException):
            seed, asks, lines, numbered, profile = pickle.loads(_receive(link))

            def decide(*point: Any) -> int:
                _send(link, _ASKED + marshal.dumps(point))
                value: int = marshal.loads(_receive(link))
                return value

            watchdog.leave_out()
            choices = Choices(seed, decide if asks else None, lines=lines, numbered=numbered)
            outcome = self._execute(choices, None, profile=profile)
            error = outcome.exception
            if not (outcome.escape or outcome.limit or limit_met(error)):
                failure = (signature_of(error), "".join(format_exception_only(error)).rstrip()) if error else None
                result = choices.state(), outcome.fingerprint, outcome.steps, failure
                _send(link, _ENDED + pickle.dumps(result))
                status = 0
        os._exit(status)

    def close(self) -> None:
        """Kill the zygote and its children."""
        if self._zygote:
            os.close(self._link)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._zygote, signal.SIGKILL)
            os.waitpid(self._zygote, 0)
            self._zygote = 0


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads: of them, a fork has none
        return os.fork()


def _lead_a_group(pid: int) -> None:
    """Make a process the leader of a process group, by which its children are killed with it. Both the process and its
    parent call this: either may come first."""
    with contextlib.suppress(OSError):
        os.setpgid(pid, 0)


def _send(link: int, message: bytes) -> None:
    data = memoryview(len(message).to_bytes(4, "little") + message)
    while data:
        data = data[_write(link, data) :]


def _receive(link: int) -> bytes:
    """Return the next message from a socket. Raises `ConnectionError` if the other side is gone."""
    return _exactly(link, int.from_bytes(_exactly(link, 4), "little"))


def _exactly(link: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = _read(link, size - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data
