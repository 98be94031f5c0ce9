"""The private parts of pytest that the plugin cannot do without, all in one place.

Read in pytest 8.2, 8.4 and 9.2 (`src/_pytest/python.py`, `runner.py`, `fixtures.py`, `logging.py`).
`tests/plugin/test_internals.py` fails when one of them changes.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
from _pytest.logging import caplog_handler_key, caplog_records_key


def fill_fixtures(item: pytest.Function) -> None:
    """Build a fresh request and set up every fixture of the item that has no value yet."""
    item._initrequest()
    item._request._fillfixtures()


def wide_fixtures(item: pytest.Function) -> list[str]:
    """The names of its fixtures that outlive one test, widest scope first."""
    closure = item._fixtureinfo.name2fixturedefs
    return [name for name in item.fixturenames if name in closure and closure[name][-1].scope != "function"]


def argument_names(item: pytest.Function) -> tuple[str, ...]:
    return tuple(item._fixtureinfo.argnames)


def finalizers(item: pytest.Item) -> list[Callable[[], object]]:
    """The finalizers that are registered for the item so far, to be run from the back."""
    return item.session._setupstate.stack[item][0]


def forget_instance(item: pytest.Function) -> None:
    """Make the item build its test class anew."""
    for name in ("_instance", "_obj"):
        item.__dict__.pop(name, None)


def bound_fixture(fixturedef: Any, request: Any) -> Callable[..., Any]:
    """The fixture function, bound to the test's own instance where it is a method."""
    function: Callable[..., Any] = fixturedef.func
    instance = request.instance
    owner = getattr(function, "__self__", None)
    if instance is not None and owner is not None and isinstance(instance, type(owner)):
        return types.MethodType(function.__func__, instance)  # type: ignore[attr-defined]
    return function


def forget_output(item: pytest.Item) -> None:
    """Throw away what earlier runs of the item printed and logged: the report is about one run."""
    plugins = item.config.pluginmanager
    capture = plugins.getplugin("capturemanager")
    if capture is not None and capture.is_globally_capturing():
        capture.read_global_capture()
    logging_plugin = plugins.getplugin("logging-plugin")
    if logging_plugin is not None:
        logging_plugin.report_handler.reset()
    handler = item.stash.get(caplog_handler_key, None)
    if handler is not None:
        handler.reset()
        item.stash[caplog_records_key]["call"] = handler.records
