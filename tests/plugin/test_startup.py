"""What a session under `--sim` imports: where there is no bytecode yet, most of its start is the compiling of that."""

from __future__ import annotations

import sys

import pytest

# Written at the end of a session: our modules, and all their lines.
COUNTING = """
import sys

def pytest_unconfigure():
    ours = {name: module.__file__ for name, module in sys.modules.items()
            if name.partition(".")[0] in ("simloop", "pytest_simloop")}
    lines = sum(len(open(file).readlines()) for file in ours.values())
    with open("imported", "w") as file:
        print(lines, *sorted(ours), file=file)
"""
# Lines of the shim of child watchers, which later Pythons do without.
OF_PYTHON_3_11 = 45 if sys.version_info < (3, 12) else 0
SYNC = "def test_sync(): pass\n"
ASYNC = "async def test_async(): pass\n"


def imported(pytester: pytest.Pytester, tests: str, *options: str) -> tuple[int, list[str]]:
    """Return how many lines of ours a session has imported, and the modules."""
    pytester.makeconftest(COUNTING)
    pytester.makepyfile(tests)
    assert pytester.runpytest_subprocess(*options).ret == 0
    lines, *modules = (pytester.path / "imported").read_text().split()
    return int(lines), modules


def test_a_session_without_the_option_imports_the_plugin_alone(pytester: pytest.Pytester) -> None:
    lines, modules = imported(pytester, SYNC)
    assert {name.partition(".")[0] for name in modules} == {"pytest_simloop"}
    assert lines <= 1_180


def test_a_session_without_simulated_tests_imports_no_simulation(pytester: pytest.Pytester) -> None:
    lines, modules = imported(pytester, SYNC, "--sim")
    assert lines <= 4_330 + OF_PYTHON_3_11
    assert len(modules) <= 40
    assert not {
        name for name in modules if name.startswith(("simloop.network", "simloop.world.world", "simloop.loop.loop"))
    }


def test_a_trivial_test_imports_what_all_runs_need(pytester: pytest.Pytester) -> None:
    lines, modules = imported(pytester, SYNC + ASYNC, "--sim")
    assert lines <= 9_330 + OF_PYTHON_3_11
    assert len(modules) <= 80
    for_failures = ("simloop.report", "simloop.explore.store", "simloop.explore.examination", "pytest_simloop.failures")
    assert not {name for name in modules if name.startswith(for_failures)}
    # What is for tests that read and write, in which there is something to choose, or that block.
    for_others = ("simloop.kernel.epoll", "simloop.network", "simloop.loop.timers", "simloop.explore.wakeups")
    assert not {name for name in modules if name.startswith((*for_others, "pytest_simloop.blocking"))}
