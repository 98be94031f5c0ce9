"""Failures are kept in `.simloop/`, tried first, and forgotten when they are mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RACE = """
    import asyncio
    async def test_counter(sim):
        done = []
        async def work():
            await asyncio.sleep(1)
            done.append(1)
        task = asyncio.create_task(work())
        sim.may_cancel(task)
        await asyncio.wait([task])
        assert done
"""
MENDED = RACE.replace("assert done", "assert done or task.cancelled()")


def files(pytester: pytest.Pytester) -> list[Path]:
    return sorted(pytester.path.glob(".simloop/*.json"))


def content(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_failure_is_kept_tried_first_and_dropped_when_it_is_mended(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(test_race=RACE)
    first = pytester.runpytest("--sim")
    first.assert_outcomes(failed=1)
    (path,) = files(pytester)
    (failure,) = content(path)["failures"]
    assert failure["error"] == "AssertionError"
    assert failure["token"] in first.stdout.str().replace("\n", "")
    first.stdout.fnmatch_lines([f"saved in .simloop/{path.name}:*"])

    again = pytester.runpytest("--sim")
    again.stdout.fnmatch_lines(["failed in run 1 of 100 (saved failure;*", f"saved in .simloop/{path.name}:*"])
    assert [entry["token"] for entry in content(path)["failures"]] == [failure["token"]]

    test.write_text(test.read_text().replace("assert done", "assert done or task.cancelled()"))
    pytester.runpytest("--sim").assert_outcomes(passed=1)
    assert files(pytester) == []


def test_another_failure_keeps_the_saved_one(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(test_race=RACE)
    pytester.runpytest("--sim")
    old = content(files(pytester)[0])["failures"]
    test.write_text(test.read_text().replace("assert done", "assert False"))
    pytester.runpytest("--sim").assert_outcomes(failed=1)
    new, *rest = content(files(pytester)[0])["failures"]
    assert rest == old
    assert new["found"] == "saved failure"
    assert new["token"] != old[0]["token"]


def test_tests_that_pass_leave_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MENDED)
    pytester.runpytest("--sim").assert_outcomes(passed=1)
    assert not Path(pytester.path, ".simloop").exists()


def test_replaying_neither_writes_nor_drops(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(test_race=RACE)
    pytester.runpytest("--sim")
    (path,) = files(pytester)
    token = content(path)["failures"][0]["token"]
    path.rename(aside := pytester.path / "aside")
    pytester.runpytest(f"--sim-replay={token}").assert_outcomes(failed=1)
    assert files(pytester) == []
    aside.rename(path)
    test.write_text(test.read_text().replace("assert done", "pass"))
    pytester.runpytest(f"--sim-replay={token}").assert_outcomes(passed=1)
    assert files(pytester) == [path]


def test_what_was_found_with_other_options_is_kept_for_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        async def test_counter():
            async def work():
                await asyncio.sleep(1)
            task = asyncio.create_task(work())
            await asyncio.wait([task])
            assert not task.cancelled()
        """
    )
    pytester.runpytest("--sim", "--sim-cancel").assert_outcomes(failed=1)
    (path,) = files(pytester)
    assert content(path)["failures"][0]["cancel"] is True
    pytester.runpytest("--sim").assert_outcomes(passed=1)
    pytester.runpytest("--sim", "--sim-cancel", "--sim-profile=portable").assert_outcomes(failed=1)
    assert len(content(path)["failures"]) == 2
    again = pytester.runpytest("--sim", "--sim-cancel")
    again.stdout.fnmatch_lines(["failed in run 1 of 100 (saved failure;*"])


def test_a_corrupt_file_is_a_warning(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_race=RACE)
    pytester.runpytest("--sim")
    (path,) = files(pytester)
    path.write_text('{"version": 1, "failures": [')
    result = pytester.runpytest_subprocess("--sim")
    result.assert_outcomes(failed=1, warnings=1)
    result.stdout.fnmatch_lines(["*CorruptStoreWarning: simloop cannot read *.json.corrupt"])
    assert path.with_name(path.name + ".corrupt").read_text() == '{"version": 1, "failures": ['
    assert len(content(path)["failures"]) == 1


@pytest.mark.parametrize("strict", [[], ["-Werror::simloop.StoreWarning"]])
def test_a_place_that_cannot_be_written_hides_no_failure(pytester: pytest.Pytester, strict: list[str]) -> None:
    pytester.makepyfile(test_race=RACE, test_other=RACE)
    Path(pytester.path, ".simloop").symlink_to("/proc/simloop")
    result = pytester.runpytest_subprocess("--sim", "-p", "no:cacheprovider", *strict)
    result.assert_outcomes(failed=2, warnings=0 if strict else 1)
    result.stdout.fnmatch_lines(["E       assert []*", "test_other.py:10: AssertionError"])
    text = result.stdout.str()
    assert text.count("simloop cannot write") == 1
    assert "saved in" not in text


def test_the_store_is_in_the_root_directory(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeini("[pytest]")
    folder = pytester.mkdir("tests")
    pytester.makepyfile(**{"tests/test_race": RACE})
    monkeypatch.chdir(folder)
    result = pytester.runpytest("--sim", "--rootdir", str(pytester.path))
    (path,) = files(pytester)
    assert path.name.startswith("tests-test_race.py-test_counter-")
    assert f"saved in {path}" in result.stdout.str().replace("\n", "")


def test_workers_share_the_store(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="the tests run in several processes")
    pytester.makepyfile(
        """
        import asyncio, pytest
        @pytest.mark.parametrize("n", range(6))
        async def test_counter(sim, n):
            task = asyncio.create_task(asyncio.sleep(1))
            sim.may_cancel(task)
            await asyncio.wait([task])
            assert not task.cancelled()
        """
    )
    for _ in range(2):
        pytester.runpytest_subprocess("--sim", "-n2", "-p", "no:asyncio").assert_outcomes(failed=6)
        assert [len(content(path)["failures"]) for path in files(pytester)] == [1] * 6
