"""Cases of unittest whose class makes its event loop in `setUpClass`."""

from __future__ import annotations

import pytest

CASE = """
    import asyncio, functools, unittest

    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    def coroutine(function):
        @functools.wraps(function)
        def run(self):
            return self.loop.run_until_complete(function(self))
        return run

    class Base(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            cls.loop = asyncio.new_event_loop()
            cls.addClassCleanup(cls.loop.close)
            cls.server = cls.loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 7000))

        @classmethod
        def tearDownClass(cls):
            cls.server.close()

    class TestIt(Base):
        @coroutine
        async def test_asks(self):
            reader, writer = await asyncio.open_connection("127.0.0.1", 7000)
            writer.write(b"line\\n")
            assert await reader.readline() == b"line\\n"
            writer.close()
            await asyncio.sleep(1000)

        @coroutine
        async def test_asks_again(self):
            await type(self).test_asks.__wrapped__(self)
"""
PLAIN = """
        def test_left_alone(self):
            assert not self.loop.is_closed() and type(self.loop).__module__ != "simloop.loop.loop"
"""


def test_each_run_sets_up_the_class(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CASE + "\n    def test_later():\n        assert not hasattr(TestIt, 'loop')\n")
    result = pytester.runpytest("--sim", "--sim-runs=20")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["simloop: 2 simulated, left alone: 1 sync"])


@pytest.mark.parametrize("name", ["test_a_plain_one", "test_z_plain_one"])
def test_a_test_that_is_not_simulated_has_the_real_class(pytester: pytest.Pytester, name: str) -> None:
    pytester.makepyfile(CASE + PLAIN.replace("test_left_alone", name))
    pytester.runpytest("--sim", "--sim-runs=20").assert_outcomes(passed=3)


def test_a_class_that_skips_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CASE.replace("cls.addClassCleanup", "raise unittest.SkipTest('not here')  # "))
    pytester.runpytest("--sim", "--sim-runs=20").assert_outcomes(skipped=2)


@pytest.mark.parametrize("where", ["cls.addClassCleanup(cls.loop.close)", "cls.server.close()"])
def test_errors_of_the_class(pytester: pytest.Pytester, where: str) -> None:
    pytester.makepyfile(CASE.replace(where, "raise ValueError('here')"))
    result = pytester.runpytest("--sim", "--sim-runs=5")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E * ValueError: here"])
