"""Which functions count as async: those that return a coroutine, and no others, whatever they are wrapped around."""

from __future__ import annotations

import pytest

LOOPS = """
import asyncio, functools

def in_loop(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return asyncio.run(f(*args, **kwargs))
    return wrapper
"""


def test_a_plain_function_around_an_async_one_is_called_as_it_stands(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(loops=LOOPS)
    pytester.makepyfile(
        """
        import asyncio, functools
        from loops import in_loop

        def drive(f):
            @functools.wraps(f)
            def wrapper():
                try:
                    f().send(None)
                except StopIteration:
                    pass
            return wrapper

        @in_loop
        async def test_asyncio_run():
            await asyncio.sleep(0)

        @drive
        async def test_own_loop():
            pass

        @in_loop
        async def test_fails():
            assert 1 == 2

        class TestMethods:
            @in_loop
            async def test_method(self):
                await asyncio.sleep(0)
        """
    )
    result = pytester.runpytest("--sim", "--sim-runs=3", "--sim-no-confirm")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["E * assert 1 == 2"])


def test_async_functions_are_simulated_in_whatever_dress(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, functools, time

        def twice(f):
            @functools.wraps(f)
            async def wrapper(*args, **kwargs):
                await f(*args, **kwargs)
                await f(*args, **kwargs)
            return wrapper

        async def sleeps(seconds):
            await asyncio.sleep(seconds)
            assert 3600 < time.time() - 1767225600 < 10 * 3600

        test_partial = functools.partial(sleeps, 3600)

        @twice
        async def test_wrapped():
            await sleeps(3600)

        class TestMethods:
            async def test_method(self):
                await sleeps(3600)

            @staticmethod
            async def test_static():
                await sleeps(3600)
        """
    )
    result = pytester.runpytest("--sim", "-v")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines([f"*{name} PASSED (1 run*" for name in ("partial", "wrapped", "method", "static")])


def test_methods_of_unittest_that_start_a_loop_are_simulated(pytester: pytest.Pytester) -> None:
    """As tenacity's own suite has them."""
    pytester.makepyfile(loops=LOOPS)
    pytester.makepyfile(
        """
        import asyncio, time, unittest
        from loops import in_loop

        class Test(unittest.TestCase):
            def setUp(self):
                self.began = time.monotonic()

            @in_loop
            async def test_passes(self):
                await asyncio.sleep(3600)
                assert time.monotonic() - self.began >= 3600

            @in_loop
            async def test_fails(self):
                self.assertEqual(1, 2)

            def test_sync(self):
                pass
        """
    )
    result = pytester.runpytest("--sim", "--sim-no-confirm")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["simloop: 2 simulated, left alone: 1 sync", "E * AssertionError: 1 != 2"])
