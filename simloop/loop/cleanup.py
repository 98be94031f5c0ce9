"""Cleanup at the end of a run, as in `asyncio.run`, and leak detection that does not depend on the garbage
collector."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Iterator

    from simloop.loop.loop import SimLoop


def shut_down(loop: SimLoop) -> bool:
    """Run all `shutdown_stages` of a loop that is not running. Returns True if there was nothing to do."""
    if loop.is_quiet():
        return True
    loop.run_to_end(shutdown_stages(loop))
    return False


def shutdown_stages(loop: SimLoop, context: contextvars.Context | None = None) -> Iterator[asyncio.Future[Any]]:
    """Yield the stages of `asyncio.Runner.close` before it closes the loop (Lib/asyncio/runners.py): futures that the
    caller runs until they are done, one after another."""
    pending = loop.resources.pending_tasks()
    if pending:
        for task in pending:
            task.cancel()
        yield asyncio.gather(*pending, return_exceptions=True)
        for task in pending:
            if not task.cancelled() and task.exception() is not None:
                loop.call_exception_handler(
                    {
                        "message": "unhandled exception during asyncio.run() shutdown",
                        "exception": task.exception(),
                        "task": task,
                    }
                )
    yield loop.create_task(loop.shutdown_asyncgens(), context=context)
    yield loop.create_task(loop.shutdown_default_executor(300), context=context)


def report_leftovers(loop: SimLoop) -> None:
    """Report leaked objects as asyncio does when the garbage collector finds them: exceptions never retrieved, tasks
    still pending, open transports. The loop has no reference to them afterwards."""
    resources = loop.resources
    for task in resources.live_tasks():
        if not task.done():
            loop.call_exception_handler({"task": task, "message": "Task was destroyed but it is pending!"})
        elif task._log_traceback:
            loop.call_exception_handler(
                {
                    "message": f"{type(task).__name__} exception was never retrieved",
                    "exception": task.exception(),
                    "future": task,
                }
            )
    for transport in resources.open_transports():
        if not transport.is_closing():
            warnings.warn(f"unclosed transport {transport!r}", ResourceWarning, stacklevel=2, source=transport)
            resources.reported.append(getattr(transport, "_pid", None))
    resources.release()


def abandon(loop: SimLoop) -> None:
    """Close a loop at the end of its world, even if one of its turns (iterations) was interrupted."""
    loop.resources.release()
    loop.stop_running()
    loop.close()
