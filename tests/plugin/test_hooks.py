"""Plugins of simloop: in `conftest.py`, in pytest plugins, and by entry point."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import simloop
from simloop.explore.plugins import Hooks, PluginManager

STRATEGY = """
    import simloop

    class Late:
        name = "{name}"

        def __init__(self, seed):
            self.seeds = iter(range(2**40, 2**40 + 10))

        def plan(self):
            seed = next(self.seeds, None)
            return None if seed is None else simloop.Plan(seed, decide=None)

        def observe(self, choices, failed):
            pass

    @simloop.hookimpl
    def simloop_strategies(seed):
        return {result}
"""
FAILS_LATE = """
    import asyncio
    async def test_it(sim):
        for _ in range(10):
            await asyncio.to_thread(int)  # so that there is something to explore
        assert sim.seed < 2**40
"""


def strategy(name: str, result: str = "Late(seed)") -> str:
    return STRATEGY.format(name=name, result=result)


@pytest.mark.parametrize("result", ["Late(seed)", "[Late(seed)]"])
def test_a_strategy_of_a_conftest_finds_a_failure(pytester: pytest.Pytester, result: str) -> None:
    pytester.makeconftest(strategy("my strategy", result))
    pytester.makepyfile(FAILS_LATE)
    run = pytester.runpytest("--sim")
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(["failed in run * of 100 (my strategy;*"])


def test_a_conftest_is_for_the_tests_of_its_directory(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        **{
            "one/conftest": strategy("first"),
            "one/deep/test_one": FAILS_LATE,
            "two/test_two": FAILS_LATE,
            "three/conftest": "import simloop\n@simloop.hookimpl\ndef simloop_strategies(): return None",
            "three/test_three": FAILS_LATE,
        }
    )
    run = pytester.runpytest("--sim", "-v")
    run.assert_outcomes(failed=1, passed=2)
    run.stdout.fnmatch_lines(["one/deep/test_one.py::test_it FAILED*", "failed in run * of 100 (first;*"])


def test_runs_are_observed_and_reports_get_sections(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import simloop
        heard = []

        @simloop.hookimpl
        def simloop_observe_run(test, outcome):
            heard.append((test, outcome.exception is None))

        @simloop.hookimpl
        def simloop_report_section(test, failure):
            return "tickets", f"{test} has failed after {failure.run_number} of {len(heard)} runs"

        def pytest_unconfigure():
            print("heard of", len(heard), set(heard))
        """
    )
    pytester.makepyfile(
        test_it="""
        import asyncio
        async def test_fails():
            assert 0
        async def test_passes():
            for _ in range(10):
                await asyncio.to_thread(int)
        """
    )
    run = pytester.runpytest("--sim", "-s", "--sim-runs=50")
    run.assert_outcomes(failed=1, passed=1)
    run.stdout.fnmatch_lines(
        ["*- tickets -*", "test_it.py::test_fails has failed after 1 of 1 runs", "heard of 51 {*('test_it.py::test_*"]
    )


def test_a_pytest_plugin_may_be_a_plugin_of_simloop(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(both=strategy("of a plugin"), test_it=FAILS_LATE)
    pytester.syspathinsert()
    run = pytester.runpytest("--sim", "-p", "both")
    run.stdout.fnmatch_lines(["failed in run * of 100 (of a plugin;*"])


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("def simloop_strategies(): raise ValueError('no')", "failed in simloop_strategies: ValueError: no"),
        ("def simloop_strategies(): return 7", "returned 7, which is no strategy"),
        ("def simloop_observe_run(outcome): return outcome.nothing", "failed in simloop_observe_run: AttributeError: "),
        ("def simloop_report_section(): raise ValueError('no')", "failed in simloop_report_section: ValueError: no"),
        ("def simloop_report_section(): return 'title'", "returned 'title': not two strings"),
        ("def simloop_no_such_hook(): pass", "unknown hook 'simloop_no_such_hook'"),
        ("def simloop_strategies(budget): pass", "Argument(s) {'budget'} are declared in the hookimpl"),
    ],
)
def test_a_plugin_that_fails_is_named_in_one_line(pytester: pytest.Pytester, hook: str, words: str) -> None:
    pytester.makeconftest(f"import simloop\n@simloop.hookimpl\n{hook}")
    pytester.makepyfile("async def test_it(): assert 0")
    run = pytester.runpytest("--sim")
    run.assert_outcomes(failed=1)
    (line,) = [line for line in run.stdout.lines if words in line and not line.startswith("FAILED")]
    assert str(pytester.path / "conftest.py") in line
    assert "plugins.py" not in run.stdout.str()
    assert ("assert 0" in run.stdout.str()) == ("section" in hook)


def test_nobody_who_listens_costs_nothing() -> None:
    hooks = Hooks(PluginManager(), "test")
    assert hooks.observer() is None
    assert hooks.strategies(1, "cpython") == []


def installed(folder: Path, code: str) -> None:
    """A distribution that is a plugin of simloop."""
    (folder / "acme_simloop.py").write_text(textwrap.dedent(code))
    info = folder / "acme_simloop-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-simloop\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[simloop]\nacme = acme_simloop\n")


def test_an_installed_plugin_is_found(pytester: pytest.Pytester) -> None:
    installed(pytester.path, strategy("acme's"))
    pytester.makepyfile(FAILS_LATE)
    pytester.syspathinsert()
    run = pytester.runpytest_subprocess("--sim")
    run.stdout.fnmatch_lines(["failed in run * of 100 (acme's;*"])


def test_an_installed_plugin_that_cannot_be_loaded_is_named(pytester: pytest.Pytester) -> None:
    installed(pytester.path, "import no_such_module")
    pytester.makepyfile(FAILS_LATE)
    pytester.syspathinsert()
    run = pytester.runpytest_subprocess("--sim")
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(["PluginError: the simloop plugin 'acme' cannot be loaded: ModuleNotFoundError: *"])


def test_hooks_are_for_plain_programs_too(tmp_path: Path) -> None:
    installed(tmp_path, strategy("acme's"))
    program = """
        import asyncio, simloop
        async def main():
            for _ in range(10):
                await asyncio.to_thread(int)
            assert simloop.current().seed < 2**40
        print(simloop.explore(main).failure.strategy)
        """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.stdout == "acme's\n", child.stderr


def test_the_marker_for_hooks_is_exported() -> None:
    assert simloop.hookimpl.project_name == "simloop"
