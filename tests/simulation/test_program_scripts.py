"""What a program that is played without a function of its own prints, and how often it is there."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import pytest

import simloop


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        (b"\x00\xff", b"\x00\xff"),
        ("größe\n", "größe\n".encode()),
        (["one", b"two"], b"one\ntwo\n"),
        ([], b""),
    ],
)
def test_what_is_printed(given: Any, printed: bytes) -> None:
    async def main() -> tuple[bytes, bytes]:
        simloop.current().program("tool", stdout=given, stderr=given)
        process = await asyncio.create_subprocess_exec(
            "tool", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        return await process.communicate()

    assert simloop.run(main) == (printed, printed)


def test_a_program_that_is_there_so_many_times() -> None:
    async def main() -> tuple[list[int], int]:
        sim = simloop.current()
        sim.program("git", "push")
        failing = sim.program("git", "push", returncode=1, times=2)
        codes = [subprocess.call(["git", "push"]) for _ in range(3)]
        return codes, len(failing.calls)

    assert simloop.run(main, blocking="ignore") == ([1, 1, 0], 2)


def test_after_its_times_it_is_not_there() -> None:
    async def main() -> None:
        simloop.current().program("git", times=1)
        subprocess.check_call(["git"])
        with pytest.raises(FileNotFoundError):
            subprocess.check_call(["git"])

    simloop.run(main, blocking="ignore")


def test_a_timeout_of_subprocess_is_virtual() -> None:
    async def main() -> tuple[float, int]:
        sim = simloop.current()
        sim.program("slow", takes=3600)
        child = subprocess.Popen(["slow"])
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(60)
        child.kill()
        return round(sim.elapsed), child.wait()

    assert simloop.run(main, blocking="ignore") == (60, -9)
