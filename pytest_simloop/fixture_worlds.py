"""Suspension of worlds that a fixture has entered, while pytest and its plugins run.

A fixture that yields inside ``with simloop.world()`` leaves its world entered while pytest runs on: pytest would
measure durations, write reports and talk to other processes inside of the world. Tests, fixtures and their finalizers
are the user's code and run in the world. Hook wrappers, with which plugins measure time, and everything between those
calls are pytest's code and run outside. Nothing depends on the names of modules, so this holds for any plugin.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_simloop import internals

if TYPE_CHECKING:
    from simloop.world.world import World

#: World that a fixture has entered and that is left for a while, because pytest's own code runs; None if there is none.
aside: World | None = None
_in_users_code = False


@contextlib.contextmanager
def _running(users_code: bool) -> Iterator[None]:
    """Context manager for a block of code that is either the user's, which runs inside of the world that a fixture has
    entered, or pytest's, which runs outside."""
    before = _in_users_code
    _go(users_code)
    try:
        yield
    finally:
        _go(before)


def _go(to_users_code: bool) -> None:
    global aside, _in_users_code
    if to_users_code == _in_users_code:
        return
    _in_users_code = to_users_code
    if "simloop" not in sys.modules:
        return
    from simloop.world import active

    if not to_users_code:
        aside, active.entered = active.entered, None
    elif active.entered is None:
        active.entered, aside = aside, None


def _wrapper(*, users_code: bool, specname: str | None = None) -> Callable[[], Generator[None, Any, Any]]:
    """Return a hook wrapper for pytest: with `users_code` the innermost one, inside of which the user's code runs, else
    the outermost one, inside of which pytest's code runs."""

    @pytest.hookimpl(wrapper=True, trylast=users_code, tryfirst=not users_code, specname=specname)
    def wrapper() -> Generator[None, Any, Any]:
        with _running(users_code):
            return (yield)

    return wrapper


# A session that a test of another session runs is no user's code.
pytest_runtestloop = _wrapper(users_code=False)
pytest_runtest_setup = _wrapper(users_code=True)
pytest_runtest_call = _wrapper(users_code=True)
pytest_runtest_teardown = _wrapper(users_code=True)
# Within those, pytest calls more hooks of its own. (It only looks for names that begin with its own.)
pytest_fixture_setup = _wrapper(users_code=False)
pytest_fixture_function = _wrapper(users_code=True, specname="pytest_fixture_setup")
pytest_pyfunc_call = _wrapper(users_code=False)
pytest_test_function = _wrapper(users_code=True, specname="pytest_pyfunc_call")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hook that, inside of their world, tears down fixtures that are still set up after Ctrl-C."""
    if aside is not None:
        with _running(users_code=True):
            internals.tear_down_fixtures(session)
