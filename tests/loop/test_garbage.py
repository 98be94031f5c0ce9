"""What asyncio tells of tasks that nobody knows any more: in a run as on stock asyncio, at the same place each time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.report.trace import Trace
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

Main = Callable[[], Coroutine[Any, Any, list[Any]]]


class Thing:
    pass


def listening() -> list[str]:
    """The messages that the running loop's exception handler hears from now on."""
    heard: list[str] = []

    def handler(loop: Any, context: Any) -> None:
        future = context.get("task") or context["future"]
        name = future.get_name() if isinstance(future, asyncio.Task) else ""
        heard.append(f"{context['message']} {name}")

    asyncio.get_running_loop().set_exception_handler(handler)
    return heard


async def fail() -> None:
    raise ValueError


async def never_retrieved() -> list[Any]:
    heard = listening()
    task = asyncio.create_task(fail(), name="a")
    while not task.done():
        await asyncio.sleep(0)
    at_first = list(heard)
    del task
    return [at_first, list(heard), gc.collect() >= 0, heard]


async def never_retrieved_in_a_cycle() -> list[Any]:
    heard = listening()

    async def fails() -> None:
        own = asyncio.current_task()
        await asyncio.sleep(0)
        raise ValueError(own)

    for name in "abc":
        asyncio.create_task(fails(), name=name)  # noqa: RUF006
    await asyncio.sleep(0.01)
    at_first = list(heard)
    gc.collect()
    return [at_first, heard]


async def pending_and_lost() -> list[Any]:
    heard = listening()
    ended = []

    async def waits(name: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(name)

    for name in "abc":
        asyncio.create_task(waits(name), name=name)  # noqa: RUF006
    await asyncio.sleep(0.01)
    at_first = list(heard)
    gc.collect()
    return [at_first, sorted(heard), sorted(ended), len(asyncio.all_tasks())]


async def future_never_retrieved() -> list[Any]:
    heard = listening()
    asyncio.get_running_loop().create_future().set_exception(ValueError())
    return heard


async def what_a_finished_task_held() -> list[Any]:
    var: contextvars.ContextVar[Thing] = contextvars.ContextVar("var")

    async def make() -> Thing:
        var.set(Thing())
        references.append(weakref.ref(var.get()))
        return Thing()

    references: list[Any] = []
    task = asyncio.create_task(make())
    references.append(weakref.ref(await task))
    references.append(weakref.ref(task))
    del task
    await asyncio.sleep(0.01)
    return [reference() for reference in references]


async def failures_that_were_gathered() -> list[Any]:
    references: list[Any] = []

    async def boom() -> None:
        thing = Thing()
        references.append(weakref.ref(thing))
        raise ValueError

    await asyncio.gather(*[boom() for _ in range(3)], return_exceptions=True)
    await asyncio.sleep(0.001)
    gc.collect()
    return [reference() for reference in references]


async def last_to_touch_a_lock() -> list[Any]:
    heard = listening()
    lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue[Thing]()
    references: list[weakref.ref[Any]] = []

    async def touches(queue: asyncio.Queue[Thing]) -> None:
        async with lock:
            event.set()
            queue.put_nowait(Thing())
            raise ValueError

    asyncio.create_task(touches(queue), name="a")  # noqa: RUF006
    await event.wait()
    references += [weakref.ref(queue), weakref.ref(await queue.get())]
    del queue
    await asyncio.sleep(0.01)
    gc.collect()
    return [list(heard), lock.locked(), [reference() for reference in references]]


PROGRAMS = [
    never_retrieved,
    never_retrieved_in_a_cycle,
    pending_and_lost,
    future_never_retrieved,
    what_a_finished_task_held,
    failures_that_were_gathered,
    last_to_touch_a_lock,
]


@pytest.fixture
def no_collector() -> Any:
    """On stock asyncio the collector may come at any time: here it does not."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("main", PROGRAMS)
def test_it_is_as_on_stock_asyncio_and_whoever_watches(main: Main) -> None:
    stock = asyncio.run(main())
    assert simloop.run(main) == stock
    trace = Trace()
    with trace.touches.watch():
        watched = execute(main, Choices(), Limits(), trace)
    assert watched.value == stock
    digests = {execute(main, Choices(), Limits()).choices.digest for _ in range(3)}
    assert digests == {watched.choices.digest}


def test_what_a_run_leaves_is_not_found_by_the_next() -> None:
    found: list[str] = []

    class Leftover:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            with contextlib.suppress(simloop.WorldError):
                simloop.current()
                found.append("in a run")

    async def main() -> list[str]:
        heard = listening()
        gc.collect()
        future = asyncio.get_running_loop().create_future()
        future.set_exception(error := ValueError())
        error.own = future  # type: ignore[attr-defined]
        Leftover()
        return list(heard)

    assert [simloop.run(main) for _ in range(3)] == [[], [], []]
    gc.collect()
    assert found == []


def test_the_collector_says_nothing_to_another_run(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[Any] = []

    async def leaves() -> None:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(ValueError())
        kept.append(future)

    async def drops() -> None:
        kept.clear()

    simloop.run(leaves)
    simloop.run(drops)
    assert caplog.text == ""


def test_what_nobody_knows_any_more_is_still_told_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def fails() -> None:
            own = asyncio.current_task()
            raise ValueError(own)

        for name in "ab":
            asyncio.create_task(fails(), name=name)  # noqa: RUF006
        for number in range(300):  # more than the registry keeps before it forgets those that are done
            await asyncio.create_task(asyncio.sleep(0), name=str(number))

    simloop.run(main)
    told = [record.exc_info[1].args[0].get_name() for record in caplog.records if record.exc_info]  # type: ignore[union-attr]
    assert told == ["a", "b"]


def test_no_finally_runs_for_what_a_power_cut_has_stopped() -> None:
    ended: list[str] = []

    async def ends(name: str, delay: float) -> None:
        try:
            await asyncio.sleep(delay)
        finally:
            ended.append(name)

    async def main() -> None:
        host = simloop.current().host("db")

        async def serve() -> None:
            asyncio.create_task(ends("waits", 10))  # noqa: RUF006
            asyncio.create_task(ends("is ready", 0))  # noqa: RUF006
            await asyncio.sleep(0)
            host.crash()
            await asyncio.sleep(0)

        with contextlib.suppress(simloop.HostCrashedError):
            await host.run(serve)
        gc.collect()
        await asyncio.sleep(1)
        assert ended == []

    simloop.run(main)
    gc.collect()
    assert ended == []
