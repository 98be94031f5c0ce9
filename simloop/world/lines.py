"""Line events of the interpreter: before each source line of the user's code, the environment may preempt a simulated
thread.

They come from `sys.monitoring`, or from `sys.settrace` before Python 3.12. Only worlds with ``preempt='lines'`` use
them.
"""

from __future__ import annotations

import functools
import sys
from _thread import get_ident
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from simloop.errors import ConfigurationError
from simloop.kernel.process import threads
from simloop.sources import PACKAGE, is_ours
from simloop.sources import is_users as _is_users
from simloop.world import active

_monitoring: Any = getattr(sys, "monitoring", None)
# Those that have no name in `sys.monitoring`.
_TOOLS = (4, 3)
_NAME = "simloop"

is_users = functools.cache(_is_users)
# Simulated calls are made for their thread alone, and no other one may see them half done: code that runs in the middle
# of one, such as `__del__` or `__fspath__`, is not preempted. These are what threads and their callbacks are run by.
_RUNNERS = (f"{PACKAGE}loop/", f"{PACKAGE}shims/threading.py", threads.__file__, __file__)

#: Number of worlds that use the events. There may be several: that of a fixture is suspended while another one runs.
_worlds = 0
_tool: int | None = None


def start() -> None:
    """Enable line events for one more world."""
    global _tool, _worlds
    if _monitoring is not None and _tool is None:
        _tool = next((tool for tool in _TOOLS if _monitoring.get_tool(tool) is None), None)
        if _tool is None:
            raise ConfigurationError("preempt='lines' needs tool 3 or 4 of sys.monitoring, and others use both")
        _monitoring.use_tool_id(_tool, _NAME)
        _monitoring.register_callback(_tool, _monitoring.events.LINE, _reached)
        _monitoring.set_events(_tool, _monitoring.events.LINE)
    _worlds += 1


def stop() -> None:
    """Disable line events, unless another world uses them."""
    global _tool, _worlds
    _worlds -= 1
    if _tool is not None and not _worlds:
        _monitoring.set_events(_tool, 0)
        _monitoring.register_callback(_tool, _monitoring.events.LINE, None)
        _monitoring.free_tool_id(_tool)
        _tool = None


def _reached(code: CodeType, line: int) -> Any:
    """Handle a line event of `sys.monitoring`, in any real thread."""
    if not is_users(code.co_filename):
        return _monitoring.DISABLE
    _may_switch(sys._getframe(1), line)
    return None


def traced(work: Callable[[], Any]) -> Callable[[], Any]:
    """Return `work`, the function of a new thread, wrapped so that it gets line events, if they have to be enabled in
    each thread (`sys.settrace`, before Python 3.12) and the entered world uses them."""
    if _monitoring is not None or active.entered is None or not active.entered.preempts_lines:
        return work

    def run() -> Any:
        before = sys.gettrace()
        sys.settrace(_called)
        try:
            return work()
        finally:
            sys.settrace(before)

    return run


def _called(frame: FrameType, event: str, argument: Any) -> Any:
    return _traced if is_users(frame.f_code.co_filename) else None


def _traced(frame: FrameType, event: str, argument: Any) -> Any:
    if event == "line":
        _may_switch(frame, frame.f_lineno)
    return _traced


def _may_switch(frame: FrameType, line: int) -> None:
    world = active.entered
    if world is not None and world.preempts_lines:
        thread = world.threads.get(get_ident())
        if thread is not None and _is_between_calls(frame):
            code = frame.f_code
            function = code.co_qualname.rpartition("<locals>.")[2]
            thread.may_switch_before(function, line - code.co_firstlineno + 1)


def _is_between_calls(above: FrameType) -> bool:
    """Return True if a frame of the user's code was not called from within a simulated call."""
    frame: FrameType | None = above
    while frame is not None and not is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(_RUNNERS)
