"""The pytest plugin, as a user meets it."""

from __future__ import annotations

import functools
import re
import signal
import subprocess
import sys

import pytest

RACE = """
    import asyncio

    async def test_counter(sim):
        counter = 0
        async def add():
            nonlocal counter
            seen = counter
            reader, writer = await asyncio.open_connection("127.0.0.1", 7000)
            await reader.read()
            writer.close()
            counter = seen + 1
        async def serve(reader, writer):
            writer.close()
        server = await asyncio.start_server(serve, "127.0.0.1", 7000)
        first = asyncio.create_task(add(), name="first")
        sim.may_cancel(first)
        await asyncio.wait([first])
        await add()
        server.close()
        assert counter == 2
"""
TOKEN = re.compile(r"--sim-replay=(sl1:[\w-]+)")


def test_an_ordinary_async_test_runs_many_times_and_stays_silent(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        async def test_sleeps():
            print("printed in every run")
            await asyncio.sleep(100_000 / 10)
        def test_sync(): pass
        """
    )
    result = pytester.runpytest("--sim", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
    assert "simulat" not in result.stdout.str().replace("simloop: 1 simulated, left alone: 1 sync", "", 1)
    assert re.search(r"\d runs", result.stdout.str()) is None
    verbose = pytester.runpytest("--sim", "-v", "--sim-runs=7")
    verbose.stdout.fnmatch_lines(["*test_sleeps PASSED (1 run: nothing to explore; *)*", "*test_sync PASSED *"])


def test_without_the_option_nothing_is_simulated(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        async def test_async(): pass
        def test_sync():
            assert not any(name.startswith("simloop.kernel") for name in sys.modules)
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*async def functions are not natively supported*"])


@pytest.mark.usefixtures("confirming")
def test_a_race_is_found_told_and_replayed_in_a_new_process(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(RACE)
    result = pytester.runpytest("--sim")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*assert 1 == 2*",
            "*- simulation -*",
            "failed in run * of 100 (cancel sweep; * distinct so far; profile cpython)",
            "it passes when nothing unusual happens; this is what makes it fail:",
            "  task 'first', created at test_*.py:*",
            "failing run * passing run",
            "replay it:",
            "  pytest test_a_race*.py::test_counter*",
            "*--sim-replay=sl1:*",
            "saved in .simloop/*",
            "in a fresh process it fails in the same way",
        ]
    )
    token = TOKEN.search(result.stdout.str())
    assert token is not None
    again = pytester.runpytest_subprocess(f"--sim-replay={token[1]}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*assert 1 == 2*", "replayed (profile cpython, seed *)", "*task 'first', created*"])


def test_the_same_campaign_finds_the_same_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(RACE)
    tokens = [TOKEN.findall(pytester.runpytest_subprocess("--sim").stdout.str()) for _ in range(2)]
    assert tokens[0] == tokens[1] != []
    assert TOKEN.findall(pytester.runpytest("--sim", "--sim-seed=99").stdout.str()) != tokens[0]


def test_a_seed_stands_in_for_a_token(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(RACE)
    result = pytester.runpytest("--sim-replay=0")
    result.assert_outcomes(passed=1)


def test_a_token_picks_its_test_and_refuses_others(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_race=RACE, test_other="async def test_fine(): pass")
    token = TOKEN.search(pytester.runpytest("--sim").stdout.str())
    assert token is not None
    whole = pytester.runpytest(f"--sim-replay={token[1]}")
    whole.assert_outcomes(failed=1, deselected=1)
    other = pytester.runpytest("test_other.py", f"--sim-replay={token[1]}")
    assert other.ret == pytest.ExitCode.USAGE_ERROR
    other.stderr.fnmatch_lines(["ERROR: --sim-replay: the token was not made for any of the selected tests*"])


def test_a_changed_program_is_said_to_have_changed(pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(test_race=RACE)
    token = TOKEN.search(pytester.runpytest("--sim").stdout.str())
    assert token is not None
    path.write_text(path.read_text().replace("sim.may_cancel(first)", "pass"))
    result = pytester.runpytest_subprocess(f"--sim-replay={token[1]}")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*ReplayDriftWarning: 0 of 1 deviations of the token applied*"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sim-runs=0"], "runs must be a whole number of at least 1, not 0"),
        (["--sim-runs=many"], "'many' is not a whole number"),
        (["--sim-seed=-4"], "seed must be a whole number"),
        (["--sim-profile=windows"], "unknown profile 'windows': use one of cpython, portable, hostile"),
        (["--sim-replay=hello"], "'hello' is not a token"),
        (["--sim-replay=sl1:AAAA"], "is malformed or cut off"),
        (["--sim-replay=sl9:AAAA"], "was written by a newer simloop"),
    ],
)
def test_options_that_mean_nothing_are_one_line(pytester: pytest.Pytester, arguments: list[str], words: str) -> None:
    pytester.makepyfile("async def test_fine(): pass")
    result = pytester.runpytest("--sim", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("@pytest.mark.simloop(rnus=3)\nasync def test_it(): pass", "has no keyword 'rnus': use one of runs, time,"),
        ("@pytest.mark.simloop(3)\nasync def test_it(): pass", "takes keywords only"),
        ("@pytest.mark.simloop(runs=0)\nasync def test_it(): pass", "runs must be"),
        ("@pytest.mark.simloop(profile='x')\nasync def test_it(): pass", "unknown profile 'x'"),
        ("@pytest.mark.simloop(max_time='x')\nasync def test_it(): pass", "max_time must be"),
        ("def test_it(sim): pass", "the fixture 'sim' needs a simulated test"),
    ],
)
def test_tests_that_cannot_be_simulated_say_why(pytester: pytest.Pytester, code: str, words: str) -> None:
    pytester.makepyfile("import pytest\n" + code)
    result = pytester.runpytest()
    assert result.parseoutcomes().keys() <= {"error", "errors"}
    assert words in result.stdout.str()
    for ours in ("simloop/", "item.py", "plugin.py", "Traceback"):
        assert ours not in result.stdout.str()


def test_a_marker_asks_for_its_own_campaign(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, pytest
        @pytest.mark.simloop(runs=5, max_time=10)
        async def test_long(): await asyncio.sleep(20)
        @pytest.mark.simloop(runs=5)
        class TestMany:
            @pytest.mark.simloop(seed=4)
            async def test_short(self, sim): assert sim.seed in range(4, 9)
        """
    )
    result = pytester.runpytest("-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_short PASSED (1 run: nothing to explore*)*", "*TimeLimitError: *max_time*"])


def test_function_fixtures_are_fresh_in_every_run_and_others_are_shared(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, pytest, time
        made = {"module": 0, "function": 0, "async": 0, "closed": 0}

        @pytest.fixture(scope="module")
        def shared():
            made["module"] += 1
            return time.time()

        @pytest.fixture
        def fresh(shared):
            made["function"] += 1
            return []

        @pytest.fixture
        async def coroutine(fresh):
            await asyncio.sleep(1)
            fresh.append("coroutine")
            return "value"

        @pytest.fixture
        async def generator(coroutine, fresh):
            made["async"] += 1
            assert asyncio.get_running_loop().time() > 1000
            yield fresh
            await asyncio.sleep(1)
            made["closed"] += 1

        @pytest.mark.simloop(runs=10)
        async def test_them(generator, fresh, coroutine, shared, sim):
            await asyncio.to_thread(int)  # so that there is something to explore
            assert generator == fresh == ["coroutine"]
            assert shared > time.time() or shared < 2e9
            fresh.append("used")
            assert sim.elapsed >= 1

        def test_counts():
            assert made["module"] == 1
            assert made["function"] == made["async"] == made["closed"] == 11  # one for the self-check
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)


def test_pytests_own_fixtures_work(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import logging, os, pytest, time

        class TestClass:
            count = 0

            @pytest.mark.parametrize("n", [1, 2])
            async def test_all(self, n, tmp_path, monkeypatch, capsys, caplog, request):
                self.count += 1
                assert self.count == 1, "the instance is fresh in every run"
                assert list(tmp_path.iterdir()) == []
                (tmp_path / "file").write_text("x")
                monkeypatch.setattr(time, "time", lambda: n)
                monkeypatch.setenv("KEY", str(n))
                assert time.time() == n
                print("out", n)
                logging.getLogger().warning("log %d", n)
                assert capsys.readouterr().out == f"out {n}\\n"
                assert [record.getMessage() for record in caplog.records] == [f"log {n}"]

            async def test_env(self):
                assert "KEY" not in os.environ
        """
    )
    pytester.runpytest("--sim", "--sim-runs=5").assert_outcomes(passed=3)


def test_async_test_cases_are_simulated_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, unittest
        import simloop

        class Case(unittest.IsolatedAsyncioTestCase):
            made = 0

            async def asyncSetUp(self):
                type(self).made += 1
                await asyncio.sleep(1000)

            async def test_passes(self):
                self.seen = getattr(self, "seen", 0) + 1
                self.assertEqual(self.seen, 1)

            async def test_races(self):
                async def work():
                    await asyncio.sleep(1)
                task = asyncio.create_task(work(), name="worker")
                simloop.current().may_cancel(task)
                await asyncio.wait([task])
                self.assertFalse(task.cancelled())

            async def test_skips(self):
                self.skipTest("not today")

            @unittest.expectedFailure
            async def test_expected(self):
                self.fail()
        """
    )
    result = pytester.runpytest("--sim", "--sim-runs=60", "-v")
    result.assert_outcomes(passed=1, failed=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_passes PASSED (1 run: *",
            "  task 'worker', created at test_async*.py:*",
        ]
    )


def test_output_is_that_of_the_failing_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import logging
        async def test_fails():
            print("said once")
            logging.getLogger().warning("logged once")
            assert 0
        """
    )
    text = pytester.runpytest("--sim").stdout.str()
    assert text.count("said once") == 2  # the source line, and the output
    assert text.count("logged once") == 2


def test_skip_xfail_and_fail_inside_a_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        async def test_skips(): pytest.skip("not today")
        async def test_xfails(): pytest.xfail("known")
        @pytest.mark.xfail(strict=True)
        async def test_marked(): assert 0
        async def test_fails(): pytest.fail("plainly")
        """
    )
    pytester.runpytest("--sim", "--sim-runs=3").assert_outcomes(skipped=1, xfailed=2, failed=1)


def test_exit_first_stops_at_the_first_failing_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("async def test_a(): assert 0\nasync def test_b(): assert 0")
    pytester.runpytest("--sim", "-x").assert_outcomes(failed=1)


def test_failures_of_fixtures_are_failures_of_the_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture
        async def broken():
            raise ValueError("in setup")
        @pytest.fixture
        async def leaky():
            yield
            raise ValueError("in teardown")
        async def test_setup(broken): pass
        async def test_teardown(leaky): pass
        """
    )
    result = pytester.runpytest("--sim", "--sim-runs=2")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*ValueError: in setup*", "*ValueError: in teardown*"])


def test_a_deadlock_is_told_without_our_traceback(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import asyncio\nasync def test_stuck():\n    await asyncio.Event().wait()")
    result = pytester.runpytest("--sim")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "DeadlockError: deadlock: *",
            "  task test_stuck() (Task-1) waits at test_*.py:3 in test_stuck",
            "*for set() of the event*",
        ]
    )
    assert "scheduler.py" not in result.stdout.str()


def test_a_failure_told_in_words_takes_one_line_of_a_summary(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")  # pytest's short summary shows whole messages there
    pytester.makepyfile(test_it="import asyncio\n\nasync def test_stuck():\n    await asyncio.Event().wait()")
    result = pytester.runpytest("--sim")
    result.stdout.re_match_lines(
        [r"FAILED test_it.py::test_stuck - DeadlockError: deadlock: .*", "=* 1 failed in .*"], consecutive=True
    )
    lines = pytester.runpytest("--sim", "--tb=line").stdout
    lines.fnmatch_lines(["*test_it.py:3: DeadlockError: deadlock: *"])


def test_state_outside_of_the_process_is_found_by_the_self_check(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, mmap
        seen = mmap.mmap(-1, 1)  # forks share it
        async def test_leaks():
            seen[0] += 1
            for _ in range(seen[0]):
                await asyncio.sleep(1)
        """
    )
    result = pytester.runpytest("--sim")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["NondeterminismError: two runs of *::test_leaks with the same schedule differ*"])


@pytest.mark.parametrize(
    ("fails_when", "lines"),
    [
        (
            "os.environ.get('PYTHONHASHSEED') == '2'",
            [
                "  PYTHONHASHSEED=2 pytest test_it.py::test_hashes --sim-replay=*",
                "*fails only under some PYTHONHASHSEEDs*",
            ],
        ),
        ("False", ["  pytest test_it.py::test_hashes --sim-replay=*", "in a fresh process it does NOT fail*"]),
    ],
)
@pytest.mark.usefixtures("confirming")
def test_a_failure_that_a_fresh_process_does_not_have_is_reported_as_such(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, fails_when: str, lines: list[str]
) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    pytester.makepyfile(
        test_it=f"""
        import os
        async def test_hashes():
            confirming = "SIMLOOP_SIGNATURE_FILE" in os.environ
            assert confirming and not {fails_when}
        """
    )
    result = pytester.runpytest_subprocess("--sim")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(lines)


def test_an_escape_names_the_users_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import socket
        async def test_raw():
            try:
                socket.socket(socket.AF_INET, socket.SOCK_RAW)
            except Exception:
                pass  # swallowing it does not help
        """
    )
    result = pytester.runpytest("--sim")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*EscapedSimulationError: *test_an_escape*.py:4: a raw socket is*"])


def test_ctrl_c_ends_a_campaign_at_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        async def test_long():
            for _ in range(3000):
                await asyncio.sleep(0)
            print("started", flush=True)
        """
    )
    command = [sys.executable, "-m", "pytest", "-s", "--sim", "--sim-runs=1000000", "-p", "no:cacheprovider"]
    # A shell starts what runs in the background with SIGINT ignored.
    handled = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    child = subprocess.Popen(command, cwd=pytester.path, stdout=subprocess.PIPE, text=True, preexec_fn=handled)
    assert child.stdout is not None
    assert any("started" in line for line in child.stdout)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=30)
    assert child.returncode == pytest.ExitCode.INTERRUPTED
    assert re.search(r"simloop: interrupted in run \d+ of 1000000 of .*::test_long; no failure until then", output)


def test_pdb_opens_where_the_test_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("async def test_fails():\n    answer = 42\n    assert answer == 0")
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "--sim", "--pdb", "-p", "no:cacheprovider"],
        cwd=pytester.path,
        input="p 'answer is', answer\nq\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "('answer is', 42)" in child.stdout
