"""Collections of correct programs, each with the one outcome that it can have on any machine."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from sizes import examples

import simloop

#: A coroutine function, or a function that blocks.
Program = Callable[..., Any]
Main = Callable[[], Coroutine[Any, Any, Any]]


class Corpus:
    """Collection of programs, whose `cases` are for `pytest.mark.parametrize`."""

    def __init__(self) -> None:
        self.cases: list[tuple[Program, Any]] = []

    def gives(self, expected: Any) -> Callable[[Program], Program]:
        """Return a decorator that adds a program whose outcome is `expected`."""

        def note(program: Program) -> Program:
            self.cases.append((program, expected))
            return program

        return note


def name_of(value: object) -> str:
    """Return the id of a parameter: the name of a program, and nothing for its outcome."""
    return str(getattr(value, "__name__", ""))


def mains(program: Program) -> list[Main]:
    """Return coroutine functions that run a program: where it blocks, in the main thread of the test or beside it."""
    if inspect.iscoroutinefunction(program):
        return [program]

    async def in_the_main_thread() -> Any:
        return program()

    async def in_a_thread() -> Any:
        return await asyncio.to_thread(program)

    return [in_the_main_thread, in_a_thread]


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    """Let the interpreter switch real threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def check_real(program: Program, expected: Any, times: int | None = None) -> None:
    """Assert that a program has its outcome on the real machine, in so many runs: of each of its `mains` in turn."""
    times = max(2, examples(10)) if times is None else times
    with switching_often():
        for main in itertools.islice(itertools.cycle(mains(program)), times):
            assert asyncio.run(main()) == expected, "the expectation itself does not hold on the real machine"


def check_simulated(
    program: Program, expected: Any, runs: int, before: Callable[[], object] = lambda: None, **options: Any
) -> None:
    """Assert that a program has its outcome in every run. ``before()`` is called in the run, before it begins."""
    for main in mains(program):

        async def check() -> None:
            before()
            assert await main() == expected  # noqa: B023

        report = simloop.explore(check, runs=max(1, runs // len(mains(program))), blocking="ignore", **options)
        assert report.failure is None, report.failure.describe()
