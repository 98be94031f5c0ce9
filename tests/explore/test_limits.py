"""A run that met a limit of the simulation is no verdict on the program."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import simloop
from simloop import errors
from simloop.choices.choices import Choices
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute


async def escapes() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW)


async def wraps_an_escape() -> None:
    try:
        await escapes()
    except simloop.EscapedSimulationError as error:
        raise OSError("no network") from error


async def escapes_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(escapes())


async def escapes_in_a_task_that_nobody_asks() -> None:
    task = asyncio.create_task(escapes())
    while True:
        await asyncio.sleep(0.05)
    del task


async def swallows_an_escape_and_waits() -> None:
    with contextlib.suppress(simloop.EscapedSimulationError):
        await escapes()
    await asyncio.Event().wait()


async def fails_for_want_of_what_escaped() -> None:
    found = await asyncio.gather(escapes(), return_exceptions=True)
    assert not any(found)


async def escapes_in_a_thread() -> None:
    def work() -> None:
        socket.socket(socket.AF_INET, socket.SOCK_RAW)

    thread = threading.Thread(target=work)
    thread.start()
    while True:
        await asyncio.sleep(0.05)


async def escapes_in_a_program() -> None:
    sim = simloop.current()

    @sim.program("child")
    async def child(proc: simloop.Proc) -> None:
        with contextlib.suppress(simloop.EscapedSimulationError):
            await escapes()

    process = await asyncio.create_subprocess_exec("child")
    while await process.wait() == 0:
        await asyncio.sleep(0.05)


async def escapes_under_a_deviation() -> None:
    task = asyncio.create_task(asyncio.sleep(1))
    simloop.current().may_cancel(task)
    await asyncio.wait([task])
    if task.cancelled():
        await escapes()


async def spins() -> None:
    while True:
        await asyncio.sleep(0)


async def ticks() -> None:
    while True:
        await asyncio.sleep(3600)


async def asks_for_what_is_nothing() -> None:
    simloop.current().signal("localhost", 0)


async def uses_a_world_wrongly() -> None:
    simloop.current().may_cancel("no task")  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", ["cpython", "portable", "hostile"])
@pytest.mark.parametrize(
    ("main", "words"),
    [
        (escapes, "limit of the simulation.*without simloop"),
        (wraps_an_escape, "limit of the simulation.*without simloop"),
        (escapes_in_a_group, "limit of the simulation.*without simloop"),
        (escapes_under_a_deviation, "limit of the simulation.*without simloop"),
        (spins, "limit of the simulation.*set max_steps higher"),
        (ticks, "limit of the simulation.*set max_time higher"),
        (asks_for_what_is_nothing, "wrong use of simloop"),
        (uses_a_world_wrongly, "wrong use of simloop"),
    ],
)
def test_the_report_says_so_and_what_to_do(
    main: Callable[[], Coroutine[Any, Any, Any]], words: str, profile: str
) -> None:
    failure = simloop.explore(main, profile=profile, max_steps=1000, max_time=1e5).failure
    assert failure is not None
    text = " ".join(failure.describe().split())
    assert "asyncio" not in failure.explanation.verdict
    assert "stock asyncio" not in text
    assert re.search(words, text)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "main",
    [
        escapes_in_a_task_that_nobody_asks,
        swallows_an_escape_and_waits,
        fails_for_want_of_what_escaped,
        escapes_in_a_thread,
        escapes_in_a_program,
    ],
)
def test_an_escape_ends_the_run_at_once_and_is_its_failure(main: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    choices = Choices(0, None)
    outcome = execute(main, choices, Limits())
    assert isinstance(outcome.exception, simloop.EscapedSimulationError)
    assert outcome.world.steps < 100
    failure = simloop.explore(main).failure
    assert failure is not None
    assert isinstance(failure.exception, simloop.EscapedSimulationError)
    assert "stock asyncio" not in failure.describe()


def test_every_kind_of_error_has_decided() -> None:
    """What a new class of errors says is not left to chance."""
    of_the_program = {
        "BlockingCallError", "DeadlockError", "HostCrashedError", "ProcessEndedError", "UncalledProgramError",
        "TokenError", "OtherTestError",
    }  # fmt: skip
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    silent = {kind.__name__ for kind in kinds if not getattr(kind, "limit", "-")}
    assert silent == of_the_program | {"SimulationError"}


async def calls_a_timer_at_once() -> None:
    loop = asyncio.get_running_loop()

    def tick() -> None:
        loop.call_later(0, tick)

    tick()
    await asyncio.Event().wait()


async def waits_beside_a_timer() -> None:
    waiting = asyncio.create_task(asyncio.Event().wait(), name="waiting")
    while not waiting.done():
        await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (spins, r"task spins\(\) \(Task-1\) at .*test_limits\.py:\d+ goes on"),
        (calls_a_timer_at_once, r"a timer of tick at .*test_limits\.py:\d+ is due again at once"),
        (waits_beside_a_timer, r"task waits_beside_a_timer\(\) \(Task-1\) at .*:\d+ waits, task 'waiting' at .* waits"),
    ],
)
def test_a_run_that_does_not_end_is_told_at_once_with_its_lines(
    main: Callable[[], Coroutine[Any, Any, Any]], words: str
) -> None:
    runs: list[int] = []

    async def counted() -> None:
        runs.append(1)
        await main()

    failure = simloop.explore(main, max_steps=100_000).failure
    assert failure is not None
    assert re.search(words, str(failure.exception))
    assert simloop.explore(counted, max_steps=100_000).failure is not None
    assert len(runs) == 1


async def ticks_for_ever_if_cancelled() -> None:
    task = asyncio.create_task(asyncio.sleep(1))
    simloop.current().may_cancel(task)
    await asyncio.wait([task])
    while task.cancelled():
        await asyncio.sleep(60)


def test_a_deviation_with_which_a_run_does_not_end_is_explained() -> None:
    failure = simloop.explore(ticks_for_ever_if_cancelled).failure
    assert failure is not None
    assert isinstance(failure.exception, simloop.TimeLimitError)
    assert len(failure.schedule.deviations) == 1
    assert "was cancelled" in failure.describe()
