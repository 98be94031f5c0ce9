"""Access to the private parts of pytest that the plugin depends on, all in one place.

They were read in pytest 8.2, 8.4 and 9.2 (`src/_pytest/python.py`, `runner.py`, `fixtures.py`, `logging.py`,
`capture.py`, `_code/code.py`). `tests/plugin/test_internals.py` fails if one of them changes.
"""

from __future__ import annotations

import contextlib
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from _pytest._code.code import ReprExceptionInfo, ReprFileLocation, ReprTracebackNative
from _pytest.logging import caplog_handler_key, caplog_records_key


def ini_value(config: pytest.Config, name: str) -> Any:
    """Return the raw value of a key in the ini file or in an option ``-o``: text, or a TOML value; None if it is not
    set. Unlike `getini` it does not reject values that do not have the registered type."""
    known = getattr(config, "_inicfg", None)  # from pytest 9 on
    if known is not None:
        found = known.get(name)
        return None if found is None else found.value
    override = config._get_override_ini_value(name)  # type: ignore[attr-defined]
    return config.inicfg.get(name) if override is None else override


def fill_fixtures(item: pytest.Function) -> None:
    """Give the item a new fixture request and set up every fixture that has no value yet."""
    item._initrequest()
    item._request._fillfixtures()


def wide_fixtures(item: pytest.Function) -> list[str]:
    """Return the names of the item's fixtures that outlive one test, widest scope first."""
    closure = item._fixtureinfo.name2fixturedefs
    return [name for name in item.fixturenames if name in closure and closure[name][-1].scope != "function"]


def is_autouse(item: pytest.Function, name: str) -> bool:
    """Return True if the item uses a fixture because all tests do, below the place where the fixture is defined."""
    return name in item.session._fixturemanager._getautousenames(item)


def is_class_setup(name: str) -> bool:
    """Return True for the name of the fixture that calls ``setUpClass`` and ``tearDownClass`` of a unittest class."""
    return name.startswith("_unittest_setUpClass_fixture")


def is_default_of_unittest(item: pytest.Function, name: str) -> bool:
    """Return True for the fixture of a `unittest.TestCase` that calls ``setUpClass`` and ``tearDownClass``, if its
    class has neither."""
    case = item.cls
    return is_class_setup(name) and all(
        getattr(getattr(case, method, None), "__func__", None) is getattr(unittest.TestCase, method).__func__
        for method in ("setUpClass", "tearDownClass")
    )


def fixture_value(item: pytest.Function, name: str) -> Any:
    """Return the value of a fixture of the item; None if it has none at the moment."""
    cached = getattr(fixture_definition(item, name), "cached_result", None)
    return None if cached is None else cached[0]


def argument_names(item: pytest.Function) -> tuple[str, ...]:
    return tuple(item._fixtureinfo.argnames)


def finalizers(item: pytest.Item) -> list[Callable[[], object]]:
    """Return the list, which pytest itself uses, of the finalizers registered for the item so far; they run from last
    to first."""
    return item.session._setupstate.stack[item][0]


def failure_in_words(location: tuple[str, int | None, str], text: str, message: str) -> ReprExceptionInfo:
    """Return the failure of a test at `location` in the form that pytest stores, with `text` in place of a traceback.
    The first line of `message` is shown where only one line fits: in the short summary, by `--tb=line`, in JUnit's
    attribute. (A plain text would be shown there in full, if the variable CI is set.)"""
    path, line, _ = location
    crash = ReprFileLocation(path, (line or 0) + 1, message.partition("\n")[0])
    return ReprExceptionInfo(reprtraceback=ReprTracebackNative([text + "\n"]), reprcrash=crash)


def tear_down_fixtures(session: pytest.Session) -> None:
    """Run the finalizers of all fixtures of the session that are set up, of any scope."""
    session._setupstate.teardown_exact(None)


def directories(config: pytest.Config) -> tuple[pytest.TempPathFactory | None, dict[str, int]]:
    """Return the session's factory of temporary directories, None if there is none, and the dictionary in which it
    counts those of each name (empty for older versions of pytest, which look at the existing directories instead)."""
    factory = getattr(config, "_tmp_path_factory", None)
    return factory, getattr(factory, "_next_number", {})


def renew_request(item: pytest.Function) -> None:
    """Give the item a new fixture request, without any fixture value."""
    item._initrequest()


def fixture_definition(item: pytest.Function, name: str, below: Any = None) -> Any:
    """Return the definition of a fixture that the item uses; with `below`, a definition of the same name, the one that
    `below` overrides. None for ``request``, and for names without a definition."""
    definitions = item._fixtureinfo.name2fixturedefs.get(name) or ()
    if below is not None and below in definitions:
        at = definitions.index(below)
        return definitions[at - 1] if at else None
    return definitions[-1] if definitions else None


def finalizer_counts(item: pytest.Item) -> list[int]:
    """Return the number of finalizers registered so far for each parent of the item, and last for the item itself."""
    return [len(finalizers) for finalizers, _ in item.session._setupstate.stack.values()]


def take_finalizers(
    item: pytest.Item, before: list[int], wanted: Callable[[Callable[[], object]], bool]
) -> Iterator[Callable[[], object]]:
    """Remove and yield the finalizers that were registered since `before` (a result of `finalizer_counts`) and for
    which ``wanted(finalizer)`` is True: those of the item, then those of its parents, each from last to first."""
    if finalizer_counts(item) == before:
        return  # of most runs, since most tests have no fixtures
    for (finalizers, _), count in reversed(list(zip(item.session._setupstate.stack.values(), before, strict=True))):
        kept = []
        while len(finalizers) > count:
            finalizer = finalizers.pop()
            _forget_refused(getattr(getattr(finalizer, "func", finalizer), "__self__", None))
            if wanted(finalizer):
                yield finalizer
            else:
                kept.append(finalizer)
        finalizers += reversed(kept)


def _forget_refused(definition: Any) -> None:
    """Clear a fixture whose setup pytest or a plugin has refused, so that the next run meets the same refusal. Such a
    fixture has no value, without which `FixtureDef.finish` leaves what the setup has noted."""
    if getattr(definition, "cached_result", definition) is None:
        definition._finalizers.clear()


def forget_instance(item: pytest.Function) -> None:
    """Make the item create a new instance of its test class on next use."""
    for name in ("_instance", "_obj"):
        item.__dict__.pop(name, None)


def bound_fixture(fixturedef: Any, request: Any) -> Callable[..., Any]:
    """Return the function of a fixture; if it is a method, it is bound to the test's own instance."""
    function: Callable[..., Any] = fixturedef.func
    instance = request.instance
    owner = getattr(function, "__self__", None)
    if instance is not None and owner is not None and isinstance(instance, type(owner)):
        return types.MethodType(function.__func__, instance)  # type: ignore[attr-defined]
    return function


def forget_output(item: pytest.Item) -> None:
    """Discard the output and log records of earlier runs of the item, since the report is about one run."""
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
    """Replace the last line on the terminal by `line`, also while output is captured; with `new`, begin a new line. An
    empty `line` erases it."""
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
    """Return the descriptors in which pytest has saved the original standard streams while it captures output."""
    manager = config.pluginmanager.getplugin("capturemanager")
    capturing = getattr(manager, "_global_capturing", None)
    streams = [getattr(capturing, name, None) for name in ("in_", "out", "err")]
    kept = [getattr(stream, "targetfd_save", None) for stream in streams]
    return [fd for fd in kept if fd is not None]
