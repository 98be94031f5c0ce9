"""Signals that a process sends to itself reach its handlers, and never the real ones."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import time
from types import FrameType

import pytest

import simloop


def test_handler_is_called_at_once() -> None:
    real = signal.getsignal(signal.SIGTERM)
    seen: list[tuple[int, str]] = []

    def handler(number: int, frame: FrameType | None) -> None:
        assert frame is not None
        seen.append((number, frame.f_code.co_name))

    with simloop.world():
        assert signal.signal(signal.SIGTERM, handler) == signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(seen) == 1
        signal.raise_signal(signal.SIGTERM)
    assert seen == [(signal.SIGTERM, "test_handler_is_called_at_once")] * 2
    assert signal.getsignal(signal.SIGTERM) is real


@pytest.mark.parametrize("seed", range(10))
def test_loop_handler(seed: int) -> None:
    async def main() -> bool:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, stopped.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not stopped.is_set()  # it comes with the next poll
        await stopped.wait()
        return asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    assert simloop.run(main, seed=seed)


def test_ctrl_c_under_asyncio_run() -> None:
    cancelled: list[bool] = []

    async def main() -> None:
        asyncio.get_running_loop().call_later(5, _thread.interrupt_main)
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with simloop.world() as sim:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main())
        assert round(sim.elapsed) == 5
    assert cancelled


def test_ignored_by_default() -> None:
    with simloop.world():
        signal.raise_signal(signal.SIGWINCH)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.raise_signal(signal.SIGTERM)
        os.kill(os.getpid(), 0)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_the_end_of_the_process_escapes() -> None:
    with pytest.raises(simloop.EscapedSimulationError, match="SIGTERM without a handler"), simloop.world():
        signal.raise_signal(signal.SIGTERM)


def test_other_processes_are_those_of_the_simulated_host() -> None:
    with simloop.world():
        os.kill(1, signal.SIGTERM)  # init heeds no signal without a handler (kill(2), NOTES)
        with pytest.raises(ProcessLookupError):
            os.kill(2, 0)


def test_interval_timer() -> None:
    class Alarm(Exception):
        pass

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Alarm

    ticks: list[float] = []
    with simloop.world() as sim:
        signal.signal(signal.SIGALRM, interrupt)
        assert signal.setitimer(signal.ITIMER_REAL, 5) == (0, 0)
        with pytest.raises(Alarm):
            time.sleep(100)
        assert round(sim.elapsed) == 5
        assert signal.alarm(10) == 0
        assert signal.alarm(0) == 10
        time.sleep(95)
        signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(round(sim.elapsed)))
        signal.setitimer(signal.ITIMER_REAL, 10, 20)
        time.sleep(55)
        assert [round(part) for part in signal.getitimer(signal.ITIMER_REAL)] == [15, 20]
    assert ticks == [110, 130, 150]
