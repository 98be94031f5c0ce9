"""Access to the private parts of pytest that the plugin depends on, all in one place.

Read in pytest 8.2, 8.4 and 9.2 (`src/_pytest/python.py`, `runner.py`, `fixtures.py`, `logging.py`, `capture.py`,
`_code/code.py`).
`tests/plugin/test_internals.py` fails when one of them changes.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from _pytest._code.code import ReprExceptionInfo, ReprFileLocation, ReprTracebackNative
from _pytest.logging import caplog_handler_key, caplog_records_key


def ini_value(config: pytest.Config, name: str) -> Any:
    """Return the raw value of a key of the ini file, or of ``-o``: text, or a TOML value; None where it is not set.
    Unlike `getini` it does not refuse values that are not of the registered type."""
    known = getattr(config, "_inicfg", None)  # from pytest 9 on
    if known is not None:
        found = known.get(name)
        return None if found is None else found.value
    override = config._get_override_ini_value(name)  # type: ignore[attr-defined]
    return config.inicfg.get(name) if override is None else override


def fill_fixtures(item: pytest.Function) -> None:
    """Give the item a fresh fixture request and set up every fixture that has no value yet."""
    item._initrequest()
    item._request._fillfixtures()


def wide_fixtures(item: pytest.Function) -> list[str]:
    """Return the names of the item's fixtures that outlive one test, widest scope first."""
    closure = item._fixtureinfo.name2fixturedefs
    return [name for name in item.fixturenames if name in closure and closure[name][-1].scope != "function"]


def fixture_value(item: pytest.Function, name: str) -> Any:
    """Return the value of a fixture of the item; None if it has none at the moment."""
    cached = getattr(fixture_definition(item, name), "cached_result", None)
    return None if cached is None else cached[0]


def argument_names(item: pytest.Function) -> tuple[str, ...]:
    return tuple(item._fixtureinfo.argnames)


def finalizers(item: pytest.Item) -> list[Callable[[], object]]:
    """Return pytest's own list of the finalizers registered for the item so far, which run from the last to the
    first."""
    return item.session._setupstate.stack[item][0]


def failure_in_words(item: pytest.Item, text: str, message: str) -> ReprExceptionInfo:
    """Return a failure as pytest keeps it, with a text in the place of a traceback. The message's first line is for
    where there is room for one: the short summary, `--tb=line`, JUnit's attribute. Of a bare text pytest shows all of
    it there, where the variable CI is set."""
    path, line, _ = item.location
    crash = ReprFileLocation(path, (line or 0) + 1, message.partition("\n")[0])
    return ReprExceptionInfo(reprtraceback=ReprTracebackNative([text + "\n"]), reprcrash=crash)


def tear_down_fixtures(session: pytest.Session) -> None:
    """Run the finalizers of all fixtures of the session that are set up, of whatever scope."""
    session._setupstate.teardown_exact(None)


def directory_numbers(factory: pytest.TempPathFactory) -> dict[str, int]:
    """Return the counters by which pytest's factory of temporary directories numbers directories of each name. Empty
    in older versions of pytest, which look at the existing directories instead."""
    numbers: dict[str, int] = getattr(factory, "_next_number", {})
    return numbers


def renew_request(item: pytest.Function) -> None:
    """Give the item a fresh fixture request, without any fixture value."""
    item._initrequest()


def fixture_definition(item: pytest.Function, name: str, below: Any = None) -> Any:
    """Return the definition of a fixture that the item uses. With `below`, a definition that overrides another of the
    same name, return the overridden one. None for ``request``, and for names that nobody defines."""
    definitions = item._fixtureinfo.name2fixturedefs.get(name) or ()
    if below is not None and below in definitions:
        at = definitions.index(below)
        return definitions[at - 1] if at else None
    return definitions[-1] if definitions else None


Finalizers = list[Callable[[], object]]


def all_finalizers(item: pytest.Item) -> dict[Any, int]:
    """Return the number of finalizers that are registered so far, for the item and for each of its parents."""
    return {node: len(finalizers) for node, (finalizers, _) in item.session._setupstate.stack.items()}


def take_finalizers(
    item: pytest.Item, before: dict[Any, int], wanted: Callable[[Callable[[], object]], bool]
) -> Iterator[Callable[[], object]]:
    """Remove and yield the finalizers that were registered since `before` (a result of `all_finalizers`) and that are
    `wanted`: the last one first, those of the item before those of its parents."""
    for node, (finalizers, _) in reversed(list(item.session._setupstate.stack.items())):
        count = before.get(node, 0)
        if len(finalizers) <= count:
            continue
        kept = []
        while len(finalizers) > count:
            finalizer = finalizers.pop()
            if wanted(finalizer):
                yield finalizer
            else:
                kept.append(finalizer)
        finalizers += reversed(kept)


def forget_instance(item: pytest.Function) -> None:
    """Make the item create a new instance of its test class on next use."""
    for name in ("_instance", "_obj"):
        item.__dict__.pop(name, None)


def bound_fixture(fixturedef: Any, request: Any) -> Callable[..., Any]:
    """Return the function that makes a fixture; if it is a method, it is bound to the test's own instance."""
    function: Callable[..., Any] = fixturedef.func
    instance = request.instance
    owner = getattr(function, "__self__", None)
    if instance is not None and owner is not None and isinstance(instance, type(owner)):
        return types.MethodType(function.__func__, instance)  # type: ignore[attr-defined]
    return function


def forget_output(item: pytest.Item) -> None:
    """Discard what earlier runs of the item printed and logged, since the report is about one run."""
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


def rewrite_line(config: pytest.Config, line: str, *, new: bool = False) -> None:
    """Write a line on the terminal in the place of the one before, also while output is captured; with `new`, in a
    line of its own. An empty one leaves nothing there."""
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
        if new:
            reporter.ensure_newline()
        reporter.rewrite(line, erase=True)
        if not line:
            reporter.rewrite("")
        reporter.flush()


def captured_streams(config: pytest.Config) -> list[int]:
    """Return the descriptors at which pytest has saved the original standard streams while it captures."""
    manager = config.pluginmanager.getplugin("capturemanager")
    capturing = getattr(manager, "_global_capturing", None)
    streams = [getattr(capturing, name, None) for name in ("in_", "out", "err")]
    kept = [getattr(stream, "targetfd_save", None) for stream in streams]
    return [fd for fd in kept if fd is not None]
