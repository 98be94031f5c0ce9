"""Replacements of fixtures that pytest itself cannot set up in a run: async ones, and those that need the real
world."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_simloop import internals
from pytest_simloop.item import SimFunction, SimulatedItem
from pytest_simloop.tied import is_tied, tie
from simloop.loop import factory
from simloop.world import active


def sync_fixture(fixturedef: Any, request: Any) -> Callable[..., Any] | None:
    """Return a replacement for the function of a fixture that pytest cannot set up for a simulated test: an async one,
    `tmp_path`, or one that must be set up in the real world. None for any other fixture."""
    item = request._pyfuncitem
    if getattr(item, "sets_up_class", False) and internals.is_class_setup(fixturedef.argname):
        item.stood_in = fixturedef
        return lambda **_: None
    if not isinstance(item, SimulatedItem) or item.world is None:
        return None
    if fixturedef.argname == "tmp_path" and fixturedef.func.__module__ == "_pytest.tmpdir":
        return lambda tmp_path_factory, **_: item.scratch(tmp_path_factory)
    if fixturedef.scope != "function" and not is_tied(fixturedef, item):
        return _made_once(fixturedef, internals.bound_fixture(fixturedef, request), item)
    if _touches_this_process(fixturedef.func, item):
        return _made_outside(fixturedef.func, item)
    if not isinstance(item, SimFunction):
        return None  # whose item it is, that plugin knows what to do with async fixtures
    function = internals.bound_fixture(fixturedef, request)
    if inspect.isasyncgenfunction(function):

        def generate(**arguments: Any) -> Iterator[Any]:
            generator = function(**arguments)
            yield item.run_async(anext(generator))
            if not item.run_async(_ends(generator)):
                pytest.fail(f"async fixture {fixturedef.argname!r} yields more than once", pytrace=False)

        return generate
    if inspect.iscoroutinefunction(function):
        return lambda **arguments: item.run_async(function(**arguments))
    return None


# Names in the code of fixtures that redirect the output of this process, or handle its signals or terminal.
_OF_THIS_PROCESS = {"CaptureFixture", "FDCapture", "dup2", "openpty", "setitimer", "signal", "tcgetattr", "tcsetattr"}


def _touches_this_process(function: Any, item: pytest.Function) -> bool:
    """Return True for a fixture of pytest or of a plugin (not of the suite itself) that changes descriptors, signals or
    the terminal of the real process, as `capfd` does."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or _OF_THIS_PROCESS.isdisjoint(code.co_names):
        return False
    module = sys.modules.get(function.__module__)
    is_plugin = module in item.config.pluginmanager.get_plugins()
    return is_plugin and Path(getattr(module, "__file__", None) or "").name != "conftest.py"


def _made_outside(function: Callable[..., Any], item: SimulatedItem) -> Callable[..., Any]:
    """Return a function for a fixture that does the same as `function`, but sets it up and tears it down in the real
    world."""

    @functools.wraps(function)
    def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with active.world_entered(None):
            generator = _as_generator(function, *args, **kwargs)
            value = next(generator)
        yield value
        with active.world_entered(None):
            if isinstance(value, pytest.CaptureFixture) and not item.final:
                value.readouterr()  # at its end it prints what is left
            yield from generator

    return generate


def _made_once(definition: Any, function: Callable[..., Any], item: SimulatedItem) -> Callable[..., Any]:
    """Return a function for a fixture that outlives the test, and that the test asked for in a run, by name (others are
    set up before the first run). It does the same as `function`, in the real world, unless that makes an event loop:
    then the fixture is tied, and each run sets it up."""

    def generate(**arguments: Any) -> Iterator[Any]:
        loops = factory.made_outside
        with active.world_entered(None):
            generator = _as_generator(function, **arguments)
            value = next(generator)
            if isinstance(value, pytest.TempPathFactory):
                value.getbasetemp()  # which it would make in the world of the run that first asks for a directory
            is_made = factory.made_outside == loops
            if not is_made:
                next(generator, None)
        if not is_made:
            tie(definition, item)
            generator = _as_generator(function, **arguments)
            value = next(generator)
        yield value
        yield from generator

    return generate


def _as_generator(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
    """Return an iterator over the one value of a fixture, which ends when the fixture is torn down."""
    made = function(*args, **kwargs)
    return made if inspect.isgeneratorfunction(function) else iter([made])


async def _ends(generator: Any) -> bool:
    try:
        await anext(generator)
    except StopAsyncIteration:
        return True
    return False
