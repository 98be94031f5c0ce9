"""Shim of `importlib`: a module that is imported during a run is executed outside of the world.

A module's code runs once per process, in whichever run comes first. So it runs as if it had been imported before any
run: with the real clock, files and entropy, and without a running loop. No virtual time passes, and the first run is
like any later one. Imports of modules that are loaded already do not come here.

Modules of ours are imported once, even where a test takes back what happened to `sys.modules` meanwhile (by
``mock.patch.dict``): a second copy of one would not know the files and sockets of the first.
"""

from __future__ import annotations

import os
import sys
from asyncio import events, tasks
from collections.abc import Callable
from importlib import _bootstrap as _bootstrap_stub
from importlib import _bootstrap_external
from types import ModuleType
from typing import Any

from simloop.world import active

# The stubs know little of what is in there.
_bootstrap: Any = _bootstrap_stub
_REAL_FIND_AND_LOAD: Any = _bootstrap._find_and_load
# See simloop/loop/turns.py: a module that is imported in a step may run a loop of its own.
_swap_task: Any = tasks._swap_current_task if sys.version_info >= (3, 14) else None  # type: ignore[attr-defined]
_Loader: Any = _bootstrap_external._LoaderBasics  # type: ignore[attr-defined]

#: Function that is called after modules were imported during a run, before the run continues;
#: `simloop.simulation.install` sets it. Its argument is a module that may be missing in `sys.modules`, or None.
on_import: Callable[[ModuleType | None], None] | None = None

_OURS = ("simloop", "pytest_simloop")
#: Modules of ours that were imported since the shims were installed, by name; `simloop.simulation.install` empties it.
loaded: dict[str, Any] = {}


def _in_real_world(real: Callable[..., Any]) -> Any:
    """Return a replacement of `real`, a function that executes modules: it does the same, but outside of the world."""

    def execute(*args: Any) -> Any:
        if not active.is_inside():
            return real(*args)
        known = len(sys.modules)
        module = args[1] if isinstance(args[1], ModuleType) else None
        running = events._get_running_loop()
        task = _swap_task(running, None) if _swap_task is not None and running is not None else None
        events._set_running_loop(None)
        try:
            with active.world_entered(None):
                try:
                    return real(*args)
                finally:
                    if on_import is not None and (module is not None or len(sys.modules) != known):
                        on_import(module)
                    events._set_running_loop(running)
                    if task is not None:
                        _swap_task(running, task)
        except (ModuleNotFoundError, FileNotFoundError) as error:
            _check_written(error)
            raise

    return _without_frame(execute, real)


def _without_frame(execute: Any, real: Callable[..., Any]) -> Any:
    """Return the function `execute`, which replaces the function `real`, with the name of `real`, and such that its own
    frame is left out of tracebacks."""
    execute.__name__ = execute.__qualname__ = real.__name__
    # The interpreter cuts its own frames, and so this one, out of the tracebacks of failed imports, by this name.
    execute.__code__ = execute.__code__.replace(co_filename=_REAL_FIND_AND_LOAD.__code__.co_filename)
    return execute


def _ours_once(real: Callable[..., Any]) -> Any:
    """Return a replacement of `real`, a function that imports modules: it does the same, but modules of ours are never
    imported twice."""

    def find_and_load(name: str, import_: Any) -> Any:
        if name.partition(".")[0] not in _OURS:
            return real(name, import_)
        sys.modules[name] = loaded[name] = loaded.get(name) or real(name, import_)
        return loaded[name]

    return _without_frame(find_and_load, real)


def _check_written(error: ModuleNotFoundError | FileNotFoundError) -> None:
    """Raise `EscapedSimulationError` if an import has failed with `error` because the module's file was written in the
    run, and so exists on the simulated disk only."""
    world = active.here()
    calls = None if world is None else world.current.calls
    if calls is None:
        return  # the process has no files of its own
    if isinstance(error, FileNotFoundError):
        candidates = [os.fsdecode(error.filename)] if isinstance(error.filename, (str, bytes)) else []
    else:
        package, _, name = (error.name or "").rpartition(".")
        places = getattr(sys.modules.get(package), "__path__", ()) if package else sys.path
        candidates = [f"{place or '.'}/{name}{end}" for place in places for end in (".py", "/__init__.py")]
    for path in candidates:
        try:
            written = calls.seen_by_c(path) is None
        except OSError:
            continue
        if written:
            raise active.escape(f"the import of {path}, which was written in the run", "run it with runpy or exec")


REPLACEMENTS: list[tuple[object, str, object]] = [
    # All imports of what is not in sys.modules; `importlib.reload`; loaders that are called by hand.
    (_bootstrap, "_find_and_load", _ours_once(_in_real_world(_REAL_FIND_AND_LOAD))),
    (_bootstrap, "_exec", _in_real_world(_bootstrap._exec)),
    (_Loader, "exec_module", _in_real_world(_Loader.exec_module)),
]
