"""`@simloop.replay` on a test makes a schedule part of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Point
from simloop.choices.schedule import Schedule
from simloop.choices.tokens import encode
from simloop.explore.replay import pinned

RACE = """
    import asyncio, pytest, simloop
    PINS
    async def test_counter():
        done = []
        async def work():
            await asyncio.sleep(1)
            done.append(1)
        task = asyncio.create_task(work())
        simloop.current().may_cancel(task)
        await asyncio.wait([task])
        assert done
"""


def race(*decorators: str, mended: bool = False) -> str:
    code = RACE.replace("PINS", "\n    ".join(decorators))
    return code.replace("assert done", "assert done or task.cancelled()") if mended else code


def token_of(result: pytest.RunResult) -> str:
    found = re.search(r"--sim-replay=(sl1:[\w-]+)", result.stdout.str())
    assert found is not None
    return found[1]


@pytest.fixture
def token(pytester: pytest.Pytester) -> str:
    """What fails in `test_race.py::test_counter`."""
    pytester.makepyfile(test_race=race())
    found = token_of(pytester.runpytest("--sim"))
    for path in pytester.path.glob(".simloop/*.json"):
        path.unlink()
    return found


def test_a_pinned_schedule_is_run_without_any_option(pytester: pytest.Pytester, token: str) -> None:
    pytester.makepyfile(test_race=race(f"@simloop.replay('{token}')"))
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert *", f"pinned schedule 1 of 1: {token}", "replayed (profile cpython, seed *"])
    assert not (pytester.path / ".simloop").glob("*.json") or not list((pytester.path / ".simloop").glob("*.json"))

    pytester.makepyfile(test_race=race(f"@simloop.replay('{token}')", mended=True))
    result = pytester.runpytest("-v")
    result.stdout.fnmatch_lines(["*::test_counter PASSED (1 pinned schedule)*"])


def test_pins_are_stacked_and_the_campaign_follows_where_it_is_asked_for(pytester: pytest.Pytester, token: str) -> None:
    other = encode(Schedule(seed=3), "test_race.py::test_counter")
    pins = [f"@simloop.replay('{other}')", f"@simloop.replay('{token}')"]
    pytester.makepyfile(test_race=race(*pins))
    result = pytester.runpytest()
    result.stdout.fnmatch_lines([f"pinned schedule 2 of 2: {token}"])

    pytester.makepyfile(test_race=race(*pins, mended=True))
    assert "PASSED (2 pinned schedules)" in pytester.runpytest("-v").stdout.str()
    for arguments, marks in ((["--sim"], pins), ([], [*pins, "@pytest.mark.simloop"])):
        pytester.makepyfile(test_race=race(*marks, mended=True))
        result = pytester.runpytest("-v", *arguments)
        result.stdout.fnmatch_lines(["*PASSED (2 pinned schedules; complete: * schedules)*"])


def test_a_token_on_the_command_line_is_all_that_is_run(pytester: pytest.Pytester, token: str) -> None:
    pytester.makepyfile(test_race=race(f"@simloop.replay('{token}')"))
    pytester.runpytest("--sim-replay=0").assert_outcomes(passed=1)


def test_each_set_of_parameters_has_its_own_pins(pytester: pytest.Pytester) -> None:
    pins = [f"@simloop.replay('{encode(Schedule(seed=n), f'test_it.py::test_it[{n}]')}')" for n in (1, 2)]
    pytester.makepyfile(
        test_it="import asyncio, pytest, simloop\n"
        + "\n".join(pins)
        + "\n@pytest.mark.parametrize('n', [1, 2, 3])\nasync def test_it(n, sim):\n    assert sim.seed == n"
    )
    result = pytester.runpytest("-v", "-rs")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["*no schedule is pinned for these parameters: run it with --sim"])


def test_the_profile_is_that_of_the_token(pytester: pytest.Pytester) -> None:
    token = encode(Schedule("hostile", 1), "test_it.py::test_it")
    pytester.makepyfile(
        test_it=f"""
        import asyncio, simloop
        @simloop.replay({token!r})
        async def test_it():
            assert asyncio.get_running_loop().world.profile == "hostile"
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_methods_and_test_cases_can_be_pinned(pytester: pytest.Pytester) -> None:
    method = encode(Schedule(seed=5), "test_it.py::TestIt::test_it")
    case = encode(Schedule(seed=6), "test_it.py::Case::test_it")
    pytester.makepyfile(
        test_it=f"""
        import asyncio, simloop, unittest
        class TestIt:
            @simloop.replay({method!r})
            async def test_it(self, sim):
                assert sim.seed == 5
        class Case(unittest.IsolatedAsyncioTestCase):
            @simloop.replay({case!r})
            async def test_it(self):
                self.assertEqual(simloop.current().seed, 6)
        """
    )
    result = pytester.runpytest("-v")
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("PASSED (1 pinned schedule)") == 2


def test_a_deviation_that_is_gone_is_a_warning(pytester: pytest.Pytester, token: str) -> None:
    pytester.makepyfile(
        test_race=f"import simloop\n@simloop.replay({token!r})\nasync def test_counter(): pass",
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*ReplayDriftWarning: 0 of 1 deviations of the token applied*"])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("async def test_other(): pass", "@simloop.replay: token * was not made for test_it.py::test_other"),
    ],
)
def test_what_cannot_be_replayed_says_why(pytester: pytest.Pytester, code: str, words: str) -> None:
    token = encode(Schedule(seed=3), "test_it.py::test_race")
    pytester.makepyfile(test_it=f"import simloop\n@simloop.replay({token!r})\n{code}")
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([words + "*"])
    assert "pytest_simloop" not in result.stdout.str()


def test_the_function_stays_what_it_is() -> None:
    async def test_it() -> None: ...

    first, second = (encode(Schedule(seed=seed, deviations={Point("0", "cancel", 1): 1})) for seed in (1, 2))
    decorated = simloop.replay(first)(simloop.replay(second)(test_it))
    assert decorated is test_it
    assert inspect.iscoroutinefunction(decorated)
    assert pinned(decorated) == (first, second)
    assert pinned(lambda: None) == ()


@pytest.mark.parametrize(
    ("decorate", "error", "words"),
    [
        (lambda: simloop.replay("hello"), simloop.TokenError, "is not a token"),
        (lambda: simloop.replay("sl1:AAAA"), simloop.TokenError, "malformed or cut off"),
        (lambda: simloop.replay("7"), simloop.TokenError, "is not a token"),
        (lambda: simloop.replay("sl1:AAAAAAcAALcm", runs=5), simloop.ConfigurationError, "one token and nothing else"),
        (lambda: simloop.replay("sl1:AAAAAAcAALcm")(int), simloop.ConfigurationError, "goes on an async test function"),
        (lambda: simloop.replay(test_the_function_stays_what_it_is), simloop.ConfigurationError, "needs a token"),
    ],
)
def test_a_wrong_pin_is_an_error_where_it_stands(
    decorate: Callable[[], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        decorate()
