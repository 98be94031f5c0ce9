"""pytest and its plugins keep the real clock while a fixture holds a world."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

# A plugin like many: it measures with names that it imported, and with the module's.
TIMING = """
    import time
    from time import monotonic
    import pytest

    took = {}

    def timing(name):
        @pytest.hookimpl(wrapper=True)
        def wrapper():
            before = time.time(), monotonic()
            try:
                return (yield)
            finally:
                after = time.time(), monotonic()
                took[name] = max(took.get(name, 0), *(abs(then - now) for now, then in zip(after, before)))
        return wrapper

    NAMES = ["runtest_protocol", "runtest_setup", "fixture_setup", "runtest_call", "pyfunc_call", "runtest_teardown"]
    for name in NAMES:
        globals()["pytest_" + name] = timing(name)

    def pytest_runtest_logreport(report):
        took["logreport"] = max(took.get("logreport", 0), abs(time.time() - report.stop))

    def pytest_unconfigure():
        print("timed:", len(took), "too long:", [name for name, seconds in took.items() if seconds > 50])
"""

WORLD = """
    import time
    import pytest
    import simloop

    @pytest.fixture(scope="SCOPE")
    def world():
        with simloop.world() as sim:
            time.sleep(100)
            yield sim
            time.sleep(100)
            assert sim.elapsed >= 400

    @pytest.fixture
    def inner(world):
        before = world.elapsed
        time.sleep(100)
        assert world.elapsed - before >= 100
        yield
        time.sleep(100)

    def test_first(world, inner):
        before = time.monotonic()
        time.sleep(1000)
        assert 1000 <= time.monotonic() - before < 1001

    def test_fixture_made_by_a_test(request):
        sim = request.getfixturevalue("world")
        before = sim.elapsed
        time.sleep(300)
        assert sim.elapsed - before >= 300
"""


@pytest.mark.parametrize("scope", ["function", "module", "session"])
def test_durations_are_real(pytester: pytest.Pytester, scope: str) -> None:
    pytester.makeconftest(TIMING)
    pytester.makepyfile(test_it=WORLD.replace("SCOPE", scope))
    result = pytester.runpytest("--durations=0", "-vv", "--junitxml=report.xml")
    result.assert_outcomes(passed=2)
    shown = [
        float(seconds) for seconds in re.findall(r"^([\d.]+)s +(?:setup|call|teardown) ", result.stdout.str(), re.M)
    ]
    assert len(shown) == 6
    assert max(shown) < 50
    suites = ElementTree.parse(pytester.path / "report.xml").getroot()
    times = [float(case.attrib["time"]) for case in suites.iter() if "time" in case.attrib]
    assert times
    assert max(times) < 50
    result.stdout.fnmatch_lines(["timed: 7 too long: [[]]"])


def test_workers_of_xdist_keep_the_real_clock(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="it is told the durations")
    pytester.makepyfile(test_it=WORLD.replace("SCOPE", "module"))
    result = pytester.runpytest_subprocess("-n1", "--durations=0", "-vv")
    result.assert_outcomes(passed=2)
    shown = [
        float(seconds) for seconds in re.findall(r"^([\d.]+)s +(?:setup|call|teardown) ", result.stdout.str(), re.M)
    ]
    assert len(shown) == 6
    assert max(shown) < 50


def test_fixtures_of_a_simulated_test_are_set_up_in_its_world(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(TIMING)
    pytester.makepyfile(
        """
        import time
        import pytest
        @pytest.fixture
        def slow():
            before = time.monotonic()
            time.sleep(100)
            yield time.monotonic() - before
            time.sleep(100)
        async def test_it(slow, sim):
            assert 100 <= slow < 101
            assert sim.elapsed >= 100
        """
    )
    result = pytester.runpytest("--sim", "-Wignore")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["timed: 6 too long: [[]]"])


def test_a_world_entered_in_a_hook_lasts_for_the_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import simloop
        def pytest_runtest_setup(item):
            item.world = simloop.world()
            item.world.__enter__()
        def pytest_runtest_teardown(item):
            item.world.__exit__(None, None, None)
        """
    )
    pytester.makepyfile(
        """
        import simloop, time
        def test_first():
            time.sleep(1000)
            assert simloop.current().elapsed >= 1000
        def test_second():
            assert simloop.current().elapsed < 1
        """
    )
    result = pytester.runpytest("--durations=0")
    result.assert_outcomes(passed=2)
    assert not re.search(r"^\d{3,}\.\d+s", result.stdout.str(), re.M)


def test_fixtures_are_torn_down_in_their_world_after_ctrl_c(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import time
        import pytest, simloop
        @pytest.fixture(scope="module")
        def world():
            with simloop.world() as sim:
                yield
                time.sleep(1000)
                print("torn down after", sim.elapsed // 1000)
        def test_it(world):
            raise KeyboardInterrupt
        """
    )
    result = pytester.runpytest_subprocess("-s", "--junitxml=report.xml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*torn down after 1.0"])
    assert (pytester.path / "report.xml").exists()


def test_a_wide_fixture_that_a_plugin_refuses_is_refused_in_each_run(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_fixture_setup(fixturedef):
            if fixturedef.argname == "wide":
                pytest.fail("refused by a plugin")
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        async def wide():
            yield

        async def test_of_it(wide):
            pass
        """
    )
    result = pytester.runpytest("--sim", "--sim-runs=3")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*refused by a plugin*"])
    result.stdout.no_fnmatch_line("*NondeterminismError*")
