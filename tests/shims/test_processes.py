"""Programs that the test plays, started and waited for by unmodified asyncio and subprocess."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

import simloop
from simloop.simulation.run import run

PIPE = asyncio.subprocess.PIPE


def test_a_scripted_program() -> None:
    async def main() -> tuple[Any, ...]:
        sim = simloop.current()
        git = sim.program("git", stdout=b"out", stderr=b"err", returncode=3, takes=0.2)
        process = await asyncio.create_subprocess_exec("git", "status", stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate()
        return out, err, process.returncode, 0.2 <= sim.elapsed < 0.3, git.calls

    assert run(main) == (b"out", b"err", 3, True, [["git", "status"]])


def test_a_program_reads_what_it_is_told_and_answers() -> None:
    async def main() -> tuple[bytes, int | None]:
        @simloop.current().program("upper")
        async def upper(proc: simloop.SimProcess) -> None:
            while line := await proc.stdin.readline():
                proc.stdout.write(line.upper())
                await proc.stdout.drain()

        process = await asyncio.create_subprocess_exec("upper", stdin=PIPE, stdout=PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hello\n")
        first = await process.stdout.readline()
        out, _ = await process.communicate(b"world\n")
        return first + out, process.returncode

    assert run(main) == (b"HELLO\nWORLD\n", 0)


def test_what_is_not_registered_is_not_there() -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError, match="No such file or directory: 'ffmpeg'") as caught:
            await asyncio.create_subprocess_exec("ffmpeg")
        assert "@sim.program('ffmpeg')" in caught.value.__notes__[0]

    run(main)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda proc: None, 0),
        (lambda proc: 7, 7),
        (lambda proc: proc.exit(9), 9),
        (lambda proc: 1 / 0, 1),
    ],
)
def test_exit_codes(end: Callable[[simloop.SimProcess], Any], code: int) -> None:
    async def main() -> tuple[int | None, bytes]:
        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> int | None:
            return end(proc)  # type: ignore[no-any-return]

        process = await asyncio.create_subprocess_exec("tool", stderr=PIPE)
        _, err = await process.communicate()
        return process.returncode, err

    returncode, err = run(main)
    assert returncode == code
    assert (b"ZeroDivisionError" in err) == (code == 1)


async def sleeper(proc: simloop.SimProcess) -> None:
    await asyncio.sleep(100)


@pytest.mark.parametrize(("number", "how"), [(signal.SIGTERM, "terminate"), (signal.SIGKILL, "kill")])
def test_a_signal_ends_it_where_it_is(number: int, how: str) -> None:
    seen: list[str] = []

    async def main() -> tuple[int | None, bool]:
        sim = simloop.current()

        @sim.program("sleeper")
        async def program(proc: simloop.SimProcess) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                seen.append("finally")

        process = await asyncio.create_subprocess_exec("sleeper")
        await asyncio.sleep(1)
        getattr(process, how)()
        await process.wait()
        return process.returncode, sim.elapsed < 2

    assert run(main) == (-number, True)
    assert seen == []


def test_a_program_that_handles_a_signal() -> None:
    async def main() -> tuple[bytes, int | None]:
        @simloop.current().program("daemon")
        async def daemon(proc: simloop.SimProcess) -> int:
            asked = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
            proc.stdout.write(b"ready\n")
            await asked.wait()
            proc.stdout.write(b"bye\n")
            return 0

        process = await asyncio.create_subprocess_exec("daemon", stdout=PIPE)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        process.terminate()
        out, _ = await process.communicate()
        return out, process.returncode

    assert run(main) == (b"bye\n", 0)


def test_a_program_that_ignores_a_signal_is_killed() -> None:
    async def main() -> int | None:
        @simloop.current().program("stubborn")
        async def stubborn(proc: simloop.SimProcess) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            proc.stdout.write(b"ready\n")
            await asyncio.sleep(100)

        process = await asyncio.create_subprocess_exec("stubborn", stdout=PIPE)
        assert process.stdout is not None
        await process.stdout.readline()
        process.terminate()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 5)
        process.kill()
        return await process.wait()

    assert run(main) == -signal.SIGKILL


def test_a_child_that_nobody_reads_blocks() -> None:
    async def main() -> tuple[bool, int, int | None]:
        @simloop.current().program("chatty")
        async def chatty(proc: simloop.SimProcess) -> None:
            for _ in range(100):
                proc.stdout.write(b"x" * 4096)
                await proc.stdout.drain()

        process = await asyncio.create_subprocess_exec("chatty", stdout=PIPE)
        await asyncio.sleep(60)
        still = process.returncode is None
        assert process.stdout is not None
        data = await process.stdout.read()
        return still, len(data), await process.wait()

    assert run(main) == (True, 409_600, 0)


def test_subprocess_run_in_a_thread_and_in_a_coroutine() -> None:
    def call() -> str:
        return subprocess.run(["cat"], input="hello", capture_output=True, text=True, check=True).stdout

    async def main() -> tuple[str, str]:
        @simloop.current().program("cat")
        async def cat(proc: simloop.SimProcess) -> None:
            proc.stdout.write(await proc.stdin.read())

        return await asyncio.to_thread(call), call()

    assert run(main, blocking="ignore") == ("hello", "hello")


def test_descriptors_environment_and_directory() -> None:
    async def main() -> tuple[Any, ...]:
        sim = simloop.current()
        sim.fs.write_tree({"/work": {}, "/out": "", "/in": "from a file"})
        seen: list[Any] = []

        @sim.program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            seen.append((proc.argv, proc.env, proc.cwd, os.getcwd(), os.getppid() == parent, proc.pid == os.getpid()))
            proc.stdout.write(await proc.stdin.read())
            proc.stderr.write(b"!")

        parent = os.getpid()
        with open("/in") as stdin, open("/out", "wb") as stdout:
            process = await asyncio.create_subprocess_exec(
                "tool", "-x", stdin=stdin, stdout=stdout, stderr=asyncio.subprocess.STDOUT, cwd="/work", env={"A": "1"}
            )
            await process.wait()
        return seen[0], sim.fs.read_text("/out")

    facts, out = run(main)
    assert facts == (["tool", "-x"], {"A": "1"}, "/work", "/work", True, True)
    assert out == "from a file!"


@pytest.mark.parametrize("used", [False, True])
def test_a_program_begins_where_its_parent_is_whether_or_not_files_were_used(used: bool) -> None:
    seen: list[str] = []
    here = os.getcwd()

    async def main() -> None:
        sim = simloop.current()
        if used:
            os.mkdir("/elsewhere")
            os.chdir("/elsewhere")

        @sim.program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            os.chdir("/")
            seen.extend((proc.cwd, os.getcwd()))

        await (await asyncio.create_subprocess_exec("tool")).wait()
        seen.append(os.getcwd())

    simloop.run(main)
    start = "/elsewhere" if used else here
    assert seen == [start, "/", start]


def test_waiting_for_children_and_their_groups() -> None:
    async def main() -> None:
        simloop.current().program("sleeper")(sleeper)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, 0)
        child = subprocess.Popen(["sleeper"], start_new_session=True)
        assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid != os.getpgrp()
        assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait() == -signal.SIGINT
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)

    run(main, blocking="ignore")


@pytest.mark.parametrize("order", ["data exit eof", "exit data eof"])
def test_the_exit_may_be_seen_before_the_last_data(order: str) -> None:
    async def main() -> None:
        seen: list[str] = []

        class Protocol(asyncio.SubprocessProtocol):
            def pipe_data_received(self, fd: int, data: bytes) -> None:
                seen.append("data")

            def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
                if fd == 1:
                    seen.append("eof")

            def process_exited(self) -> None:
                seen.append("exit")
                over.set()

        simloop.current().program("tool", stdout=b"x")
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        transport, _ = await loop.subprocess_exec(Protocol, "tool", stdin=None, stderr=None)
        await over.wait()
        await asyncio.sleep(1)
        transport.close()
        assert " ".join(seen) != order

    run(main)
    report = simloop.explore(main, runs=1000)
    assert report.failure is not None
    assert len(report.failure.schedule.deviations) == 1
