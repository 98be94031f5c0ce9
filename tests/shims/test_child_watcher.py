"""Children are watched by pidfds inside a world, on every Python; what the program chose itself stays."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from asyncio import unix_events
from collections.abc import Iterator
from typing import Any

import pytest

import simloop

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on asyncio itself chooses pidfds")


@pytest.fixture
def policy() -> Iterator[Any]:
    policy: Any = asyncio.get_event_loop_policy()
    yield policy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy.set_child_watcher(None)


async def start_and_wait() -> tuple[int, list[str], str]:
    """An exit code, the threads that run meanwhile, and the kind of watcher."""
    simloop.current().program("tool", takes=0.1, returncode=3)
    process = await asyncio.create_subprocess_exec("tool")
    names = [thread.name for thread in threading.enumerate()]
    return await process.wait(), names, type(asyncio.get_child_watcher()).__name__


def test_pidfds_watch_children_and_no_thread_does() -> None:
    code, threads, watcher = simloop.run(start_and_wait)
    assert (code, watcher) == (3, "PidfdChildWatcher")
    # Another test may have left a real thread that hangs.
    assert not any(name.startswith("waitpid") for name in threads)


def test_each_process_has_a_watcher_of_its_own() -> None:
    async def main() -> list[object]:
        async def watcher() -> object:
            assert (await start_and_wait())[0] == 3
            return asyncio.get_child_watcher()

        sim = simloop.current()
        return [await watcher(), await sim.host("a").run(watcher), await sim.host("b").run(watcher)]

    assert len({id(watcher) for watcher in simloop.run(main)}) == 3


@pytest.mark.parametrize("name", ["SafeChildWatcher", "ThreadedChildWatcher"])
def test_what_the_program_has_chosen_stays(policy: Any, name: str) -> None:
    async def main() -> tuple[int, list[str], str]:
        watcher = getattr(unix_events, name)()
        watcher.attach_loop(asyncio.get_running_loop())
        policy.set_child_watcher(watcher)
        return await start_and_wait()

    code, _, used = simloop.run(main)
    assert (code, used) == (3, name)


def test_outside_of_a_world_the_default_is_asyncios() -> None:
    assert simloop.run(start_and_wait)[2] == "PidfdChildWatcher"
    assert type(asyncio.get_child_watcher()).__name__ == "ThreadedChildWatcher"
