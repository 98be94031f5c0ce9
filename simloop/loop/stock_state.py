"""Cached copy of the attributes that the stock loop's ``__init__`` sets, which would be too slow to call for every
world."""

from __future__ import annotations

import asyncio
import weakref
from asyncio import unix_events
from collections.abc import Callable, Mapping, Sized
from typing import Any

# time.get_clock_info("monotonic").resolution on Linux.
CLOCK_RESOLUTION = 1e-9


class _NoPipe:
    """Placeholder for asyncio's self-pipe, which a simulated loop does not need, since no other thread has to wake
    it."""

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass


_NO_PIPE = _NoPipe()


# Not `asyncio.SelectorEventLoop`, in whose place a shim may be.
class _StockLoop(unix_events._UnixSelectorEventLoop):
    """Stock asyncio loop that opens no files, from whose attributes after ``__init__`` those of simulated loops are
    copied."""

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = _NO_PIPE

    def _close_self_pipe(self) -> None:
        pass


class _NoSelector:
    """Selector of a loop that never polls."""

    def close(self) -> None:
        pass


class LateSelector:
    """Placeholder for the selector of a simulated loop that has watched no descriptor yet. Whatever else is asked of it
    makes the loop have one."""

    __slots__ = ("candidates", "loop")

    def __init__(self, loop: Any) -> None:
        self.loop = loop

    def get_map(self) -> Mapping[Any, Any]:
        return {}

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop.make_selector(), name)


_constants: dict[str, Any] = {}
_containers: dict[str, Callable[[], Any]] = {}


def set_up_stock(loop: asyncio.SelectorEventLoop) -> None:
    """Set the attributes of `loop` that the stock ``__init__`` would set, without calling it, which would take a third
    of a short run. They are copied from one stock loop; empty containers are created for each loop."""
    if not _constants:
        stock = _StockLoop(_NoSelector())  # type: ignore[arg-type]
        for name, value in vars(stock).items():
            if isinstance(value, (Sized, weakref.WeakSet, weakref.WeakValueDictionary)):
                assert not len(value), f"{name} is not empty in a fresh loop"
                _containers[name] = type(value)
            else:
                _constants[name] = value
        _constants["_clock_resolution"] = CLOCK_RESOLUTION
        # Made by loops that need them, and by their own __init__.
        del _containers["_asyncgens"], _containers["_transports"], _constants["_selector"]
        stock.close()
        # A dictionary that has room for all of them, and is copied whole, is made in half the time of one that grows.
        _constants.update(dict.fromkeys(_containers))
    state = _constants.copy()
    for name, make in _containers.items():
        state[name] = make()
    loop.__dict__ = state
