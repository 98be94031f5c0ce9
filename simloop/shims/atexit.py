"""Shims of `atexit`: each simulated process has exit handlers of its own, which are called when it ends."""

from __future__ import annotations

import atexit
import functools
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from simloop.shims.late import real
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

F = TypeVar("F", bound=Callable[..., Any])

_real = real("simloop.shims.atexit", atexit)

# Modules that register once for all of the interpreter, whichever process is the first to need them.
_ONCE = ("weakref", "simloop.loop.crashed_tasks")


def _inside() -> World | None:
    """Return the world of the calling code if it runs in a simulated process other than the test itself; else None, and
    the real `atexit` is used."""
    world = active.here()
    return None if world is None or world.current is world.root else world


def register(func: F, /, *args: Any, **kwargs: Any) -> F:
    world = _inside()
    if world is None or getattr(func, "__module__", None) in _ONCE or not callable(func):
        _real["register"](func, *args, **kwargs)
        return func
    world.current.exit_handlers += (functools.partial(func, *args, **kwargs),)
    return func


def unregister(func: Callable[..., Any], /) -> None:
    world = _inside()
    if world is None:
        _real["unregister"](func)
    else:
        process = world.current
        kept = [handler for handler in process.exit_handlers if getattr(handler, "func", None) != func]
        process.exit_handlers = tuple(kept)


def call_handlers(world: World) -> None:
    """Call the exit handlers of the current process, the last registered first. Exceptions that they raise are
    printed."""
    from simloop.kernel.process.process import ProcessGone
    from simloop.kernel.process.threads import ThreadKilled

    process = world.current
    while process.exit_handlers:
        handler, process.exit_handlers = process.exit_handlers[-1], process.exit_handlers[:-1]
        try:
            handler()
        except (ProcessGone, ThreadKilled):
            raise
        except BaseException:
            traceback.print_exc()


REPLACEMENTS: list[tuple[object, str, object]] = [
    (atexit, "register", register),
    (atexit, "unregister", unregister),
]
