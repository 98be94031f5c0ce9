"""Signals between processes: what they end, stop and interrupt, and in which orders."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

import pytest

import simloop
from simloop.simulation.run import run

PIPE = asyncio.subprocess.PIPE
Main = Callable[[], Coroutine[Any, Any, Any]]


def outcomes(main: Main, seeds: int = 200) -> set[Any]:
    return {run(main, seed=seed, blocking="ignore") for seed in range(seeds)}


async def start(main: Any, **options: Any) -> asyncio.subprocess.Process:
    """A child that plays `main`, once it has said that it is there."""
    simloop.current().program("tool")(main)
    child = await asyncio.create_subprocess_exec("tool", stdout=PIPE, **options)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ready\n"
    return child


async def rest(child: asyncio.subprocess.Process) -> tuple[bytes, int | None]:
    out, _ = await child.communicate()
    return out, child.returncode


# --- Ctrl-C ---------------------------------------------------------------------------------------------


async def tidy(proc: simloop.SimProcess) -> None:
    proc.stdout.write(b"ready\n")
    try:
        await asyncio.sleep(100)
    finally:
        proc.stdout.write(b"tidied up")


def test_sigint_cancels_a_program_as_it_does_under_asyncio_run() -> None:
    async def main() -> tuple[bytes, int | None]:
        child = await start(tidy)
        child.send_signal(signal.SIGINT)
        return await rest(child)

    assert run(main) == (b"tidied up", -signal.SIGINT)


def test_the_default_handler_set_by_hand_interrupts_the_call_that_blocks() -> None:
    async def blocks(proc: simloop.SimProcess) -> int:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(1, b"ready\n")
        try:
            time.sleep(100)
        except KeyboardInterrupt:
            os.write(1, b"interrupted")
            if proc.argv[1:]:
                raise
        return 3

    async def main(*arguments: str) -> tuple[bytes, int | None, float]:
        simloop.current().program("tool")(blocks)
        child = await asyncio.create_subprocess_exec("tool", *arguments, stdout=PIPE)
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        return *await rest(child), round(simloop.current().elapsed)

    assert outcomes(main) == {(b"interrupted", 3, 0)}
    assert outcomes(lambda: main("raise")) == {(b"interrupted", -signal.SIGINT, 0)}


def test_a_handler_that_is_put_back_cancels_as_before() -> None:
    async def main() -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert callable(before)
        signal.signal(signal.SIGINT, before)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    run(main)
    # A shell starts what runs in the background with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_program_that_takes_sigint_for_a_request_goes_on() -> None:
    async def polite(proc: simloop.SimProcess) -> int:
        proc.stdout.write(b"ready\n")
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return 3
        return 0

    async def main() -> tuple[bytes, int | None]:
        child = await start(polite)
        child.send_signal(signal.SIGINT)
        return await rest(child)

    assert run(main) == (b"", 3)


def test_the_second_sigint_breaks_out() -> None:
    async def stubborn(proc: simloop.SimProcess) -> None:
        proc.stdout.write(b"ready\n")
        while True:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                proc.stdout.write(b"no\n")

    async def main() -> tuple[bytes, int | None]:
        child = await start(stubborn)
        assert child.stdout is not None
        child.send_signal(signal.SIGINT)
        assert await child.stdout.readline() == b"no\n"
        child.send_signal(signal.SIGINT)
        # asyncio.run cancels the main task once more as it closes, and waits for it.
        await asyncio.sleep(1)
        child.kill()
        return await rest(child)

    assert run(main) == (b"no\n", -signal.SIGKILL)


def test_a_signal_that_cancels() -> None:
    async def careful(proc: simloop.SimProcess) -> None:
        proc.cancel_on(signal.SIGTERM, signal.SIGHUP)
        await tidy(proc)

    async def main() -> tuple[bytes, int | None]:
        child = await start(careful)
        child.terminate()
        return await rest(child)

    assert run(main) == (b"tidied up", -signal.SIGTERM)


def test_a_signal_that_cancels_may_come_too_late_for_that() -> None:
    async def main() -> int | None:
        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> int:
            proc.cancel_on(signal.SIGTERM)
            proc.stdout.write(b"ready\n" + b"x" * 1_000_000)
            return 3

        child = await asyncio.create_subprocess_exec("tool", stdout=PIPE)
        assert child.stdout is not None
        await child.stdout.readline()
        await asyncio.sleep(1)  # it has returned, and waits for somebody to read the rest
        child.terminate()
        return (await rest(child))[1]

    assert run(main) == -signal.SIGTERM


# --- ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "returncode", "said"), [(None, 0, b""), (4, 4, b""), ("sorry", 1, b"sorry\n")])
def test_sys_exit_in_a_program(code: object, returncode: int, said: bytes) -> None:
    async def main() -> tuple[bytes, int | None]:
        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            sys.exit(code)  # type: ignore[arg-type]

        child = await asyncio.create_subprocess_exec("tool", stderr=PIPE)
        _, err = await child.communicate()
        return err, child.returncode

    assert run(main) == (said, returncode)


def test_what_ends_a_process_of_host_run() -> None:
    async def leave() -> None:
        sys.exit(3)

    async def die() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async def wait() -> None:
        await asyncio.sleep(100)

    async def ended(sending: int | None, function: Any) -> tuple[int, str]:
        sim = simloop.current()
        web = sim.host("web")
        if sending is not None:
            asyncio.get_running_loop().call_later(1, sim.signal, web, sending)
        with pytest.raises(simloop.ProcessEndedError) as caught:
            await web.run(function)
        return caught.value.returncode, str(caught.value)

    async def main() -> list[tuple[int, str]]:
        return [
            await ended(None, leave),
            await ended(None, die),
            await ended(signal.SIGKILL, wait),
            await ended(signal.SIGINT, wait),
        ]

    found = run(main)
    assert [code for code, _ in found] == [3, -signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT]
    assert "web was ended by exit code 3 while it ran" in found[0][1]
    assert "web#3 was ended by SIGKILL while it ran" in found[2][1]


def test_the_test_itself_is_interrupted() -> None:
    done: list[str] = []

    async def main() -> None:
        simloop.current().signal("localhost", signal.SIGINT)
        try:
            await asyncio.sleep(100)
        finally:
            done.append("finally")

    with pytest.raises(simloop.ProcessEndedError, match="SIGINT has ended the test itself"):
        run(main)
    assert done == ["finally"]


def test_what_a_handler_raises_comes_out_of_the_loop() -> None:
    """As out of asyncio.run, which then cancels what is left."""

    class Stop(Exception):
        pass

    done: list[str] = []

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop

    async def serve() -> None:
        signal.signal(signal.SIGTERM, stop)
        try:
            await asyncio.sleep(100)
        finally:
            done.append("finally")

    async def main() -> None:
        sim = simloop.current()
        asyncio.get_running_loop().call_later(1, sim.signal, "web", signal.SIGTERM)
        with pytest.raises(Stop):
            await sim.host("web").run(serve)

    run(main)
    assert done == ["finally"]


def test_a_signal_finds_nobody() -> None:
    async def main() -> None:
        sim = simloop.current()
        with pytest.raises(simloop.WorldError, match="nothing was run on host 'web'"):
            sim.signal("web", signal.SIGTERM)
        with pytest.raises(simloop.ConfigurationError, match="0 is no signal"):
            sim.signal("localhost", 0)
        await sim.host("web").run(lambda: asyncio.sleep(0))
        sim.signal("web", signal.SIGTERM)  # what ran there has ended

    run(main)


# --- stopping -------------------------------------------------------------------------------------------


async def ticker(proc: simloop.SimProcess) -> None:
    proc.stdout.write(b"ready\n")
    while True:
        await asyncio.sleep(1)
        proc.stdout.write(b".")


def test_a_process_that_is_stopped_stands_still() -> None:
    async def main() -> tuple[bytes, bytes, int | None, int]:
        told: list[int] = []
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, told.append, 1)
        child = await start(ticker)
        await asyncio.sleep(2.5)
        child.send_signal(signal.SIGSTOP)
        await asyncio.sleep(10)
        child.terminate()  # waits for SIGCONT
        await asyncio.sleep(1)
        assert child.stdout is not None
        before = await child.stdout.read(100)
        assert child.returncode is None
        assert len(told) == 1
        child.send_signal(signal.SIGCONT)
        out, code = await rest(child)
        return before, out, code, len(told)

    assert run(main) == (b"..", b"", -signal.SIGTERM, 3)


def test_sigcont_lets_it_go_on_and_sigkill_ends_it_all_the_same() -> None:
    async def main() -> tuple[int, int | None]:
        child = await start(ticker)
        child.send_signal(signal.SIGSTOP)
        await asyncio.sleep(5)
        child.send_signal(signal.SIGCONT)
        await asyncio.sleep(3.5)
        child.send_signal(signal.SIGSTOP)
        child.kill()
        out, code = await rest(child)
        return len(out), code

    # The tick that was due while it stood still comes at once.
    assert run(main) == (4, -signal.SIGKILL)


def test_who_waits_for_a_stopped_process_learns_why() -> None:
    async def main() -> None:
        child = await start(ticker)
        child.send_signal(signal.SIGSTOP)
        await child.wait()

    with pytest.raises(simloop.DeadlockError, match="localhost:tool is stopped by a signal, until SIGCONT"):
        run(main)


# --- orders ---------------------------------------------------------------------------------------------


def test_a_signal_may_come_before_the_handler() -> None:
    async def main() -> tuple[bytes, int | None]:
        @simloop.current().program("daemon")
        async def daemon(proc: simloop.SimProcess) -> None:
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            await stop.wait()
            proc.stdout.write(b"bye")

        child = await asyncio.create_subprocess_exec("daemon", stdout=PIPE)
        child.terminate()
        return await rest(child)

    assert outcomes(main) == {(b"bye", 0), (b"", -signal.SIGTERM)}


def test_the_same_signal_twice_may_be_one() -> None:
    async def main() -> int:
        seen: list[int] = []
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, seen.append, 1)

        @simloop.current().program("nag")
        async def nag(proc: simloop.SimProcess) -> None:
            os.kill(os.getppid(), signal.SIGUSR1)
            os.kill(os.getppid(), signal.SIGUSR1)

        await (await asyncio.create_subprocess_exec("nag")).wait()
        await asyncio.sleep(1)
        return len(seen)

    assert outcomes(main) == {1, 2}


def test_a_masked_signal_waits_and_does_not_queue() -> None:
    seen: list[int] = []
    with simloop.world():
        signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]) == set()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
        assert signal.sigpending() == {signal.SIGUSR1}
        assert seen == []
        assert signal.pthread_sigmask(signal.SIG_SETMASK, []) == {signal.SIGUSR1}
        assert seen == [signal.SIGUSR1]
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        signal.raise_signal(signal.SIGUSR2)
        assert signal.sigwait([signal.SIGUSR2]) is signal.SIGUSR2
        assert signal.sigtimedwait([signal.SIGUSR2], 5) is None


def test_sigchld_of_several_children() -> None:
    """Late, early, coalesced: who counts them must reap until there is nobody left."""

    async def main() -> tuple[int, int]:
        told, reaped = 0, 0

        def reap() -> None:
            nonlocal told, reaped
            told += 1
            while True:
                try:
                    pid, _ = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    return
                if not pid:
                    return
                reaped += 1

        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reap)
        simloop.current().program("true")
        for _ in range(2):
            subprocess.Popen(["true"]).returncode = 0
        time.sleep(0.5)
        await asyncio.sleep(1)
        return told, reaped

    found = outcomes(main)
    assert {reaped for _, reaped in found} == {2}
    assert {told for told, _ in found} == {1, 2}


def test_a_pid_may_come_up_again() -> None:
    async def main() -> bool:
        simloop.current().program("true")
        first = subprocess.Popen(["true"])
        first.wait()
        second = subprocess.Popen(["true"])
        second.wait()
        return first.pid == second.pid

    assert outcomes(main) == {False, True}


def test_a_pid_is_not_free_while_a_group_has_it() -> None:
    async def main() -> bool:
        simloop.current().program("true")
        simloop.current().program("sleep", takes=50)
        leader = subprocess.Popen(["true"], process_group=0)
        member = subprocess.Popen(["sleep"], process_group=leader.pid)
        leader.wait()
        other = subprocess.Popen(["true"])
        other.wait()
        member.wait()
        return leader.pid == other.pid

    assert outcomes(main, 100) == {False}


def test_kill_may_meet_a_process_that_has_ended_already() -> None:
    async def main() -> int | None:
        simloop.current().program("true")
        child = subprocess.Popen(["true"])
        for _ in range(8):
            await asyncio.sleep(0)
        child.kill()
        return child.wait()

    assert outcomes(main) == {0, -signal.SIGKILL}


# --- blocking calls -------------------------------------------------------------------------------------


def test_a_handler_runs_in_the_middle_of_a_blocking_call() -> None:
    async def main() -> tuple[list[int], int]:
        @simloop.current().program("nag")
        async def nag(proc: simloop.SimProcess) -> None:
            await asyncio.sleep(2)
            os.kill(os.getppid(), signal.SIGUSR1)

        sim = simloop.current()
        seen: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(round(sim.elapsed)))
        child = subprocess.Popen(["nag"])
        time.sleep(10)
        child.wait()
        return seen, round(sim.elapsed)

    assert run(main, blocking="ignore") == ([2], 10)


def test_a_handler_that_raises_ends_a_blocking_call() -> None:
    class Timeout(Exception):
        pass

    def give_up(number: int, frame: FrameType | None) -> None:
        raise Timeout

    async def main() -> int:
        sim = simloop.current()
        signal.signal(signal.SIGUSR1, give_up)
        simloop.current().program("nag", takes=2)
        sim.program("sleep", takes=50)
        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(3)
        child = subprocess.Popen(["sleep"])
        with pytest.raises(Timeout):
            child.wait()
        child.kill()
        child.wait()
        return round(sim.elapsed)

    assert run(main, blocking="ignore") == 3


async def blocker(proc: simloop.SimProcess) -> None:
    os.read(os.pipe()[0], 1)


def test_a_program_that_blocks_is_killed_in_its_call() -> None:
    async def main() -> tuple[int | None, int]:
        simloop.current().program("tool")(blocker)
        child = await asyncio.create_subprocess_exec("tool")
        await asyncio.sleep(1)
        child.kill()
        return await child.wait(), round(simloop.current().elapsed)

    assert run(main) == (-signal.SIGKILL, 1)


def test_a_program_that_blocks_when_the_test_is_over_ends_with_it() -> None:
    kept: list[Any] = []

    async def main() -> str:
        simloop.current().program("tool")(blocker)
        kept.append(subprocess.Popen(["tool"]))
        await asyncio.sleep(1)
        return "over"

    with pytest.warns(ResourceWarning, match="localhost:tool .* is still running"):
        assert run(main) == "over"


def test_a_program_that_blocks_goes_on_in_the_next_loop_of_the_test() -> None:
    seen: list[str] = []

    async def main() -> subprocess.Popen[bytes]:
        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            time.sleep(2)
            seen.append("slept")

        child = subprocess.Popen(["tool"])
        await asyncio.sleep(1)
        return child

    with simloop.world():
        child = asyncio.run(main())
        assert seen == []
        assert asyncio.run(asyncio.to_thread(child.wait)) == 0
    assert seen == ["slept"]


def test_a_deadlock_in_a_program_is_one_of_the_run() -> None:
    async def main() -> None:
        simloop.current().program("tool")(blocker)
        child = await asyncio.create_subprocess_exec("tool")
        await child.wait()

    with pytest.raises(simloop.DeadlockError, match=r"inside BaseSubprocessTransport\._wait"):
        run(main)


def test_threads_of_a_process_that_is_stopped_stand_still_too() -> None:
    async def main() -> int:
        ticks: list[int] = []

        @simloop.current().program("tool")
        async def tool(proc: simloop.SimProcess) -> None:
            def tick() -> None:
                while True:
                    time.sleep(1)
                    ticks.append(1)

            await asyncio.to_thread(tick)

        child = await asyncio.create_subprocess_exec("tool")
        await asyncio.sleep(3.5)
        child.send_signal(signal.SIGSTOP)
        await asyncio.sleep(10)
        child.send_signal(signal.SIGCONT)
        await asyncio.sleep(1.1)
        child.kill()
        await child.wait()
        return len(ticks)

    # The tick that was due meanwhile comes at once, and one more.
    assert run(main) == 5


def test_pause() -> None:
    with simloop.world() as sim:
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.alarm(7)
        signal.pause()
        assert round(sim.elapsed) == 7


# --- parents and children -------------------------------------------------------------------------------


def test_an_orphan_goes_on_and_has_init_for_a_parent() -> None:
    async def main() -> list[Any]:
        sim = simloop.current()
        seen: list[Any] = []

        @sim.program("parent")
        async def parent(proc: simloop.SimProcess) -> None:
            os.posix_spawn("/usr/bin/child", ["child"], {})

        @sim.program("child")
        async def child(proc: simloop.SimProcess) -> None:
            await asyncio.sleep(10)
            seen.append(os.getppid())

        process = await asyncio.create_subprocess_exec("parent")
        await process.wait()
        seen.append(round(sim.elapsed))
        await asyncio.sleep(20)
        return seen

    assert run(main) == [0, 1]


def test_who_ignores_sigchld_and_asks_before_he_is_told_finds_no_child() -> None:
    async def main() -> str:
        simloop.current().program("true")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        child = subprocess.Popen(["true"])
        child.returncode = 0
        while True:
            await asyncio.sleep(0.0005)
            try:
                os.waitpid(child.pid, os.WNOHANG)
            except ChildProcessError:
                return "no child"

    assert outcomes(main) == {"no child"}


def test_children_of_a_parent_that_ignores_sigchld_are_no_zombies() -> None:
    with simloop.world() as sim:
        sim.program("true")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        child = subprocess.Popen(["true"])
        with pytest.raises(ChildProcessError):
            os.waitpid(child.pid, 0)
        child.returncode = 0
