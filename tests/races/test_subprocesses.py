"""Races of asyncio's own subprocess machinery, found in ordinary programs, and not with the machinery mended.

Each mended version is the idea of the change that CPython has made, for the one method that it is about.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.base_subprocess import BaseSubprocessTransport
from typing import Any

import pytest
from pairs import FEW_SEEDS, SEEDS

import simloop

PIPE = asyncio.subprocess.PIPE
RUNS = 200
Transport: Any = BaseSubprocessTransport
# A run that hangs leaves its processes and their transports behind.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


async def thumbnails() -> None:
    """A page makes what thumbnails it can in a second, two at a time, and leaves the rest."""
    simloop.current().program("convert", takes=0.24)

    async def convert() -> None:
        process = await asyncio.create_subprocess_exec("convert", stdout=PIPE)
        try:
            await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise

    pending: set[asyncio.Task[None]] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                while len(pending) < 2:
                    pending.add(asyncio.create_task(convert()))
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


def mend_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """https://github.com/python/cpython/pull/140805: where connecting to the pipes was cancelled, nobody will ever make
    the calls that are kept until they are connected, so the end of the process itself wakes who waits for it."""
    connect, finish = Transport._connect_pipes, Transport._try_finish

    async def connect_pipes(self: Any, waiter: Any) -> None:
        await connect(self, waiter)
        self.connected = self._pending_calls is None

    def try_finish(self: Any) -> None:
        if self._returncode is not None and not getattr(self, "connected", False):
            for waiter in self._exit_waiters:
                if not waiter.done():
                    waiter.set_result(self._returncode)
        finish(self)

    monkeypatch.setattr(Transport, "_connect_pipes", connect_pipes)
    monkeypatch.setattr(Transport, "_try_finish", try_finish)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="CPython #125502 is mended there")
@pytest.mark.parametrize("seed", SEEDS)
def test_cancelled_while_it_is_started(seed: int) -> None:
    """https://github.com/python/cpython/issues/125502: asyncio.run never ends when it cancels a task that is just
    starting a process, since it cancels also the task in which asyncio connects to the pipes."""
    failure = simloop.explore(thumbnails, runs=RUNS, seed=seed).failure
    assert failure is not None
    assert isinstance(failure.exception, simloop.DeadlockError)
    assert "inside BaseSubprocessTransport._wait" in str(failure.exception)
    assert len(failure.schedule.deviations) == 1


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_cancelled_while_it_is_started_mended(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    mend_connecting(monkeypatch)
    report = simloop.explore(thumbnails, runs=RUNS, seed=seed)
    assert report.failure is None, report.failure.describe()
    assert report.runs == RUNS


async def backup() -> None:
    """A backup that takes about as long as it may, and whose exit code somebody cares for."""
    simloop.current().program("pg_dump", takes=0.99, returncode=3)
    process = await asyncio.create_subprocess_exec("pg_dump")
    try:
        code = await asyncio.wait_for(process.wait(), 1)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        code = await process.wait()
    assert code in (3, -signal.SIGTERM)


def mend_signalling(monkeypatch: pytest.MonkeyPatch) -> None:
    """https://github.com/python/cpython/pull/121126: a signal is sent without asking whether the process has ended, and
    so without taking its status from the watcher."""

    def send_signal(self: Any, number: int) -> None:
        self._check_proc()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._proc.pid, number)

    monkeypatch.setattr(Transport, "send_signal", send_signal)
    monkeypatch.setattr(Transport, "terminate", lambda self: self.send_signal(signal.SIGTERM))


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="CPython has mended it")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_signal_takes_the_exit_status(seed: int) -> None:
    """https://github.com/python/cpython/issues/87744: sending a signal polls, and a process that has just ended is
    waited for there; its watcher comes too late and says 255."""
    failure = simloop.explore(backup, runs=RUNS, seed=seed).failure
    assert failure is not None
    assert "255" in str(failure.exception)
    (sentence,) = failure.story
    assert sentence.startswith("the end of process pg_dump was delayed until just after the time")


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_a_signal_takes_the_exit_status_mended(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    if sys.version_info < (3, 13):
        mend_signalling(monkeypatch)
    report = simloop.explore(backup, runs=RUNS, seed=seed)
    assert report.failure is None, report.failure.describe()
    assert report.runs == RUNS
