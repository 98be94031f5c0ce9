"""Pytest plugin proper: its hooks, and the fixture `sim`.

simloop itself is imported on first use, so that a session without simulated tests does not pay for it.
"""

from __future__ import annotations

import inspect
import sys
import unittest
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_simloop import fixture_worlds
from pytest_simloop.environment import is_replayer
from pytest_simloop.options import KEYWORDS, add_options, check_options, drawn_seed, for_session, hand_on_drawn_seed
from pytest_simloop.streams import note_streams

if TYPE_CHECKING:
    from simloop.simulation.handle import Sim


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"simloop({', '.join(KEYWORDS)}): run this async test in a simulated world",
    )
    check_options(config)
    note_streams(config)
    config.pluginmanager.register(fixture_worlds, "simloop-fixture-worlds")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if is_replayer():
        from pytest_simloop import item, replayer, replays  # noqa: F401  # what every replay needs
        from simloop.explore import examination  # noqa: F401

        replayer.serve(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hook of pytest-xdist that passes the random seed of the session to a worker before it starts."""
    hand_on_drawn_seed(node.config, node.workerinput)


def pytest_report_header(config: pytest.Config) -> str | None:
    seed = drawn_seed(config)
    return None if seed is None else f"simloop: drawn seed, explore from it again with --sim-seed={seed}"


def pytest_sessionstart() -> None:
    if "pytest_timeout" in sys.modules:
        from pytest_simloop import timeouts

        timeouts.watch()


def pytest_unconfigure() -> None:
    """Hook that removes the shims (patches of the standard library), since a later session in this interpreter may
    import simloop anew."""
    installation = sys.modules.get("simloop.simulation.install")
    if installation is not None:
        installation.uninstall()


def _wants_simulation(function: pytest.Function) -> bool:
    config = function.config
    asked = config.option.sim_replay is not None or for_session(config, "sim")
    return asked or function.get_closest_marker("simloop") is not None


def _pinned(function: pytest.Function) -> tuple[str, ...]:
    """Return the tokens that `@simloop.replay` pins to the test; the decorator may be above the function or below its
    `@given`."""
    pin = sys.modules.get("simloop.explore.replay")
    if pin is None:
        return ()
    inner = getattr(getattr(function.function, "hypothesis", None), "inner_test", None)
    found: tuple[str, ...] = pin.pinned(function.function) + (pin.pinned(inner) if inner else ())
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Hook that installs the shims (patches of the standard library) before test modules are imported, because these
    may store references to patched functions, such as loop factories in parameters."""
    if for_session(session.config, "sim"):
        from simloop.simulation.install import install

        install()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> Generator[None, Any, Any]:
    """Hook wrapper that turns the items of async tests into simulated ones. It is the outermost, to see which tests
    other plugins have claimed."""
    result = yield
    if not isinstance(result, list):
        return result
    items = [_simulated(item) if isinstance(item, pytest.Function) else item for item in result]
    _assign_pins(items)
    return items


def _simulated(function: pytest.Function) -> pytest.Function:
    marked = function.get_closest_marker("simloop") is not None
    pinned = bool(_pinned(function))
    if not (pinned or _wants_simulation(function)) or isinstance(function, pytest.Class):
        return function
    if _is_left_alone(function):
        return function
    handle = getattr(function.function, "hypothesis", None)
    test = function.function if handle is None else handle.inner_test
    if not inspect.iscoroutinefunction(test):
        from pytest_simloop.tied import is_on_loop

        if marked or pinned or is_on_loop(function):
            return _as_it_is(function, once=not (marked or pinned))
        return function
    if _is_claimed(function):
        return _as_it_is(function)
    if handle is not None:
        from pytest_simloop.hypothesis_internals import HYPOTHESIS_MIN

        if sys.modules["hypothesis"].__version_info__ < HYPOTHESIS_MIN:
            needed = ".".join(map(str, HYPOTHESIS_MIN))
            return _refusing(function, f"a simulated test under @given needs Hypothesis {needed} or newer")
        from pytest_simloop.examples import SimHypothesis

        return SimHypothesis.of(function)
    from pytest_simloop.item import SimFunction

    return SimFunction.of(function)


def _as_it_is(function: pytest.Function, *, once: bool = False) -> pytest.Function:
    from pytest_simloop.foreign import simulate_as_is

    return simulate_as_is(function, once=once)


def _is_left_alone(function: pytest.Function) -> bool:
    """Return True for a test that is not to be simulated: with ``@pytest.mark.simloop(False)``, or on another backend
    than asyncio."""
    mark = function.get_closest_marker("simloop")
    if mark is not None and mark.args == (False,):
        return True
    backend = getattr(getattr(function, "callspec", None), "params", {}).get("anyio_backend")
    if backend is not None:
        from pytest_simloop.tied import is_asyncio

        if not is_asyncio(backend):
            return True
    return _claims(function, "trio")


def _simulated_case(function: pytest.Function) -> pytest.Function:
    """Return a simulated item for a unittest method that uses an event loop, which its class provides or the method
    starts. For any other method, return the given item."""
    if not (_wants_simulation(function) or _pinned(function)) or _is_left_alone(function):
        return function
    from pytest_simloop.tied import starts_loop

    cls = function.parent.obj  # type: ignore[union-attr]
    if not (issubclass(cls, unittest.IsolatedAsyncioTestCase) or starts_loop(function.function)):
        return function
    from pytest_simloop.testcase import SimTestCase

    item = SimTestCase.of(function)
    _assign_pins([item])
    return item


def _assign_pins(items: list[Any]) -> None:
    """Give each item of a parametrized test function the tokens that were pinned for its parameters."""
    simulated = [item for item in items if getattr(item, "simulated", False) and _pinned(item)]
    if not simulated:
        return
    from pytest_simloop.tokens import pin

    for item in simulated:
        item.explores = _wants_simulation(item)
    pin(simulated, _pinned(simulated[0]))


def _claims(function: pytest.Function, plugin: str) -> bool:
    """Return True if the plugin of this name is installed and claims async tests by a marker that this test has."""
    return function.get_closest_marker(plugin) is not None and function.config.pluginmanager.hasplugin(plugin)


def _is_claimed(function: pytest.Function) -> bool:
    """Return True for an async test that another plugin runs: by its own class of items, by a marker, by a fixture, or
    by the hook that calls test functions."""
    if type(function) is not pytest.Function or "anyio_backend" in function.fixturenames:
        return True
    if any(_claims(function, plugin) for plugin in ("anyio", "asyncio", "twisted", "tornado")):
        return True
    ours = ("_pytest", "pytest_simloop", "anyio", "pytest_asyncio", "hypothesis", "_hypothesis_pytestplugin")
    runners = function.ihook.pytest_pyfunc_call.get_hookimpls()
    return any(not impl.wrapper and impl.function.__module__.partition(".")[0] not in ours for impl in runners)


def _refusing(function: pytest.Function, reason: str) -> pytest.Function:
    from pytest_simloop.item import SimFunction

    item = SimFunction.of(function)
    item.refusal = reason
    return item


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Hook that simulates unittest cases, whose items do not pass through `pytest_pycollect_makeitem`. With a token on
    the command line, it deselects all tests but the one that the token was made for."""
    from _pytest.unittest import TestCaseFunction

    items[:] = [_simulated_case(item) if isinstance(item, TestCaseFunction) else item for item in items]
    _pick_by_token(config, items)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | None:
    """Hook that reports how many tests are simulated, and how many are not and why."""
    if not for_session(config, "sim"):
        return None
    alone: dict[str, int] = {}
    for item in items:
        if not getattr(item, "simulated", False):
            reason = _reason(item)
            alone[reason] = alone.get(reason, 0) + 1
    told = f"simloop: {len(items) - sum(alone.values())} simulated"
    if alone:
        told += ", left alone: " + ", ".join(f"{count} {reason}" for reason, count in alone.items())
    return told


def _reason(item: pytest.Item) -> str:
    """Return the reason why a test is not simulated, in one or two words."""
    if not isinstance(item, pytest.Function):
        return "of another kind"
    mark = item.get_closest_marker("simloop")
    if mark is not None and mark.args == (False,):
        return "marked simloop(False)"
    return "trio" if _is_left_alone(item) else "sync"


def _pick_by_token(config: pytest.Config, items: list[pytest.Item]) -> None:
    token = config.option.sim_replay
    if token is None or token.isdigit():
        return
    if items:
        from pytest_simloop.tokens import pick

        pick(config, items, token)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Hook wrapper that counts the blocking calls of a simulated test."""
    if not getattr(item, "simulated", False):
        return (yield)
    from simloop.simulation import blocking

    def heard(file: str, line: int, took_ns: int) -> None:
        from pytest_simloop.blocking import BlockingCalls

        BlockingCalls.of(item.config).add(file, line, 1, took_ns, [item.nodeid])

    previous, blocking.listener = blocking.listener, heard
    try:
        return (yield)
    finally:
        blocking.listener = previous


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    from pytest_simloop.blocking import add_rows

    add_rows(node)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Generator[None, Any, Any]:
    if not getattr(getattr(request, "_pyfuncitem", None), "simulated", False):
        return (yield)
    from pytest_simloop.fixtures import sync_fixture

    stand_in = sync_fixture(fixturedef, request)
    if stand_in is None:
        return (yield)
    original, fixturedef.func = fixturedef.func, stand_in
    try:
        return (yield)
    finally:
        fixturedef.func = original


@pytest.fixture
def sim(request: pytest.FixtureRequest) -> Sim:
    """Handle on the simulated world of the current run: `simloop.Sim`."""
    handle: Sim | None = getattr(request.node, "sim", None)
    if handle is None:
        pytest.fail("the fixture 'sim' needs a simulated test: an async one, marked simloop or run with --sim", False)
    return handle


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """Hook that, under -v, adds the number of runs of a test to PASSED."""
    if report.when != "call" or report.outcome != "passed" or config.get_verbosity() < 1:
        return None
    runs = dict(report.user_properties).get("simloop_runs")
    if runs is None or hasattr(report, "wasxfail"):
        return None
    return "passed", ".", f"PASSED ({runs})"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Hook that reports for which tests measures were taken that they need, such as forked runs."""
    passed = terminalreporter.stats.get("passed", ())
    told = [(report.nodeid, dict(report.user_properties).get("simloop_runs", "")) for report in passed]
    if not any(summary for _, summary in told):
        return
    from simloop.explore.result import TOLD

    for phrase, sentence in TOLD.items():
        if tests := [test for test, summary in told if phrase in summary]:
            others = f" and {len(tests) - 1} more" * (len(tests) > 1)
            terminalreporter.write_line("simloop: " + sentence.format(f"{tests[0]}{others}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    summary = getattr(item, "summary", None) if getattr(item, "simulated", False) else None
    if call.when == "call" and summary:
        item.user_properties.append(("simloop_runs", summary))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_exception_interact(node: Any, call: Any) -> Generator[None, None, None]:
    if not getattr(node, "simulated", False):
        return (yield)
    from pytest_simloop.still_clock import examining

    with examining(call.excinfo.value):
        return (yield)


def pytest_enter_pdb(pdb: Any) -> None:
    if "simloop" in sys.modules:
        from pytest_simloop.still_clock import stop_clocks_for

        stop_clocks_for(pdb)


def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    for note in getattr(excinfo.value, "__notes__", ()):
        print(note)
