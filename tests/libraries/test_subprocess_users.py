"""Libraries that start programs: anyio's process API, and python-ffmpeg on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from typing import Any

import pytest

pytest.importorskip("anyio", reason="anyio is not installed: pip install pytest-simloop[libraries]")
pytest.importorskip("ffmpeg", reason="python-ffmpeg is not installed: pip install pytest-simloop[libraries]")

import anyio
from anyio.streams.text import TextReceiveStream
from ffmpeg import FFmpegError, Progress
from ffmpeg.asyncio import FFmpeg
from harness import check, digests_elsewhere

import simloop


def play_sort() -> None:
    @simloop.current().program("sort")
    async def sort(proc: simloop.SimProcess) -> int:
        lines = (await proc.stdin.read()).splitlines(keepends=True)
        await asyncio.sleep(0.01 * len(lines))
        proc.stdout.writelines(sorted(lines, reverse="-r" in proc.argv))
        if not lines:
            proc.stderr.write(b"sort: nothing to do\n")
        return 0 if lines else 2


async def run_processes() -> list[Any]:
    """Several at once, of which one fails."""
    play_sort()
    found: list[Any] = []

    async def one(name: str, data: bytes, *options: str) -> None:
        try:
            done = await anyio.run_process(["sort", *options], input=data)
            found.append((name, done.returncode, done.stdout))
        except subprocess.CalledProcessError as error:
            found.append((name, error.returncode, error.stderr))

    async with anyio.create_task_group() as group:
        group.start_soon(one, "up", b"b\na\nc\n")
        group.start_soon(one, "down", b"b\na\nc\n", "-r")
        group.start_soon(one, "empty", b"")
    return sorted(found)


def test_anyio_run_process() -> None:
    check(
        run_processes,
        [("down", 0, b"c\nb\na\n"), ("empty", 2, b"sort: nothing to do\n"), ("up", 0, b"a\nb\nc\n")],
    )


async def talk() -> tuple[list[str], int]:
    """A conversation, line by line, with a program that is told to end."""

    @simloop.current().program("bc")
    async def bc(proc: simloop.SimProcess) -> None:
        while line := await proc.stdin.readline():
            left, _, right = line.decode().strip().partition("+")
            proc.stdout.write(f"{int(left) + int(right)}\n".encode())
            await proc.stdout.drain()

    answers = []
    async with await anyio.open_process(["bc"]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        output = TextReceiveStream(process.stdout)
        for question in ("1+1", "20+22"):
            await process.stdin.send(f"{question}\n".encode())
            answer = ""
            while not answer.endswith("\n"):
                answer += await output.receive()
            answers.append(answer.strip())
        process.send_signal(signal.SIGTERM)
        code = await process.wait()
    return answers, code


def test_anyio_open_process() -> None:
    check(talk, (["2", "42"], -signal.SIGTERM))


def test_anyio_kills_what_is_cancelled() -> None:
    async def main() -> tuple[bool, bool]:
        simloop.current().program("sleep", takes=1000)
        with anyio.move_on_after(5) as scope:
            await anyio.run_process(["sleep", "1000"])
        return scope.cancelled_caught, simloop.current().elapsed < 6

    check(main, (True, True))


def play_ffmpeg(frames: int, code: int = 0) -> None:
    @simloop.current().program("ffmpeg", "-i")
    async def ffmpeg(proc: simloop.SimProcess) -> int:
        asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
        for frame in range(1, frames + 1):
            await asyncio.wait([asyncio.ensure_future(asked.wait())], timeout=1)
            if asked.is_set():
                return 255  # as the real one does when it was told to stop
            said = f"frame={frame:5} fps=1.0 q=28.0 size=      64kB time=00:00:{frame:02}.00 bitrate=  64.0kbits/s"
            proc.stderr.write(f"{said} speed=   1x\r".encode())
            proc.stdout.write(b"x" * 1000)
            await proc.stdout.drain()
        proc.stderr.write(b"out.mp4: Invalid argument\n" if code else b"done\n")
        return code


async def convert() -> tuple[int, list[int]]:
    """What is transcoded, and how far it was at each report."""
    play_ffmpeg(3)
    seen: list[int] = []
    ffmpeg = FFmpeg().input("in.mp4").output("pipe:1", vcodec="copy")

    @ffmpeg.on("progress")
    def on_progress(progress: Progress) -> None:
        seen.append(progress.frame)

    return len(await ffmpeg.execute()), seen


def test_ffmpeg() -> None:
    check(convert, (3000, [1, 2, 3]))


def test_ffmpeg_that_fails() -> None:
    async def main() -> str:
        play_ffmpeg(1, code=1)
        with pytest.raises(FFmpegError) as caught:
            await FFmpeg().input("in.mp4").output("out.mp4").execute()
        return str(caught.value)

    check(main, "out.mp4: Invalid argument")


def test_ffmpeg_that_is_terminated() -> None:
    async def main() -> tuple[int, list[str]]:
        play_ffmpeg(100)
        told: list[str] = []
        ffmpeg = FFmpeg().input("in.mp4").output("pipe:1")
        ffmpeg.on("terminated", lambda: told.append("terminated"))
        executing = asyncio.create_task(ffmpeg.execute())
        await asyncio.sleep(2.5)
        ffmpeg.terminate()
        return len(await executing), told

    check(main, (2000, ["terminated"]))


@pytest.mark.parametrize("function", ["run_processes", "talk", "convert"])
def test_other_hash_seed_same_digests(function: str) -> None:
    first, second = (digests_elsewhere("test_subprocess_users", function, hash_seed, range(8)) for hash_seed in (1, 2))
    assert len(first) == 8
    assert first == second


@pytest.mark.parametrize("seed", range(0, 50_000, 10_000))
def test_a_race_of_ffmpeg(seed: int) -> None:
    """Seen in 2.0.12: where ffmpeg ends as its time is over, it is terminated without a look whether it is there."""

    async def main() -> None:
        simloop.current().program("ffmpeg", takes=0.99)
        with contextlib.suppress(TimeoutError):
            await FFmpeg().input("in.mp4").output("out.mp4").execute(timeout=1)
        await asyncio.sleep(1)  # until one that was terminated has ended, too

    failure = simloop.explore(main, runs=200, seed=seed).failure
    assert failure is not None
    assert isinstance(failure.exception, ProcessLookupError)
    assert failure.story[0].startswith("the end of process ffmpeg was delayed until the time")
