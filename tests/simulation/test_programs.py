"""What a run says of the programs that its test plays: never started, still running, never waited for."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import simloop
from simloop.loop import process_runner
from simloop.loop.loop import SimLoop


def test_programs_that_are_never_started() -> None:
    async def main() -> None:
        sim = simloop.current()
        sim.program("git", "push", "*")
        sim.program("git", "pull")
        await (await asyncio.create_subprocess_exec("git", "pull")).wait()

    simloop.run(main)
    with pytest.raises(simloop.UncalledProgramError, match=r"the program 'git push \*' \(registered at .*:\d+\)$"):
        simloop.run(main, strict_programs=True)


def test_a_failing_run_fails_as_it_does() -> None:
    async def main() -> None:
        simloop.current().program("git")
        raise KeyError

    with pytest.raises(KeyError):
        simloop.run(main, strict_programs=True)


def test_a_zombie_is_told_at_the_end_of_the_run() -> None:
    kept: list[subprocess.Popen[bytes]] = []

    async def main() -> None:
        simloop.current().program("true")
        kept.append(subprocess.Popen(["true"]))
        await asyncio.sleep(1)

    with pytest.warns(
        ResourceWarning, match=r"child localhost:true \(pid \d+\), started at .*:\d+, has ended, and is a"
    ):
        simloop.run(main)


def test_a_child_that_still_runs_is_told_at_the_end_of_the_run() -> None:
    kept: list[subprocess.Popen[bytes]] = []

    async def main() -> None:
        simloop.current().program("sleep", takes=100)
        kept.append(subprocess.Popen(["sleep"]))
        await asyncio.sleep(1)
        assert kept[0].poll() is None

    with pytest.warns(ResourceWarning, match=r"child localhost:sleep .* is still running"):
        simloop.run(main)


def test_a_child_of_an_earlier_run_is_nobody_in_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        simloop.current().program("tool", takes=1, returncode=3)
        child = subprocess.Popen(["tool"])  # which looks after those that were left before
        if left:
            return child.wait()
        left.append(child)
        return -1

    left: list[subprocess.Popen[bytes]] = []
    with pytest.warns(ResourceWarning, match="is still running"):
        simloop.run(main)
    first = left[0].pid
    subprocess._active.append(left[0])  # type: ignore[attr-defined]  # as its __del__ does
    assert simloop.run(main, blocking="ignore") == 3
    assert left[0].pid == first
    assert left[0] not in subprocess._active  # type: ignore[attr-defined]
    assert caplog.text == ""


def test_whoever_is_waited_for_is_not_told() -> None:
    async def main() -> None:
        simloop.current().program("true")
        subprocess.run(["true"], check=True)
        await (await asyncio.create_subprocess_exec("true")).wait()

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        simloop.run(main, blocking="ignore")


def test_a_program_may_be_a_plain_function() -> None:
    async def main() -> list[int]:
        @simloop.current().program("count")
        def count(proc: simloop.SimProcess) -> int | None:
            with open("/count", "a+") as file:
                file.write(proc.argv[1])
            time.sleep(1)
            return len(proc.argv) - 2 or None

        began = time.monotonic()
        codes = [await (await asyncio.create_subprocess_exec("count", *words)).wait() for words in ("a", "bc")]
        assert 2 <= time.monotonic() - began < 3
        with open("/count") as file:
            assert file.read() == "ab"
        return codes

    assert simloop.run(main) == [0, 1]


def test_a_program_that_fails_prints_its_own_traceback() -> None:
    async def main() -> bytes:
        @simloop.current().program("broken")
        def broken(proc: simloop.SimProcess) -> None:
            raise ValueError("no")

        child = await asyncio.create_subprocess_exec("broken", stderr=-1)
        return (await child.communicate())[1]

    lines = simloop.run(main).decode().splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith("in broken")
    assert lines[-1] == "ValueError: no"


def test_a_program_that_writes_has_nothing_left_to_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if it is over in the turn in which it opened its output: the turns of shutting down would be a third of
    all turns of a short program."""
    shut_down: list[object] = []
    stages = process_runner.shutdown_stages

    def noted(loop: SimLoop, context: contextvars.Context | None = None) -> Iterator[asyncio.Future[Any]]:
        shut_down.append(loop.process.name)
        return stages(loop, context)

    monkeypatch.setattr(process_runner, "shutdown_stages", noted)

    async def main() -> bytes:
        sim = simloop.current()

        @sim.program("hello")
        async def hello(proc: simloop.SimProcess) -> None:
            proc.stdout.write(b"hello")

        sim.program("warn", stderr=b"careful")
        await (await asyncio.create_subprocess_exec("warn", stderr=subprocess.PIPE)).communicate()
        return (await (await asyncio.create_subprocess_exec("hello", stdout=subprocess.PIPE)).communicate())[0]

    assert [simloop.run(main, seed=seed) for seed in range(30)] == [b"hello"] * 30
    assert not shut_down
