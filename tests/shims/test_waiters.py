"""asyncio's own threads that wait for a child: none is started, and nobody can tell."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import subprocess
import threading
import warnings
from asyncio import unix_events
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.kernel.process.delays import DELAYS
from simloop.simulation import Limits, execute

Watcher: Any = unix_events.ThreadedChildWatcher  # type: ignore[attr-defined]
Use = Callable[[Any], Any]


@pytest.fixture
def use() -> Iterator[Use]:
    """Sets the watcher; asyncio has this one of itself up to Python 3.11."""
    policy: Any = asyncio.get_event_loop_policy()

    def setting(watcher: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            policy.set_child_watcher(watcher)
        return watcher

    yield setting
    policy._watcher = None


@pytest.fixture
def watcher(use: Use) -> Any:
    return use(Watcher())


async def never_ends(proc: simloop.SimProcess) -> None:
    await asyncio.Event().wait()


def thread_of(watcher: Any) -> threading.Thread:
    (thread,) = watcher._threads.values()
    assert isinstance(thread, threading.Thread)
    return thread


def test_no_thread_is_started(watcher: Any) -> None:
    async def main() -> list[threading.Thread]:
        simloop.current().program("tool", takes=0.1, returncode=3)
        before = _thread._count()
        processes = [await asyncio.create_subprocess_exec("tool") for _ in range(5)]
        threads = list(watcher._threads.values())
        assert len(threads) == 5
        assert _thread._count() == before
        assert [await process.wait() for process in processes] == [3] * 5
        assert not watcher._threads
        return threads

    assert not any(thread.is_alive() for thread in simloop.run(main))


def test_starting_it_stops_nobody(watcher: Any) -> None:
    async def main() -> None:
        began = simloop.current().elapsed
        watcher.add_child_handler(12345, lambda pid, code: seen.append((pid, code)))
        assert simloop.current().elapsed == began
        await asyncio.sleep(1)

    seen: list[tuple[int, int]] = []
    simloop.run(main)
    assert seen == [(12345, 255)]  # there is no such child


def test_what_threading_says_of_it(watcher: Any) -> None:
    async def main() -> None:
        simloop.current().program("tool", takes=2)
        process = await asyncio.create_subprocess_exec("tool")
        thread = thread_of(watcher)
        assert thread.is_alive()
        assert thread.daemon
        assert thread.name == "asyncio-waitpid-0"
        assert thread.ident not in (None, 0, threading.get_ident())
        assert f"asyncio-waitpid-0, started daemon {thread.ident}" in repr(thread)
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        thread.join(1)
        assert thread.is_alive()
        assert round(simloop.current().elapsed) == 1
        thread.join()
        assert round(simloop.current().elapsed) == 2
        assert not thread.is_alive()
        assert "stopped daemon" in repr(thread)
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        assert await process.wait() == 0

    simloop.run(main, blocking="ignore")


def test_the_program_waits_first(watcher: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> tuple[int, int]:
        simloop.current().program("never")(never_ends)
        process = await asyncio.create_subprocess_exec("never")
        await asyncio.sleep(1)
        process.kill()
        assert os.waitpid(process.pid, 0) == (process.pid, signal.SIGKILL)
        return process.pid, await process.wait()

    pid, code = simloop.run(main)
    assert code == 255
    (record,) = caplog.records
    assert record.getMessage() == f"Unknown child process pid {pid}, will report returncode 255"
    assert record.threadName == "asyncio-waitpid-0"


def test_the_thread_waits_first(watcher: Any) -> None:
    async def main() -> int:
        simloop.current().program("tool", takes=1, returncode=7)
        process = await asyncio.create_subprocess_exec("tool")
        with pytest.raises(ChildProcessError):
            os.waitpid(process.pid, 0)
        return await process.wait()

    assert simloop.run(main, blocking="ignore") == 7


def test_it_is_another_context_and_no_loop_runs(watcher: Any) -> None:
    """As in a real thread: what it queues inherits its context, which is empty."""
    var: ContextVar[str] = ContextVar("var", default="empty")
    seen: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue = loop.call_soon_threadsafe

        def spy(*args: Any) -> asyncio.Handle:
            seen.extend((threading.current_thread().name, asyncio._get_running_loop()))
            return queue(*args)

        loop.call_soon_threadsafe = spy  # type: ignore[method-assign, assignment]
        simloop.current().program("tool", takes=1)
        done = asyncio.Event()

        class Protocol(asyncio.SubprocessProtocol):
            def process_exited(self) -> None:
                seen.append(var.get())
                done.set()

        transport, _ = await loop.subprocess_exec(Protocol, "tool", stdin=None, stdout=None, stderr=None)
        await done.wait()
        transport.close()
        assert threading.current_thread() is threading.main_thread()

    token = var.set("the program's")
    simloop.run(main)
    var.reset(token)
    assert (*seen[:2], seen[-1]) == ("asyncio-waitpid-0", None, "empty")


def test_what_it_raises_goes_to_the_hook(watcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append((args.exc_type, args.thread)))

    async def main() -> None:
        simloop.current().program("tool", takes=1)
        process = await asyncio.create_subprocess_exec("tool")
        thread = thread_of(watcher)
        watcher._threads.clear()
        assert await process.wait() == 0
        assert raised == [(KeyError, thread)]
        assert not thread.is_alive()

    simloop.run(main)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_world_takes_it_down(use: Use) -> None:
    watcher = use(Watcher())

    async def main() -> threading.Thread:
        simloop.current().program("never")(never_ends)
        await asyncio.create_subprocess_exec("never")
        thread = thread_of(watcher)
        assert thread.is_alive()
        return thread

    thread = simloop.run(main)
    assert not thread.is_alive()
    thread.join()
    assert not watcher._threads
    # The watcher belongs to the interpreter: what it keeps must not keep a world.
    assert not hasattr(thread, "_args")
    assert thread not in threading._limbo  # type: ignore[attr-defined]


def test_it_stops_with_its_process(watcher: Any) -> None:
    async def main() -> int:
        sim = simloop.current()
        sim.program("tool", takes=1)
        pids: list[int] = []

        @sim.program("parent")
        async def parent(proc: simloop.SimProcess) -> int:
            tool = await asyncio.create_subprocess_exec("tool")
            pids.append(tool.pid)
            return 40 + await tool.wait()

        process = await asyncio.create_subprocess_exec("parent")
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2)
        os.kill(pids[0], 0)  # a zombie
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.1)
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)
        return await process.wait()

    assert simloop.run(main) == 40


def test_it_does_not_start_while_its_process_is_stopped(watcher: Any) -> None:
    async def main() -> None:
        sim = simloop.current()
        sim.program("tool")
        pids: list[int] = []
        codes: list[int] = []

        @sim.program("parent")
        async def parent(proc: simloop.SimProcess) -> None:
            tool = subprocess.Popen(["tool"])
            await asyncio.sleep(0.1)
            pids.append(tool.pid)
            watcher.add_child_handler(tool.pid, lambda pid, code: codes.append(code))
            os.kill(os.getpid(), signal.SIGSTOP)
            await asyncio.sleep(0.1)
            tool.returncode = codes.pop()

        process = await asyncio.create_subprocess_exec("parent")
        await asyncio.sleep(2)
        os.kill(pids[0], 0)  # a zombie
        process.send_signal(signal.SIGCONT)
        assert await process.wait() == 0

    simloop.run(main, blocking="ignore")


def test_it_dies_with_its_process(watcher: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        sim = simloop.current()
        sim.program("tool", takes=1)

        @sim.program("parent")
        async def parent(proc: simloop.SimProcess) -> None:
            await asyncio.create_subprocess_exec("tool")
            await never_ends(proc)

        process = await asyncio.create_subprocess_exec("parent")
        await asyncio.sleep(0.5)
        process.kill()
        await asyncio.sleep(2)
        return await process.wait()

    assert simloop.run(main) == -signal.SIGKILL
    assert not caplog.records


def test_a_watcher_of_the_users_own_gets_its_thread(use: Use) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Own(Watcher):  # type: ignore[misc]
            def _do_waitpid(self, *args: Any) -> None:
                self.where = threading.get_ident()
                super()._do_waitpid(*args)

    watcher = use(Own())

    async def main() -> int:
        simloop.current().program("tool", returncode=7)
        process = await asyncio.create_subprocess_exec("tool")
        return await process.wait()

    assert simloop.run(main, threads=True) == 7
    assert watcher.where != threading.get_ident()


def test_so_does_a_thread_of_the_users_own(watcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(threading.Thread):
        pass

    async def main() -> int:
        simloop.current().program("tool", takes=1, returncode=7)
        before = _thread._count()
        process = await asyncio.create_subprocess_exec("tool")
        assert _thread._count() == before + 1
        return await process.wait()

    monkeypatch.setattr(threading, "Thread", Own)
    assert simloop.run(main) == 7


def test_so_does_a_thread_that_is_not_only_asyncios(watcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    run = threading.Thread.run

    class Wrapped(threading.Thread):
        def run(self) -> None:
            ran.append(threading.get_ident())
            super().run()

    def wrapped(self: threading.Thread) -> None:
        ran.append(threading.get_ident())
        run(self)

    async def main() -> int:
        simloop.current().program("tool", takes=1, returncode=7)
        process = await asyncio.create_subprocess_exec("tool")
        assert len(ran) == 1
        return await process.wait()

    for owner, name, value in ((threading, "Thread", Wrapped), (threading.Thread, "run", wrapped)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            assert simloop.run(main) == 7
        assert ran.pop() != threading.get_ident()


def test_so_does_one_that_waits_in_another_way(watcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    async def main() -> int:
        waitpid = os.waitpid

        def mine(pid: int, options: int) -> tuple[int, int]:
            if not options & os.WNOHANG:
                asked.append(threading.get_ident())
            return waitpid(pid, options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "waitpid", mine)
            simloop.current().program("tool", takes=1, returncode=7)
            process = await asyncio.create_subprocess_exec("tool")
            assert len(asked) == 1
            return await process.wait()

    assert simloop.run(main) == 7
    assert asked != [threading.get_ident()]


@pytest.mark.parametrize("pid", [0, -1, None])
def test_so_does_one_that_waits_for_nobody(watcher: Any, pid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_type))

    async def main() -> None:
        simloop.current().program("tool", takes=1)
        process = await asyncio.create_subprocess_exec("tool")
        watcher.add_child_handler(pid, print)
        await asyncio.sleep(0.1)
        assert raised == [TypeError if pid is None else AssertionError]
        assert await process.wait() == 0

    simloop.run(main)
    watcher._threads.clear()  # as in stock asyncio, where it stays


# --- orders -------------------------------------------------------------------------------------------------


def decided(answers: dict[str, int], main: Callable[[], Any]) -> Any:
    """A run in which points of these kinds have these answers."""
    choices = Choices(0, lambda who, kind, number, n: min(answers.get(kind, 0), n - 1))
    outcome = execute(main, choices, Limits())
    if outcome.exception is not None:
        raise outcome.exception
    return outcome


def test_who_asks_may_be_the_first_to_see_an_end(watcher: Any) -> None:
    async def main() -> tuple[list[str], list[str]]:
        seen: list[str] = []
        simloop.current().program("tool", takes=1)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, seen.append, "SIGCHLD")
        process = subprocess.Popen(["tool"])
        await asyncio.sleep(1.01)
        before = list(seen)
        watcher.add_child_handler(process.pid, lambda pid, code: seen.append("exit"))
        await asyncio.sleep(0.003)
        process.returncode = 0
        return before, seen

    late = DELAYS.index("20 ms later")
    assert decided({}, main).value == (["SIGCHLD"], ["SIGCHLD", "exit"])
    before, seen = decided({"process.exit": late}, main).value
    assert not before
    assert set(seen) == {"SIGCHLD", "exit"}


def test_it_may_be_late_and_is_told_so(watcher: Any) -> None:
    async def main() -> None:
        sim = simloop.current()
        sim.program("tool", takes=0.01)
        process = await asyncio.create_subprocess_exec("tool")
        await process.wait()
        assert sim.elapsed < 0.018

    explored = [simloop.explore(main, runs=100, seed=seed).failure for seed in range(20)]
    stories = [sentence for failure in explored if failure is not None for sentence in failure.story]
    assert "the thread that waits for process tool was started 20 ms later" in stories


def test_how_late_makes_no_difference_that_nobody_sees(watcher: Any) -> None:
    async def main() -> None:
        simloop.current().program("tool", takes=1)
        process = await asyncio.create_subprocess_exec("tool")
        for _ in range(10):
            await asyncio.sleep(0)
        await process.wait()

    prints = {decided({"thread.start": late}, main).fingerprint for late in range(4)}
    assert len(prints) == 1


def test_so_late_that_another_child_has_the_pid(
    watcher: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one's thread waits for the younger one, as in production, and takes its status."""

    async def main() -> list[tuple[str, int]]:
        sim = simloop.current()
        sim.program("old")
        sim.program("young", takes=1, returncode=7)
        codes: list[tuple[str, int]] = []
        old = subprocess.Popen(["old"])
        await asyncio.sleep(0.1)
        watcher.add_child_handler(old.pid, lambda pid, code: codes.append(("old", code)))
        assert old.wait() == 0
        young = subprocess.Popen(["young"])
        assert young.pid == old.pid
        await asyncio.sleep(0.5)
        watcher.add_child_handler(young.pid, lambda pid, code: codes.append(("young", code)))
        await asyncio.sleep(2)
        young.returncode = 0
        return codes

    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    codes = decided({"thread.start": DELAYS.index("20 ms later"), "process.pid": 1}, main).value
    assert codes == [("old", 7), ("young", 255)]
    assert len(caplog.records) == len(reported) == 1
