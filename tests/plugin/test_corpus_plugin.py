"""With `--sim-corpus` sessions go on from where the one before has ended, and without it nothing changes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

THREADS = """
    import asyncio, pytest
    @pytest.mark.simloop(MARKER)
    async def test_threads():
        order = []
        await asyncio.gather(*(asyncio.to_thread(order.append, name) for name in "abcdefgh"))
        assert LAST != order[-1]
"""
PASSES = THREADS.replace("MARKER", "").replace("LAST", "None")


def files(pytester: pytest.Pytester) -> list[Path]:
    return sorted(pytester.path.glob(".simloop/corpus/*.json"))


def counts(result: pytest.RunResult) -> tuple[int, int]:
    """Return how many distinct runs a session says there were, and how many of them new."""
    found = re.search(r"60 runs, (\d+) distinct, (\d+) of them new", result.stdout.str())
    assert found is not None, result.stdout.str()
    return int(found[1]), int(found[2])


def session(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest("--sim", "-v", "--sim-runs=60", *options)


@pytest.mark.parametrize("way", ["option", "ini", "marker"])
def test_the_second_session_goes_on(pytester: pytest.Pytester, way: str) -> None:
    pytester.makepyfile(PASSES if way != "marker" else PASSES.replace("simloop()", "simloop(corpus=True)"))
    pytester.makeini(f"[pytest]\nsim_corpus = {'yes' if way == 'ini' else 'no'}\n")
    options = ["--sim-corpus"] if way == "option" else []
    distinct, new = counts(session(pytester, *options))
    assert distinct == new
    (path,) = files(pytester)
    kept = json.loads(path.read_text())
    distinct, new = counts(session(pytester, *options))
    assert 0 < new < distinct
    assert files(pytester) == [path]
    assert json.loads(path.read_text())["campaigns"] == kept["campaigns"] + 1 == 2


def test_without_it_a_session_is_the_same_whatever_was_kept(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(THREADS.replace("MARKER", "").replace("LAST", "'d'"))

    def found() -> tuple[str, str]:
        (path,) = pytester.path.glob(".simloop/*.json")
        (failure,) = json.loads(path.read_text())["failures"]
        path.unlink()
        return failure["token"], failure["found"]

    session(pytester).assert_outcomes(failed=1)
    first = found()
    assert not (pytester.path / ".simloop" / "corpus").exists()
    for _ in range(2):
        session(pytester, "--sim-corpus").assert_outcomes(failed=1)
        found()
    (path,) = files(pytester)
    before = path.read_text()
    session(pytester).assert_outcomes(failed=1)
    assert found() == first
    assert path.read_text() == before


def test_other_profiles_have_a_corpus_of_their_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSES)
    for options in ([], ["--sim-profile=hostile"], ["--sim-cancel"]):
        distinct, new = counts(session(pytester, "--sim-corpus", *options))
        assert distinct == new
    assert len(files(pytester)) == 3


def test_the_commands_for_failures_do_not_mind_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PASSES)
    session(pytester, "--sim-corpus")
    result = pytester.run(sys.executable, "-m", "simloop", "list")
    assert result.ret == 0
    assert "corpus" not in result.stdout.str()


@pytest.mark.parametrize("strict", [False, True])
def test_no_file_hides_a_failure(pytester: pytest.Pytester, strict: bool) -> None:
    pytester.makepyfile(THREADS.replace("MARKER", "").replace("LAST", "'d'"))
    session(pytester, "--sim-corpus").assert_outcomes(failed=1)
    (path,) = files(pytester)
    if strict:
        path.parent.rename(pytester.path / "aside")
        path.parent.symlink_to("/proc/simloop")
        next(pytester.path.glob(".simloop/*.json")).unlink()
    else:
        path.write_text("{")
    warn = ["-Werror::simloop.StoreWarning"] if strict else []
    result = pytester.runpytest_subprocess("--sim", "-v", "--sim-corpus", "-p", "no:cacheprovider", *warn)
    result.stdout.fnmatch_lines(["E *AssertionError*", "failed in run * of 100 (*"])
    result.assert_outcomes(failed=1, warnings=0 if strict else 1)
    if strict:
        result.stdout.fnmatch_lines(["E *simloop cannot write in *: *; schedules are not kept"])
    else:
        result.stdout.fnmatch_lines(["*CorruptStoreWarning: simloop cannot read *.json.corrupt"])


def test_workers_have_a_corpus_for_each_test(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="the tests run in several processes")
    pytester.makepyfile(
        """
        import asyncio, pytest
        @pytest.mark.parametrize("n", range(4))
        async def test_threads(n):
            await asyncio.gather(*(asyncio.to_thread(str, n) for _ in range(8)))
        """
    )
    for session in (1, 2):
        result = pytester.runpytest_subprocess("--sim", "-n2", "-p", "no:asyncio", "--sim-runs=40", "--sim-corpus")
        result.assert_outcomes(passed=4)
        found: list[Any] = [json.loads(path.read_text()) for path in files(pytester)]
        assert [corpus["campaigns"] for corpus in found] == [session] * 4


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--sim-replay=1"], "--sim-replay runs one schedule, and --sim-corpus means nothing to it"),
        (["--sim-strategy=dense-walk"], "*a corpus is for the strategy mutation: choose that, too, or no corpus"),
    ],
)
def test_options_that_would_be_ignored_are_refused(pytester: pytest.Pytester, options: list[str], problem: str) -> None:
    pytester.makepyfile(PASSES)
    result = pytester.runpytest("--sim-corpus", "--sim", *options)
    assert result.ret != 0
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    (result.stderr if "--sim-replay=1" in options else result.stdout).fnmatch_lines([f"*{problem}"])
    assert not (pytester.path / ".simloop").exists()
