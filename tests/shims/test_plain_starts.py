"""`subprocess.Popen` starts most children in fewer steps than its own code takes: with the same outcome."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
from asyncio import unix_events
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import examples

import simloop
from simloop.errors import EscapedSimulationError
from simloop.shims import subprocess as spawning
from simloop.simulation.run import run

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT

COMMANDS: st.SearchStrategy[Any] = st.sampled_from(
    [
        ["tool", "a", "b"],
        ("/bin/tool", "a"),
        ["./tool"],
        ["missing"],
        ["/bin/missing"],
        [],
        [""],
        ["tool", "nul\0"],
        ["tool", b"bytes"],
        ["tool", 3],
        [Path("/bin/tool")],
        "tool",
        b"tool",
        ["sh", "-c", "tool; exit 4"],
        ["broken"],
    ]
)
OPTIONS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "stdin": st.sampled_from([PIPE, DEVNULL, None]),
        "stdout": st.sampled_from([PIPE, DEVNULL, None]),
        "stderr": st.sampled_from([PIPE, DEVNULL, STDOUT, None]),
        "cwd": st.sampled_from([None, "/tmp", "/missing"]),
        "env": st.sampled_from([None, {"A": "1"}]),
        "shell": st.booleans(),
        "close_fds": st.booleans(),
        "start_new_session": st.booleans(),
        "executable": st.sampled_from([None, "tool"]),
    },
)


def outcome(command: Any, options: dict[str, Any]) -> Any:
    async def main() -> Any:
        sim = simloop.current()
        seen: list[Any] = []
        sim.program("broken", returncode=5, stderr="broken")

        @sim.program("tool")
        async def tool(proc: simloop.SimProcess) -> int:
            seen.append((proc.argv, proc.env, proc.cwd, os.getpgrp() == proc.pid, sorted(os.listdir("/proc/self/fd"))))
            proc.stdout.write(await proc.stdin.read() + b"out")
            proc.stderr.write(b"err")
            return 3

        before = sorted(sim._world.current.files)
        try:
            child = subprocess.Popen(command, **options)
        except Exception as error:
            return type(error), str(error), getattr(error, "filename", None), getattr(error, "__notes__", None)
        place = sim._world.processes[-1].started_at
        told = child.communicate(b"in" if options.get("stdin") == PIPE else None)
        return place, told, child.returncode, child.args, seen, sorted(sim._world.current.files) == before

    try:
        return run(main, blocking="ignore")
    except EscapedSimulationError as error:
        return str(error)


@settings(max_examples=examples(150), deadline=None)
@given(COMMANDS, OPTIONS)
def test_it_comes_to_the_same_as_the_code_of_subprocess(command: Any, options: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plainly = spawning._start_plainly
        patch.setattr(spawning, "_start_plainly", lambda *args: False)
        expected = outcome(command, options)
        patch.setattr(spawning, "_start_plainly", plainly)
        assert outcome(command, options) == expected


def here() -> str:
    frame: FrameType | None = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return f"{__file__}:{frame.f_back.f_lineno}"


def test_its_line_is_the_one_that_asks_for_it() -> None:
    async def main() -> list[tuple[str, str]]:
        sim = simloop.current()
        sim.program("tool")
        found: list[tuple[str, str]] = []

        def note(line: str) -> None:
            found.append((sim._world.processes[-1].started_at, line))

        process, line = await asyncio.create_subprocess_exec("tool"), here()
        note(line)
        await process.wait()
        process, line = await asyncio.create_subprocess_shell("tool"), here()
        note(line)
        await process.wait()
        popen, line = subprocess.Popen(["tool"]), here()
        note(line)
        popen.wait()
        _, line = subprocess.run(["tool"], check=True), here()
        note(line)
        exec_ = asyncio.get_running_loop().subprocess_exec
        (transport, _), line = await exec_(asyncio.SubprocessProtocol, "tool"), here()
        note(line)
        await transport._wait()  # type: ignore[attr-defined]
        transport.close()
        return found

    for place, line in run(main, blocking="ignore"):
        assert place == line


# --- asyncio's own ways -----------------------------------------------------------------------------------


async def start_and_wait() -> int:
    simloop.current().program("tool", returncode=3)
    process = await asyncio.create_subprocess_exec("tool")
    return await process.wait()


def test_what_replaces_the_way_in_which_asyncio_makes_transports_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    loop_class: Any = unix_events._UnixSelectorEventLoop
    real = loop_class._make_subprocess_transport

    async def make(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append("transport")
        return await real(self, *args, **kwargs)

    monkeypatch.setattr(loop_class, "_make_subprocess_transport", make)
    assert run(start_and_wait) == 3
    assert made == ["transport"]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="child watchers are gone")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_policy_of_the_users_own_is_asked_for_its_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Policy(asyncio.DefaultEventLoopPolicy):
        def get_child_watcher(self) -> Any:
            asked.append("watcher")
            return super().get_child_watcher()

    asyncio.set_event_loop_policy(Policy())
    try:
        assert run(start_and_wait) == 3
        assert run(start_and_wait) == 3
    finally:
        asyncio.set_event_loop_policy(None)
    assert asked == ["watcher", "watcher"]
