"""Runner of the test's own process: `asyncio.run` with a simulated loop. Other processes, which run turn by turn while
this one waits, are run by `simloop.loop.process_runner`."""

from __future__ import annotations

import asyncio
import contextvars
import signal  # constants only
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

from simloop.errors import ConfigurationError, ProcessEndedError
from simloop.loop.cleanup import report_leftovers, shut_down

if TYPE_CHECKING:
    from simloop.loop.loop import SimLoop

T = TypeVar("T")
Main = Callable[[], Coroutine[Any, Any, T]]


def coroutine_for(main: Main[T]) -> Coroutine[Any, Any, T]:
    """Return the coroutine of ``main()``. Raises `ConfigurationError` if `main` is not an async function."""
    if not callable(main):
        raise ConfigurationError(f"expected an async function of no arguments, not {main!r}")
    coro = main()
    if type(coro) is not CoroutineType and not asyncio.iscoroutine(coro):
        if isinstance(coro, Awaitable) and hasattr(coro, "close"):
            coro.close()
        raise ConfigurationError(f"expected an async function, but {main!r} returned {type(coro).__name__}")
    return coro


def run_main(loop: SimLoop, main: Main[T]) -> T:
    """Run ``main()`` in the test's own process, as `asyncio.run` does, then shut down and close the loop. Returns the
    result."""
    task = loop.create_main(coroutine_for(main), contextvars.copy_context())
    try:
        value: T = loop.run_to_end((task,))
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        if loop.was_interrupted(task) or (error is loop.process.broken_by and isinstance(error, KeyboardInterrupt)):
            raise ProcessEndedError("SIGINT has ended the test itself", -signal.SIGINT) from error
        raise
    finally:
        was_quiet = shut_down(loop)
    if not was_quiet:
        report_leftovers(loop)
    loop.close()
    return value
