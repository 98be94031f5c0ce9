"""Predicates for fixtures and sync tests that use an event loop, and so must be part of each run's world."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from pytest_simloop import internals

# Names by which plugins call the fixtures that make their loops: pytest-asyncio (before and since 1.0), aiohttp,
# pytest-tornasync and pytest-tornado.
_LOOPS = re.compile(r"_\w+_scoped_runner|_?\w*event_loop|loop|io_loop|proactor_loop|selector_loop|uvloop_loop")
# Fixture definitions of the session that are known to be tied, or not to be.
_KNOWN = pytest.StashKey[dict[Any, bool]]()


def is_asyncio(backend: Any) -> bool:
    """Return True for a value of anyio's fixture `anyio_backend` that selects asyncio: the name, alone or with
    options."""
    return bool((backend if isinstance(backend, str) else backend[0]) == "asyncio")


def is_tied(definition: Any, item: pytest.Function) -> bool:
    """Return True for a fixture that is tied to an event loop: it is async, creates a loop, or depends on such a
    fixture."""
    known = item.session.stash.setdefault(_KNOWN, {})
    found = known.get(definition)
    if found is None:
        known[definition] = False  # a fixture may override the one that it asks for
        function = definition.func
        found = (
            inspect.iscoroutinefunction(function)
            or inspect.isasyncgenfunction(function)
            or bool(_LOOPS.fullmatch(definition.argname))
            or getattr(function, "_force_asyncio_fixture", False)
            or any(
                is_tied(needed, item)
                for name in definition.argnames
                if (needed := internals.fixture_definition(item, name, below=definition)) is not None
            )
        )
        known[definition] = found
    return bool(found)


def tie(definition: Any, item: pytest.Function) -> None:
    """Mark a fixture as tied to an event loop, when that is found out only while the fixture is set up."""
    item.session.stash.setdefault(_KNOWN, {})[definition] = True


def is_on_loop(item: pytest.Function) -> bool:
    """Return True for a sync test that uses an event loop: by a fixture, or by code that starts one."""
    definitions = (internals.fixture_definition(item, name) for name in item.fixturenames)
    if any(definition is not None and is_tied(definition, item) for definition in definitions):
        return True
    return starts_loop(item.function)


def starts_loop(function: Any, depth: int = 3) -> bool:
    """Return True if a function is a sync wrapper of an async one, or if its code, or that of a function that it wraps
    (up to `depth` deep), runs coroutines, as `asyncio.run` does."""
    code = getattr(function, "__code__", None)
    if code is None or not depth:
        return False
    names = set(code.co_names)
    if names & {"run_until_complete", "run_forever", "IsolatedAsyncioTestCase"}:
        return True
    if "run" in names and names & {"asyncio", "anyio"}:
        return True
    held = [function.__dict__.get("__wrapped__")]
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:
            continue
    return any(
        inspect.iscoroutinefunction(inner) or starts_loop(inner, depth - 1) for inner in held if inner is not None
    )


def makes_loop(function: Any) -> bool:
    """Return True if the code of a function, or of a class method, makes an event loop or runs coroutines."""
    function = getattr(function, "__func__", function)
    names = set(getattr(getattr(function, "__code__", None), "co_names", ()))
    return bool(names & {"new_event_loop", "get_event_loop", "Runner"}) or starts_loop(function)
