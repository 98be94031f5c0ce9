"""Runs that stand still in real time end with one error that names the line."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

import pytest

import simloop
from simloop.explore.campaign import Campaign
from simloop.simulation import watchdog
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

# Enough for a thread that spins on a busy machine to get a tenth of a processor.
SECONDS = 0.5


async def spins() -> None:
    while True:
        pass


async def spins_with_mocked_clocks() -> None:
    with mock.patch("time.monotonic", side_effect=ValueError), mock.patch("time.process_time", side_effect=ValueError):
        while True:
            pass


async def spins_and_swallows() -> None:
    try:
        while True:
            pass
    except Exception:
        return


def forever() -> None:
    while True:
        pass


async def spins_in_a_thread() -> None:
    await asyncio.to_thread(forever)


async def waits_for_real() -> None:
    event = multiprocessing.Event()
    await asyncio.to_thread(lambda: event.wait())


async def blocks_for_real() -> None:
    multiprocessing.Event().wait()


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_INTERVAL", 0.05)


@pytest.mark.parametrize(
    ("main", "said"),
    [
        (spins, "the program is in one step that does not yield"),
        (spins_with_mocked_clocks, "the program is in one step that does not yield"),
        (spins_and_swallows, "the program is in one step that does not yield"),
        (spins_in_a_thread, "thread 'asyncio_0' is in one step that does not yield"),
        (waits_for_real, "thread 'asyncio_0' waits there for something outside of the simulation"),
        (blocks_for_real, "the program waits there for something outside of the simulation"),
    ],
)
def test_it_ends_and_names_the_line(main: Callable[[], Coroutine[Any, Any, Any]], said: str) -> None:
    with pytest.raises(simloop.HangError, match=rf"test_watchdog.py:\d+: {said}"):
        simloop.run(main, max_hang=SECONDS)
    # The next one knows nothing of it.
    assert simloop.run(_passes) == 0


async def _passes() -> int:
    return await asyncio.to_thread(int)


def test_a_campaign_does_not_repeat_it() -> None:
    runs = 0

    def count(choices: Any, *_: Any, **__: Any) -> Any:
        nonlocal runs
        runs += 1
        return execute(spins, choices, Limits(max_hang=SECONDS))

    with pytest.raises(simloop.HangError) as raised:
        Campaign(count, "test").explore()
    assert runs == 1
    assert raised.value.__notes__ == ["simloop: in run 1 of 100 of test, sl1:AH4MAAAAACAT"]


def test_it_is_no_thread_of_the_program() -> None:
    before = threading.enumerate()
    simloop.run(_passes)
    assert threading.enumerate() == before


# Its thread waits in C for ever.
LOSES_A_THREAD = """
import asyncio, multiprocessing, simloop, sys
async def main(): await asyncio.to_thread(multiprocessing.Event().wait)
try: simloop.run(main, max_hang=0.1)
except simloop.HangError: print('ended')
"""
IS_TRACED = """
sys.settrace(lambda *event: None)
def traced(): print('traced')
traced()
"""


@pytest.mark.parametrize(("then", "printed"), [("", ""), (IS_TRACED, "traced\n")], ids=["ends", "is traced"])
def test_a_lost_thread_keeps_neither_the_interpreter_nor_traced_code(then: str, printed: str) -> None:
    program = [sys.executable, "-c", LOSES_A_THREAD + then]
    child = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (child.returncode, child.stdout) == (0, "ended\n" + printed), child.stderr


@pytest.mark.parametrize("value", [0, -1, True, "30", 1e9])
def test_bad_limits(value: Any) -> None:
    with pytest.raises(simloop.ConfigurationError, match="max_hang must be a number of real seconds"):
        simloop.run(_passes, max_hang=value)
