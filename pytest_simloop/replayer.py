"""Process that replays failures for a pytest session, each in a fresh fork of itself.

The process is a pytest with the session's own options, which stops where a session would begin: plugins and the first
`conftest.py` are imported, but no test is. For each request it forks, and the fork continues as a session with one test
and one schedule. So a replay has as little old state as in a new process, and starts in a fraction of the time. When
the other end of its socket is closed, the process ends, together with a replay that is still running.
"""

from __future__ import annotations

import contextlib
import json
import os
import posix
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_simloop.environment import REPLAYER_SOCKET, SIGNATURE_FILE

if TYPE_CHECKING:
    from simloop.simulation.run import Execute

#: Path of the socket on which a fork gets requests for runs, if it is a zygote (which forks for each run); unset if it
#: replays a schedule.
ZYGOTE = pytest.StashKey[str]()
#: Real seconds that a replay may take, including imports.
PATIENCE = 30.0
# And more than that the process needs when it starts, or something is wrong with it.
_START = 60.0


class Replayer:
    """Handle on a process that makes replays, which is started at once, with the given command-line arguments of
    pytest, in the directory `folder`, with `hash_seed` as PYTHONHASHSEED."""

    def __init__(self, arguments: list[str], folder: Path, hash_seed: str | None = None) -> None:
        environment = dict(os.environ)
        # A coverage tool or an xdist worker must not take the process for one of its own.
        for name in [name for name in environment if name.startswith(("PYTEST_XDIST", "COV_CORE"))]:
            del environment[name]
        if hash_seed is not None:
            environment["PYTHONHASHSEED"] = hash_seed
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(PATIENCE + _START)
        environment[REPLAYER_SOCKET] = str(theirs.fileno())
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the session that is watched
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    def replay(self, node: str, token: str, signature_file: Path) -> int | None:
        """Run the test with the node id `node` under the schedule of a token, in a fork, which writes the signature of
        its failure to `signature_file`. Returns pytest's exit status: negative if the fork was killed, None if it is
        not known."""
        try:
            self._socket.sendall(json.dumps([node, token, str(signature_file), None]).encode() + b"\n")
            answer = self._socket.recv(16)
        except OSError:  # it is gone, or takes too long
            return None
        return int(answer) if answer else None

    def zygote(self, node: str, start: str | None = None) -> FreshZygote:
        """Return a zygote: a fork in which the test `node` is set up, and which forks for each run of it. `start` is
        the option ``start``, or None for what the session was given. Until it is closed, no replay can be made. Raises
        `OSError` if it could not be started, as when the suite needs something that only one process can have."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            path = str(Path(folder, "zygote"))
            listener.bind(path)
            listener.listen(1)
            self._socket.sendall(json.dumps([node, "", path, start]).encode() + b"\n")
            ready = select.select([listener, self._socket], [], [], PATIENCE + _START)[0]
            if listener not in ready:
                # It has ended, or will be ended with the process that serves it.
                self.close() if not ready else self._socket.recv(16)
                raise OSError("no fresh process has come to the test")
            return FreshZygote(listener.accept()[0], self._socket)

    def close(self) -> None:
        """End the process and wait for it."""
        self._socket.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class FreshZygote:
    """Handle on a zygote (a process that forks for each run, see `simloop.explore.forks`) that has run no test. `link`
    is the socket on which runs are requested, and `requests` the one on which the end of the zygote is reported."""

    def __init__(self, link: socket.socket, requests: socket.socket) -> None:
        peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self._pid = struct.unpack("3i", peer)[0]
        self._requests = requests
        self.link = link.detach()

    def close(self) -> None:
        posix.close(self.link)
        # It tears down its fixtures.
        if not select.select([self._requests], [], [], PATIENCE)[0]:
            with contextlib.suppress(OSError):
                posix.killpg(self._pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._requests.recv(16)


def serve(config: pytest.Config) -> None:
    """Run the main loop of the process that makes replays. It forks for each request, and returns only in the fork."""
    descriptor = os.environ.pop(REPLAYER_SOCKET)
    with socket.socket(fileno=int(descriptor)) as requests, requests.makefile() as lines:
        for request in lines:
            node, token, file, start = json.loads(request)
            pid = posix.fork()
            if pid == 0:
                posix.setsid()  # what it starts ends with it
                config.args[:] = [node]
                if token:
                    os.environ[SIGNATURE_FILE] = file
                    config.option.sim_replay = token
                else:
                    os.environ[SIGNATURE_FILE] = os.devnull
                    config.option.sim = True
                    config.option.sim_start = start or config.option.sim_start
                    config.stash[ZYGOTE] = file
                config.pluginmanager.register(_Fork(), "simloop-fork")
                return
            requests.sendall(str(_status(pid, requests, PATIENCE if token else None)).encode())
    posix._exit(0)


def served(config: pytest.Config, execute: Execute) -> bool:
    """Make all runs of the test by calling `execute` and return True, if this process is a zygote (which forks for each
    run); else return False."""
    path = config.stash.get(ZYGOTE, "")
    if not path:
        return False
    from simloop.explore.forks import fork_for_runs

    with socket.socket(socket.AF_UNIX) as link:
        link.connect(path)
        fork_for_runs(execute, link.fileno())
    return True


class _Fork:
    """Pytest plugin that ends a fork right after its test, before any reports are written."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        posix._exit(exitstatus)


def _status(pid: int, requests: socket.socket, patience: float | None) -> int:
    """Wait for a fork and return its exit status, negative if it was killed after `patience` seconds. If the session
    has closed the socket `requests`, kill the fork and end this process."""
    child = posix.pidfd_open(pid)
    poll = select.poll()
    poll.register(child, select.POLLIN)
    poll.register(requests, select.POLLIN)  # a request at a time: now there can only be the end
    ready = [found for found, _ in poll.poll(None if patience is None else patience * 1000)]
    posix.close(child)
    if child not in ready:
        for kill in (posix.killpg, posix.kill):
            with contextlib.suppress(ProcessLookupError):  # it may not have its own group yet
                kill(pid, signal.SIGKILL)
    _, status = posix.waitpid(pid, 0)
    if requests.fileno() in ready:
        posix._exit(0)
    return posix.waitstatus_to_exitcode(status)
