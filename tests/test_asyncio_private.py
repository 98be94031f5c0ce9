"""What simloop relies on in asyncio beyond its documentation. A new Python that changes one of these fails
here: read the new code, then change what docs/architecture.md names as touching it, and the list of versions there."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import inspect
import subprocess
import textwrap
import threading
from asyncio import base_events, base_subprocess, events, runners, selector_events, tasks, unix_events
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.loop import stock_state as stock
from simloop.shims import loop_bound
from simloop.shims import subprocess as spawning
from simloop.shims import threading as threads


def shape(function: Callable[..., Any]) -> str:
    """A function's code without comments, docstrings and formatting."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


# What our own code repeats, steps around or looks into, by our file, with the shapes that were read.
READ: dict[str, list[tuple[Callable[..., Any], set[str]]]] = {
    "loop/loop.py": [
        (base_events.BaseEventLoop._run_once, {"6eca0b247c65", "9d223d3e9633"}),
        (base_events.BaseEventLoop.call_soon, {"7b62aac20a42"}),
        (base_events.BaseEventLoop.call_soon_threadsafe, {"d1a708daecb3", "ed0aac626f8f"}),
        (base_events.BaseEventLoop._asyncgen_firstiter_hook, {"86df51af147d"}),
        (base_events.BaseEventLoop._asyncgen_finalizer_hook, {"2685890d68ce"}),
        (base_events.BaseEventLoop.create_task, {"9df830ae5be1", "fcea94522aa1", "2861640d903e"}),
        (base_events.BaseEventLoop.run_until_complete, {"57b04c11ae52"}),
        (base_events.BaseEventLoop.shutdown_default_executor, {"22ce233a20d7", "6612c81da164", "2f57a586de27"}),
        (selector_events.BaseSelectorEventLoop._process_events, {"48291524c21a"}),
        (events.Handle.__init__, {"5fc226e3101e"}),
        (events.Handle._run, {"fbd2180838ea", "c5ffde75880b"}),
        (base_events.BaseEventLoop.close, {"e1ddec62ef53"}),
        (selector_events.BaseSelectorEventLoop.close, {"63a1fb7f7e87"}),
        (unix_events._UnixSelectorEventLoop.close, {"d4e7c40862d4"}),
        (unix_events._UnixSelectorEventLoop._make_read_pipe_transport, {"ef6ac05c496c"}),
        (unix_events._UnixSelectorEventLoop._make_write_pipe_transport, {"9cae8bc48d91"}),
        (unix_events._UnixReadPipeTransport.__del__, {"6e27c0835206"}),
        (unix_events._UnixWritePipeTransport.__del__, {"6e27c0835206"}),
        (
            unix_events._UnixSelectorEventLoop._make_subprocess_transport,
            {"d0506263a684", "6fe4503eb93e", "9950784a04b4"},
        ),
        (base_subprocess.BaseSubprocessTransport.__del__, {"54b681569063"}),
        (base_subprocess.BaseSubprocessTransport.close, {"927a12875e31", "9d37b8aeadd7", "6df104ffdd51"}),
    ],
    "loop/cleanup.py": [
        (runners.Runner.close, {"b0ae3ea2868f", "c104431018bc"}),
        (runners._cancel_all_tasks, {"61919b3b2bda"}),
    ],
    "loop/runner.py": [
        (runners.Runner.run, {"941e99b00a46", "a07429c852ba"}),
        (runners.Runner._on_sigint, {"aba995f7ee6d"}),
        (base_events._run_until_complete_cb, {"58dbfefd9b87"}),
    ],
    "shims/loop_bound.py": [
        (loop_bound._real_get_loop, {"2648bdcf24fc"}),
    ],
    "shims/signal.py": [
        (unix_events._UnixSelectorEventLoop.add_signal_handler, {"2624cd6ef6aa", "a28ecd8a9d4f"}),
        (unix_events._UnixSelectorEventLoop._handle_signal, {"5b61dd0b06b2"}),
        (unix_events._UnixSelectorEventLoop._process_self_data, {"75a98622aa63"}),
    ],
    "shims/subprocess.py": [
        (spawning._real_execute_child, {"d688e06d8265", "b3cfba1c57f0", "5a789fb7ee3b"}),
        (subprocess.Popen._close_pipe_fds, {"e3f55653927c"}),  # type: ignore[attr-defined]
    ],
    "shims/threading.py": [
        (threads._real_join, {"e2e4013edfe5", "27385742ef48", "b4736363208c"}),
        (threads._real_is_alive, {"17655b8d8ff2", "5a83a3733425", "27f0ba466da5"}),
    ],
}


@pytest.mark.parametrize(
    ("ours", "function", "known"),
    [(ours, *entry) for ours, entries in READ.items() for entry in entries],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_the_code_that_was_read_is_the_code_that_runs(ours: str, function: Callable[..., Any], known: set[str]) -> None:
    assert (Path(simloop.__file__).parent / ours).exists()
    assert shape(function) in known, (
        f"{function.__qualname__} has changed: read it, adapt simloop/{ours}, and add its shape {shape(function)!r}"
    )


def test_a_fresh_loop_has_the_attributes_that_stock_asyncio_sets() -> None:
    class Stock(asyncio.SelectorEventLoop):
        pass

    real = Stock()
    try:
        expected = set(vars(real))
        containers = {name for name, value in vars(real).items() if isinstance(value, (list, dict, set))}
    finally:
        real.close()
    missing: set[str] = set()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        # Made on first use instead.
        missing.update(name for name in expected - {"_transports"} if not hasattr(loop, name))

    simloop.run(main)
    assert not missing
    assert containers <= set(stock._containers), "a container that would be shared between loops"


def test_what_is_touched_is_there() -> None:
    for name in ("_enter_task", "_leave_task", "current_task"):
        assert hasattr(tasks, name)
    assert isinstance(threading._active, dict)  # type: ignore[attr-defined]
    for name in ("_target", "_invoke_excepthook"):
        assert hasattr(threading.Thread(), name)
    assert hasattr(unix_events, "SelectorEventLoop")

    async def main() -> None:
        task = asyncio.current_task()
        for name in ("_fut_waiter", "_log_traceback", "_log_destroy_pending"):
            assert hasattr(task, name), name

    asyncio.run(main())
