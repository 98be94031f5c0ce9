"""Options and markers of campaigns, and what -v says of them."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from typing import Any

import pytest

from pytest_simloop.options import KEYWORDS, SETTINGS
from simloop.choices.tokens import decode
from simloop.explore import campaign
from simloop.simulation.limits import Limits

RACE = """
    import asyncio, pytest
    @pytest.mark.simloop(MARKER)
    async def test_race(sim):
        tasks = [asyncio.create_task(asyncio.sleep(1)) for _ in range(2)]
        for task in tasks:
            sim.may_cancel(task)
        await asyncio.wait(tasks)
        assert sum(task.cancelled() for task in tasks) < LOST
"""


def test_what_is_said_of_tests_that_pass(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, pytest
        async def test_many():
            for _ in range(20):
                await asyncio.to_thread(lambda: None)
        async def test_few(sim):
            task = asyncio.create_task(asyncio.sleep(1))
            sim.may_cancel(task)
            await asyncio.wait([task])
        async def test_one():
            await asyncio.sleep(1)
        @pytest.mark.simloop(profile="hostile")
        async def test_hostile(): pass
        """
    )
    result = pytester.runpytest("--sim", "-v", "--sim-runs=30")
    result.stdout.re_match_lines(
        [
            r".*::test_many PASSED \(30 runs, \d+ distinct\).*",
            r".*::test_few PASSED \(complete: \d+ schedules\).*",
            r".*::test_one PASSED \(1 run: nothing to explore; --sim-profile=hostile also reorders task steps\).*",
            r".*::test_hostile PASSED \(1 run: nothing to explore\).*",
        ]
    )


def deviations(result: pytest.RunResult) -> int:
    from simloop.choices.tokens import decode

    text = result.stdout.str()
    return len(decode(text.partition("--sim-replay=")[2].split()[0]).deviations)


def test_shrinking_can_be_bounded_and_left_out(pytester: pytest.Pytester) -> None:
    def race(lost: int, marker: str = "") -> None:
        pytester.makepyfile(test_it=RACE.replace("LOST", str(lost)).replace("MARKER", marker))

    race(2)
    assert deviations(pytester.runpytest()) == 2
    # What is saved is tried first, and is now larger than it has to be.
    race(1)
    assert deviations(pytester.runpytest("--sim-no-shrink")) == 2
    assert deviations(pytester.runpytest("--sim-shrink-runs=1")) == 2
    race(1, "shrink_runs=0")
    assert deviations(pytester.runpytest()) == 2
    assert deviations(pytester.runpytest("--sim-shrink-runs=50")) == 1


def test_a_failure_is_proved_when_it_is_found_and_when_it_is_replayed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=RACE.replace("LOST", "1").replace("MARKER", ""))
    found = pytester.runpytest("--sim-prove").stdout.str()
    replayed = pytester.runpytest(
        "--sim-prove", f"--sim-replay={found.partition('--sim-replay=')[2].split()[0]}"
    ).stdout.str()
    for report in (found, replayed):
        assert "\nreplayed on stock asyncio: same failure\n" in report
    assert "replayed on stock" not in pytester.runpytest().stdout.str()


@pytest.mark.parametrize(("option", "marker"), [("--sim-cancel", ""), ("--sim", "@pytest.mark.simloop(cancel=True)")])
@pytest.mark.usefixtures("confirming")
def test_every_task_of_the_test_may_be_cancelled(pytester: pytest.Pytester, option: str, marker: str) -> None:
    pytester.makepyfile(
        f"""
        import asyncio, pytest
        {marker}
        async def test_it():
            task = asyncio.create_task(asyncio.sleep(1), name="nap")
            await asyncio.wait([task])
            assert not task.cancelled()
        """
    )
    result = pytester.runpytest("--sim", option)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*task 'nap'* was cancelled from*", "in a fresh process it fails*"])
    assert ("--sim-cancel" in result.stdout.str()) == (option == "--sim-cancel")


COUNTER = """
    import asyncio, pytest
    {marker}
    async def test_it():
        counter = 0
        def count():
            nonlocal counter
            n = counter
            counter = n + 1
        await asyncio.gather(*(asyncio.to_thread(count) for _ in range(2)))
        assert counter == 2
"""


@pytest.mark.parametrize("given", ["option", "marker", "key"])
@pytest.mark.usefixtures("confirming")
def test_threads_are_preempted_between_lines_where_asked(pytester: pytest.Pytester, given: str) -> None:
    options = ["--sim", *(["--sim-preempt=lines"] if given == "option" else [])]
    marker = "@pytest.mark.simloop(preempt='lines')" if given == "marker" else ""
    pytester.makepyfile(test_it=COUNTER.format(marker=marker))
    if given == "key":
        pytester.makeini("[pytest]\nsim_preempt = lines")
    result = pytester.runpytest(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "  the thread of count() (test_it.py:5) let others go first for 1 ms before line test_it.py:8,",
            "  `counter = n + 1`",
            "can happen on stock asyncio where threads switch between any two lines*",
            "in a fresh process it fails in the same way",
        ]
    )
    command = result.stdout.str().partition("replay it:")[2].replace("\\\n", "").splitlines()[1].split()
    assert ("--sim-preempt=lines" in command) == (given == "option")
    pytester.runpytest(*command[1:]).assert_outcomes(failed=1)
    # The command line overrides the marker and the key; what was found with lines is kept for later.
    pytester.runpytest("--sim", "--sim-preempt=calls").assert_outcomes(passed=1)
    result = pytester.runpytest("--sim", "--sim-preempt=lines", "--sim-no-confirm")
    result.stdout.fnmatch_lines(["*failed in run 1 *saved failure*"])


@pytest.mark.parametrize("pinned", [True, False])
def test_a_token_from_lines_needs_no_option(pytester: pytest.Pytester, pinned: bool) -> None:
    pytester.makepyfile(test_it=COUNTER.format(marker=""))
    result = pytester.runpytest("--sim", "--sim-preempt=lines", "--sim-no-confirm")
    found = re.search(r"--sim-replay=(\S+)", result.stdout.str())
    assert found is not None
    if pinned:
        pytester.makepyfile(test_it=COUNTER.format(marker=f"import simloop\n    @simloop.replay('{found[1]}')"))
        pytester.runpytest("--sim-no-confirm").assert_outcomes(failed=1)
    else:
        pytester.runpytest(found[0]).assert_outcomes(failed=1)


BLOCKS = """
    import asyncio, pytest, time
    {marker}
    async def test_it():
        await asyncio.sleep(1)
        time.sleep(0.25)
"""


@pytest.mark.usefixtures("confirming")
def test_a_warning_that_is_an_error_is_one_in_the_replay(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import warnings
        async def test_it():
            warnings.warn("old", DeprecationWarning)
        """
    )
    result = pytester.runpytest("--sim", "-Werror::DeprecationWarning")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*-Werror::DeprecationWarning*", "in a fresh process it fails in the same way"])


@pytest.mark.parametrize(
    ("option", "marker"), [("--sim-blocking=fail", ""), ("--sim", "@pytest.mark.simloop(blocking='fail')")]
)
@pytest.mark.usefixtures("confirming")
def test_a_call_that_blocks_fails_where_it_shall(pytester: pytest.Pytester, option: str, marker: str) -> None:
    pytester.makepyfile(BLOCKS.format(marker=marker))
    result = pytester.runpytest("--sim", option)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*BlockingCallError: *.py:5: a blocking call stopped the loop of localhost for 0.25 s*",
            "in a fresh process it*",
        ]
    )
    assert ("--sim-blocking=fail" in result.stdout.str()) == (option == "--sim-blocking=fail")
    # The command line overrides the marker.
    pytester.runpytest("--sim", "--sim-blocking=ignore").assert_outcomes(passed=1)


def test_programs_that_must_be_started(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.simloop(strict_programs=True)
        async def test_it(sim):
            sim.program("git", "push")
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*UncalledProgramError: nobody has started the program 'git push' (registered at *.py:4)"]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sim-shrink-runs=0"], "it must be at least 1, not 0: say --sim-no-shrink"),
        (["--sim-shrink-runs=x"], "'x' is not a whole number"),
        (["--sim-time=0s"], "time must be more than 0, with its unit, such as 60s, 5m or 2h, not '0s'"),
        (["--sim-time=60"], "time must be more than 0, with its unit"),
        (["--sim-time=5s", "--sim-runs=7"], "--sim-time and --sim-runs are two budgets for the same"),
        (["--sim-replay=0", "--sim-time=5s"], "and --sim-time means nothing"),
        (["--sim-replay=0", "--sim-strategy=dense-walk"], "and --sim-strategy means nothing"),
        (["--sim-strategy="], "unknown strategy '': use some of cancel-sweep, "),
        (["--sim-strategy=dense-walk,dens-walk"], "unknown strategy 'dens-walk': use some of cancel-sweep, "),
        (["--sim-seed=rnd"], "'rnd' is not a whole number, or random"),
        (["--sim-seed=1.5"], "'1.5' is not a whole number, or random"),
        (["--sim-replay=0", "--sim-seed=random"], "and --sim-seed means nothing"),
        (["--sim-blocking=perhaps"], "blocking must be one of ignore, warn, fail, not 'perhaps'"),
        (["--sim-preempt=words"], "preempt must be one of calls, lines, not 'words'"),
        (["--sim-no-shrink", "--sim-shrink-runs=5"], "contradict each other"),
        (["--sim-replay=0", "--sim-runs=5"], "--sim-replay runs one schedule, and --sim-runs means nothing to it"),
        (["--sim-replay=0", "--sim-seed", "5"], "and --sim-seed means nothing"),
        (["--sim-replay=0", "--sim-no-shrink"], "and --sim-no-shrink means nothing"),
        (["--sim-replay=sl1:AAAAAAcAALcm", "--sim-profile=cpython"], "and --sim-profile means nothing"),
    ],
)
def test_options_that_would_be_ignored_are_refused(pytester: pytest.Pytester, arguments: list[str], words: str) -> None:
    pytester.makepyfile("async def test_fine(): pass")
    result = pytester.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


def test_what_an_ini_file_sets_is_only_a_default(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = --sim-runs=20 --sim-shrink-runs=5 --sim-profile=portable")
    pytester.makepyfile("async def test_fine(): pass")
    pytester.runpytest("--sim-replay=0").assert_outcomes(passed=1)
    pytester.runpytest("--sim", "--sim-no-shrink").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "words"),
    [("shrink_runs=-1", "shrink_runs must be a whole number"), ("cancel=1", "cancel must be True or False")],
)
def test_markers_that_mean_nothing(pytester: pytest.Pytester, marker: str, words: str) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.simloop({marker})\nasync def test_it(): pass")
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    assert words in result.stdout.str()


def test_cancel_declares_what_a_method_of_a_test_case_creates(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio, unittest
        class TestIt(unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                self.beside = asyncio.create_task(asyncio.sleep(5))
                self.addAsyncCleanup(asyncio.wait, [self.beside])
            async def test_it(self):
                task = asyncio.create_task(asyncio.sleep(1))
                await asyncio.wait([task])
                assert not self.beside.cancelled()
                assert not task.cancelled()
        """
    )
    pytester.runpytest("--sim").assert_outcomes(passed=1)
    result = pytester.runpytest("--sim", "--sim-cancel")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert not task.cancelled()", "*from outside*"])


def test_a_campaign_may_have_a_time_instead_of_a_number_of_runs(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = itertools.count()
    monkeypatch.setattr(campaign, "_monotonic", lambda: next(looks))
    pytester.makepyfile(test_it=MANY.replace("MARKER", ""))
    found = [runs(pytester.runpytest("--sim", f"--sim-time={time}", "-v")) for time in ("0.5s", "10s", "30s")]
    assert found[0] == 1 < found[1] < found[2] < 100
    pytester.makepyfile(test_it=MANY.replace("MARKER", "@pytest.mark.simloop(time='10s')"))
    assert runs(pytester.runpytest("-v")) == found[1]
    assert runs(pytester.runpytest("-v", "--sim-runs=4")) == 4


def test_a_campaign_may_be_left_to_some_strategies(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(DRAWN)
    options = ["--sim", "--sim-cancel", "--sim-no-confirm"]
    result = pytester.runpytest(*options, "--sim-strategy=dense-walk")
    result.stdout.fnmatch_lines(["failed in run * of 100 (dense walk; *"])
    pytester.runpytest("--sim", "--sim-strategy=crash-sweep,line-sweep", "-v").stdout.fnmatch_lines(["*PASSED (1 run*"])


def test_conditions_that_no_run_has_met_are_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import asyncio
        async def test_it(sim):
            sim.sometimes("there is an answer", True)
            sim.sometimes("it has to be asked for again", sim.elapsed > 1)
            await asyncio.gather(*(asyncio.to_thread(int) for _ in range(2)))
        """
    )
    result = pytester.runpytest("--sim", "-v", "--sim-runs=5")
    result.stdout.fnmatch_lines(["*PASSED (5 runs, * distinct; never met: it has to be asked for again)*"])


def test_what_is_said_of_how_sure_a_campaign_is(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=MANY.replace("MARKER", ""))
    result = pytester.runpytest("--sim", "-v")
    result.stdout.re_match_lines(
        [r".*::test_many PASSED \(100 runs, \d+ distinct; \d+ of the last 10 new, \d+% unseen(; .*)?\).*"]
    )
    pytester.makepyfile(
        test_it="""
        import asyncio
        async def test_it():
            async def work():
                for _ in range(5):
                    await asyncio.to_thread(int)
            await asyncio.wait([asyncio.create_task(work()) for _ in range(5)])
        """
    )
    # Nothing else than tasks that are cancelled.
    result = pytester.runpytest("--sim", "-v", "--sim-cancel", "--sim-strategy=cancel-sweep", "--sim-runs=60")
    result.stdout.re_match_lines(
        [r".*PASSED \(60 runs, .*% unseen; \d+ points never deviated at; never raced: .*, .*, .* and \d+ more\).*"]
    )


DRAWN = """
    import asyncio
    async def test_it():
        async def work():
            await asyncio.sleep(0.01)
        tasks = [asyncio.create_task(work()) for _ in range(30)]
        await asyncio.wait(tasks)
        assert not any(task.cancelled() for task in tasks)
"""


def drawn(result: pytest.RunResult) -> tuple[int, str]:
    """The seed that the header says was drawn, and the token of the failure."""
    text = result.stdout.str()
    (seed,) = re.findall(r"^simloop: drawn seed, explore from it again with --sim-seed=(\d+)$", text, re.MULTILINE)
    (token,) = set(re.findall(r"--sim-replay=(sl1:\S+)", text))
    return int(seed), token


def test_a_random_seed_is_drawn_and_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(DRAWN)
    options = ["--sim-cancel", "--sim-no-shrink", "--sim-no-confirm"]

    def run(*more: str) -> pytest.RunResult:
        shutil.rmtree(pytester.path / ".simloop", ignore_errors=True)
        return pytester.runpytest("--sim", *options, *more)

    found = [drawn(run("--sim-seed=random")) for _ in range(2)]
    assert found[0] != found[1]
    seed, token = found[0]
    assert decode(token).seed == seed
    pytester.makeini("[pytest]\nsim_seed = random")
    assert drawn(run())[0] not in (seed, found[1][0])
    again = run(f"--sim-seed={seed}").stdout.str()
    assert "drawn seed" not in again
    assert token in again


@pytest.mark.parametrize("where", ["option", "file"])
def test_the_workers_of_xdist_share_a_drawn_seed(pytester: pytest.Pytester, where: str) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    if where == "file":
        pytester.makeini("[pytest]\nsim_seed = random")
    pytester.makepyfile(test_one=DRAWN, test_two=DRAWN)
    options = ["--sim", "--sim-cancel", "--sim-no-shrink", "--sim-no-confirm", "-n2"]
    text = pytester.runpytest_subprocess(*options, *["--sim-seed=random"] * (where == "option")).stdout.str()
    (seed,) = re.findall(r"^simloop: drawn seed, explore from it again with --sim-seed=(\d+)$", text, re.MULTILINE)
    tokens = set(re.findall(r"--sim-replay=(sl1:\S+)", text))
    assert len(tokens) == 2
    assert {decode(token).seed for token in tokens} == {int(seed)}


def runs(result: pytest.RunResult) -> int:
    found = re.search(r"PASSED \((\d+) runs?", result.stdout.str())
    assert found is not None
    return int(found[1])


MANY = """
    import asyncio, pytest
    MARKER
    async def test_many():
        for _ in range(20):
            await asyncio.to_thread(lambda: None)
"""


def test_the_command_line_overrides_the_marker_and_that_the_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nsim = true\nsim_runs = 6\n")
    pytester.makepyfile(test_it=MANY.replace("MARKER", ""))
    assert runs(pytester.runpytest("-v")) == 6
    assert runs(pytester.runpytest("-v", "-o", "sim_runs=5")) == 5
    pytester.makepyfile(test_it=MANY.replace("MARKER", "@pytest.mark.simloop(runs=7)"))
    assert runs(pytester.runpytest("-v")) == 7
    assert runs(pytester.runpytest("-v", "--sim-runs=8")) == 8


@pytest.mark.parametrize("table", ["tool.pytest.ini_options", "tool.pytest"])
def test_keys_in_pyproject(pytester: pytest.Pytester, table: str) -> None:
    if table == "tool.pytest" and pytest.version_tuple < (9,):
        pytest.skip("pytest 9 brought that table")
    pytester.makepyprojecttoml(f"[{table}]\nsim = true\nsim_runs = 6\nsim_max_time = 5\nsim_profile = 'portable'")
    pytester.makepyfile(test_it=MANY.replace("MARKER", ""))
    assert runs(pytester.runpytest("-v")) == 6


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_refused_in_one_line_that_names_its_key(pytester: pytest.Pytester, setting: Any) -> None:
    pytester.makepyfile("async def test_fine(): pass")
    wrong = {int: ["x", "1.5", "-1"], float: ["x", "-1"], bool: ["perhaps"], str: ["perhaps"]}[setting.kind]
    for value in [*wrong, ""]:
        result = pytester.runpytest("-o", f"{setting.key}={value}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR, value
        lines = result.stderr.lines
        assert [line for line in lines if line] == [next(line for line in lines if f"{setting.key} in " in line)]
        assert "Traceback" not in result.stdout.str()
    if setting.kind is not bool:
        result = pytester.runpytest(f"{setting.option}={wrong[0]}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("value", ["[1]", "true", "'x'", "1.5"])
@pytest.mark.parametrize("table", ["tool.pytest.ini_options", "tool.pytest"])
def test_values_of_another_type(pytester: pytest.Pytester, table: str, value: str) -> None:
    if table == "tool.pytest" and pytest.version_tuple < (9,):
        pytest.skip("pytest 9 brought that table")
    pytester.makepyprojecttoml(f"[{table}]\nsim_runs = {value}")
    pytester.makepyfile("async def test_fine(): pass")
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: sim_runs in pyproject.toml: it must be a whole number, not *"])


def test_the_table_has_every_limit() -> None:
    assert set(Limits._fields) <= set(KEYWORDS)


def test_what_a_replay_depends_on_is_repeated(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("async def test_it(): assert 0")
    options = ["--sim-max-steps=500", "--sim-threads", "--sim-blocking=fail", "--sim-max-time=9.5"]
    result = pytester.runpytest("--sim", "--sim-no-confirm", "--sim-runs=2", *options)
    command = result.stdout.str().partition("replay it:")[2].replace("\\\n", "").splitlines()[1]
    assert set(options) == {word for word in command.split() if word.startswith("--sim") and "replay" not in word}


def test_jobs_share_the_processors_with_workers_of_xdist(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_simloop.settings import settings_of

    pytester.makeini("[pytest]\nsim = true\nsim_jobs = 64")
    item = pytester.getitem("async def test_func(): ...")
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    assert settings_of(item, "it").jobs == 64
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(len(os.sched_getaffinity(0))))
    assert settings_of(item, "it").jobs == 1


def test_jobs_find_the_same(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=RACE.replace("LOST", "1").replace("MARKER", ""))
    tokens = set()
    for number in ("1", "2", "auto"):
        found = pytester.runpytest(f"--sim-jobs={number}", "--sim-no-confirm", "-p", "no:cacheprovider").stdout.str()
        tokens.add((found.partition("failed in run ")[2].split()[0], found.partition("--sim-replay=")[2].split()[0]))
        shutil.rmtree(pytester.path / ".simloop")
    assert len(tokens) == 1
    for wrong in ("0", "two"):
        refused = pytester.runpytest(f"--sim-jobs={wrong}")
        refused.stderr.fnmatch_lines(
            [f"*--sim-jobs: *jobs must be a whole number of at least 1, or auto, not *{wrong}*"]
        )
