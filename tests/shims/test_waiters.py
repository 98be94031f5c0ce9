"""asyncio's own threads that wait for a child: none is started, and nobody can tell."""

from __future__ import annotations

import _thread
import asyncio
import logging
import os
import signal
import threading
import warnings
from asyncio import unix_events
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

import simloop

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
    async def main() -> tuple[int, int]:
        simloop.current().program("tool", takes=0.1, returncode=3)
        before = _thread._count()
        processes = [await asyncio.create_subprocess_exec("tool") for _ in range(5)]
        assert len(watcher._threads) == 5
        assert _thread._count() == before
        codes = {await process.wait() for process in processes}
        assert not watcher._threads
        return codes.pop(), len(codes)

    assert simloop.run(main) == (3, 0)


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
        var.set("the task's")
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

    simloop.run(main)
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


def test_it_may_be_late(watcher: Any, caplog: pytest.LogCaptureFixture) -> None:
    """So late that somebody else has waited, which takes nobody's time but its own."""

    async def main() -> None:
        simloop.current().program("tool", takes=0.01)
        process = await asyncio.create_subprocess_exec("tool")
        await asyncio.sleep(0.015)
        try:
            os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            return
        assert await process.wait() != 255

    caplog.set_level(logging.CRITICAL)
    failure = simloop.explore(main, runs=300).failure
    assert failure is not None
    (sentence,) = failure.story
    assert sentence.startswith(("the thread that waits for process tool was", "the end of process tool was"))
