"""Suites that another plugin runs, under `--sim` as they stand: each with the real plugin, in a session of its own."""

from __future__ import annotations

import pytest
from driver import PLUGINS

CHECK = """
import asyncio, pytest, time

async def check(seconds=1000):
    before = time.monotonic()
    await asyncio.sleep(seconds)
    assert time.monotonic() - before >= seconds
    assert type(asyncio.get_running_loop()).__name__ == "SimLoop"
    return asyncio.get_running_loop()
"""
RACE = """
    lost = []
    async def put(number):
        await asyncio.to_thread(lambda: None)
        lost.append(number)
    await asyncio.gather(put(1), put(2))
    assert lost == [1, 2]
"""


def run(pytester: pytest.Pytester, code: str, *arguments: str, plugins: tuple[str, ...]) -> pytest.RunResult:
    """Runs a suite in a process of its own with these plugins, and `--sim`."""
    pytester.makepyfile(test_it=CHECK + code)
    without = [f"-pno:{plugin}" for plugin in PLUGINS if plugin not in plugins]
    asyncio = ["-o", "asyncio_default_fixture_loop_scope=function"] if "asyncio" in plugins else []
    return pytester.runpytest_subprocess(
        "--sim", "--sim-no-confirm", "-p", "no:cacheprovider", "-W", "error", *without, *asyncio, *arguments
    )


ASYNCIO = (
    """
import pytest_asyncio
made = []

@pytest.fixture(scope="session")
def once():
    made.append(1)
    return made

@pytest_asyncio.fixture{fixture_scope}
async def loop_of_fixture():
    yield await check()
    await asyncio.sleep(10)

@pytest.mark.asyncio{test_scope}
async def test_async(loop_of_fixture, once, tmp_path):
    (tmp_path / "file").write_text("")
    assert await check() is loop_of_fixture
    assert once == [1]

{sync_mark}
def test_sync(loop_of_fixture):
    assert loop_of_fixture

def test_left_alone():
    assert time.monotonic() < 1e9

@pytest.mark.asyncio{test_scope}
async def test_race():
"""
    + RACE
)


@pytest.mark.parametrize("scope", ["function", "class", "module", "session"])
def test_pytest_asyncio_strict(pytester: pytest.Pytester, scope: str) -> None:
    code = ASYNCIO.format(
        fixture_scope=f"(loop_scope={scope!r}, scope={scope!r})", test_scope=f"(loop_scope={scope!r})", sync_mark=""
    )
    result = run(pytester, code, plugins=("asyncio",))
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        ["simloop: 3 simulated, left alone: 1 sync", "*AssertionError*", "*can happen on stock*"]
    )


def test_pytest_asyncio_auto(pytester: pytest.Pytester) -> None:
    code = ASYNCIO.format(fixture_scope="", test_scope="", sync_mark="").replace("@pytest.mark.asyncio\n", "")
    run(pytester, code, "-o", "asyncio_mode=auto", plugins=("asyncio",)).assert_outcomes(passed=3, failed=1)


def test_pytest_asyncio_loop_factories(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import asyncio
        def pytest_asyncio_loop_factories(config, item):
            return {"new": asyncio.new_event_loop, "selector": asyncio.SelectorEventLoop}
        """
    )
    code = "@pytest.mark.asyncio\nasync def test_it(): await check()"
    run(pytester, code, plugins=("asyncio",)).assert_outcomes(passed=2)


# The race comes first: while a fixture of the module holds the runner of trio, anyio's plugin runs everything in that.
ANYIO = (
    """
import anyio
pytestmark = pytest.mark.anyio

@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_race(anyio_backend):
"""
    + RACE
    + """
@pytest.fixture(scope="module")
async def resource(anyio_backend):
    await anyio.sleep(0.01)
    yield 7
    await anyio.sleep(0.01)

async def test_it(resource, anyio_backend_name):
    assert resource == 7
    if anyio_backend_name == "asyncio":
        await check()
"""
)


def test_anyio_has_asyncio_simulated_and_trio_left_alone(pytester: pytest.Pytester) -> None:
    result = run(pytester, ANYIO, plugins=("anyio",))
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["simloop: 2 simulated, left alone: 1 trio", "E * assert [[]2, 1] == [[]1, 2]"])


def test_aiohttps_own_plugin(pytester: pytest.Pytester) -> None:
    code = """
async def test_loop(loop):
    assert await check() is loop

async def test_client(aiohttp_client):
    from aiohttp import web
    async def handler(request):
        await asyncio.sleep(100)
        return web.Response(text="hello")
    app = web.Application()
    app.router.add_get("/", handler)
    client = await aiohttp_client(app)
    response = await client.get("/")
    assert await response.text() == "hello"
"""
    run(pytester, code, "-p", "aiohttp.pytest_plugin", "-W", "ignore", plugins=()).assert_outcomes(passed=2)


def test_pytest_aiohttp(pytester: pytest.Pytester) -> None:
    code = """
from aiohttp import web

@pytest.fixture
async def client(aiohttp_client):
    async def handler(request):
        await check(100)  # aiohttp gives up after five minutes
        return web.Response(text="hello")
    app = web.Application()
    app.router.add_get("/", handler)
    return await aiohttp_client(app)

async def test_client(client):
    response = await client.get("/")
    assert await response.text() == "hello"
"""
    result = run(pytester, code, "-o", "asyncio_mode=auto", "-W", "ignore", plugins=("asyncio", "aiohttp"))
    result.assert_outcomes(passed=1)


def test_pytest_tornasync(pytester: pytest.Pytester) -> None:
    code = "async def test_it(io_loop): assert await check() is io_loop.asyncio_loop"
    run(pytester, code, "-W", "ignore", plugins=("tornado",)).assert_outcomes(passed=1)


def test_a_runner_of_the_suites_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import asyncio, inspect
        def pytest_pyfunc_call(pyfuncitem):
            if inspect.iscoroutinefunction(pyfuncitem.obj):
                arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
                asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), 5000))
                return True
        """
    )
    run(pytester, "async def test_it(): await check()", plugins=()).assert_outcomes(passed=1)


def test_unittest(pytester: pytest.Pytester) -> None:
    code = """
import unittest
class Test(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self): await check()
    def test_sync(self): pass
    async def test_async(self): await check()
"""
    run(pytester, code, plugins=()).assert_outcomes(passed=2)


SYNC = """
import functools

def runs(function):
    @functools.wraps(function)
    def run(*args, **kwargs):
        return asyncio.run(function(*args, **kwargs))
    return run

@runs
async def test_decorated(): await check()

def test_runs(): asyncio.run(check())

def test_runner():
    with asyncio.Runner() as runner:
        runner.run(check())

@pytest.fixture
def made():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()

def test_loop(made): made.run_until_complete(check())

def test_plain(): assert time.monotonic() < 1e9
"""


def test_sync_tests_that_start_a_loop(pytester: pytest.Pytester) -> None:
    result = run(pytester, SYNC, plugins=())
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["simloop: 4 simulated, left alone: 1 sync"])


HYPOTHESIS = """
from hypothesis import given, settings, strategies as st
{mark}
@settings(max_examples=5, database=None)
@given(n=st.integers())
async def test_given({arguments}n): await check(10)
"""


def test_given_above_pytest_asyncio(pytester: pytest.Pytester) -> None:
    code = HYPOTHESIS.format(mark="@pytest.mark.asyncio", arguments="")
    run(pytester, code, "--sim-runs=3", plugins=("asyncio",)).assert_outcomes(passed=1)


def test_given_above_anyio(pytester: pytest.Pytester) -> None:
    mark = '@pytest.mark.anyio\n@pytest.mark.parametrize("anyio_backend", ["asyncio"])'
    code = HYPOTHESIS.format(mark=mark, arguments="anyio_backend, ")
    run(pytester, code, "--sim-runs=3", plugins=("anyio",)).assert_outcomes(passed=1)


COMMON = (
    """
@pytest.mark.asyncio
async def test_passes(): await check()

@pytest.mark.asyncio
async def test_race():
"""
    + RACE
)


def test_pytest_xdist(pytester: pytest.Pytester) -> None:
    run(pytester, COMMON, "-n2", plugins=("asyncio",)).assert_outcomes(passed=1, failed=1)


def test_pytest_randomly(pytester: pytest.Pytester) -> None:
    run(pytester, COMMON, "-p", "randomly", plugins=("asyncio", "randomly")).assert_outcomes(passed=1, failed=1)


def test_pytest_rerunfailures(pytester: pytest.Pytester) -> None:
    result = run(pytester, COMMON, "--reruns=1", plugins=("asyncio", "rerunfailures"))
    assert result.parseoutcomes() == {"failed": 1, "passed": 1, "rerun": 1}


def test_pytest_timeout(pytester: pytest.Pytester) -> None:
    run(pytester, COMMON, "--timeout=60", plugins=("asyncio", "timeout")).assert_outcomes(passed=1, failed=1)


FOREVER = """
@pytest.mark.asyncio
async def test_forever():
    while True:
        await asyncio.sleep(0)

@pytest.mark.asyncio
async def test_after():
    await check()
"""
KNOWN = "simloop: interrupted in run 1 of 100 of test_it.py::test_forever; no failure until then"


def test_pytest_timeout_ends_a_campaign(pytester: pytest.Pytester) -> None:
    result = run(pytester, FOREVER, "--timeout=1", "--timeout-method=signal", plugins=("asyncio", "timeout"))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E *Failed: Timeout (>1.0s) from pytest-timeout.", KNOWN])


def test_pytest_timeout_ends_a_process_and_says_what_is_known(pytester: pytest.Pytester) -> None:
    result = run(pytester, FOREVER, "--timeout=1", "--timeout-method=thread", plugins=("asyncio", "timeout"))
    assert KNOWN in str(result.stdout) + str(result.stderr)


def test_pytest_cov(pytester: pytest.Pytester) -> None:
    result = run(pytester, COMMON, "--cov=.", "-W", "ignore", plugins=("asyncio", "pytest_cov"))
    result.assert_outcomes(passed=1, failed=1)


def test_pytest_mock(pytester: pytest.Pytester) -> None:
    code = """
import random
@pytest.mark.asyncio
async def test_it(mocker):
    mocker.patch("random.random", return_value=2)
    assert random.random() == 2
    await check()
"""
    run(pytester, code, plugins=("asyncio", "pytest_mock")).assert_outcomes(passed=1)


def test_last_failed_and_pdb(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=CHECK + COMMON)
    without = [f"-pno:{plugin}" for plugin in PLUGINS if plugin != "asyncio"]
    first = pytester.runpytest_subprocess("--sim", "--sim-no-confirm", *without)
    first.assert_outcomes(passed=1, failed=1)
    again = pytester.runpytest_subprocess("--sim", "--sim-no-confirm", "--lf", *without)
    again.assert_outcomes(failed=1)


def test_a_loop_of_somewhere_else_is_one_line(pytester: pytest.Pytester) -> None:
    code = """
LOOP = asyncio.new_event_loop()
def test_first(): LOOP.run_until_complete(asyncio.sleep(0))
@pytest.mark.asyncio
async def test_second(): await check()
"""
    result = run(pytester, code, "-W", "ignore", plugins=("asyncio",))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_it.py:*: an event loop that was made outside of this run*make it in the run*"])
