"""Call stacks that can be suspended in the middle of a call and switch to one another (symmetric coroutines). One of
them runs at a time.

They are greenlets, which switch in less than a microsecond, or threads. Threads are used if greenlet is not installed,
and under a tracer, such as that of coverage.py or a debugger, which keeps records per thread.
"""

from __future__ import annotations

import _thread
import functools
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any, Protocol

from simloop.kernel.process.real_threads import real_acquire, real_start

#: So many greenlets a thread keeps: most worlds need one or two.
KEPT_GREENLETS = 4

#: Stacks whose thread is being started: such a thread is the simulation's own, so it is not reported as an escape.
starting: list[Stack] = []


class Stack(Protocol):
    """Structural type of a call stack that can be suspended and resumed."""

    def switch(self) -> object:
        """Suspend the calling stack and resume this one. Returns when another stack switches back to the caller."""


class Stacks(Protocol):
    """Structural type of the call stacks of one world. The stack that makes this object is the main one."""

    def current(self) -> Stack:
        """Return the stack that executes this call."""

    def new(self, function: Callable[[], None]) -> Stack:
        """Return a new stack, which calls `function` when it is first switched to. When `function` returns, the main
        stack is resumed."""


class Greenlets:
    """Implementation of `Stacks` in which each call stack is a greenlet, all of them in one real thread: that which
    made the object. A greenlet that has ended is used again, also by the next world of that thread, since making one
    costs a system call (mmap)."""

    def __init__(self, greenlet: Any) -> None:
        self._greenlet = greenlet
        self._main = greenlet.getcurrent()

    def current(self) -> Stack:
        stack: Stack = self._greenlet.getcurrent()
        return stack

    def new(self, function: Callable[[], None]) -> Stack:
        if self._main.parent is not None:
            stack: Stack = self._greenlet.greenlet(function, self._main)
            return stack
        kept = _kept.greenlets.pop() if _kept.greenlets else _KeptGreenlet(self._greenlet, self._main)
        return kept.use_for(function)


class _KeptGreenlet:
    """Greenlet that calls one function after another. Its parent is the main greenlet of its thread, to which it
    switches in between."""

    __slots__ = ("_function", "_main", "_stack")

    def __init__(self, greenlet: Any, main: Any) -> None:
        self._main = main
        self._stack = greenlet.greenlet(self._run, main)
        self._function: Callable[[], None] | None = None

    def use_for(self, function: Callable[[], None]) -> Stack:
        """Return the greenlet. It calls `function` when it is next switched to, in an empty context, as a new one."""
        self._function = function
        self._stack.gr_context = None
        stack: Stack = self._stack
        return stack

    def _run(self) -> None:
        while self._function is not None:
            self._function()
            self._function = None
            if len(_kept.greenlets) < KEPT_GREENLETS:
                _kept.greenlets.append(self)
                self._main.switch()


class _Kept(threading.local):
    """Greenlets of each thread that wait for a function."""

    def __init__(self) -> None:
        self.greenlets: list[_KeptGreenlet] = []


_kept = _Kept()


class Threads:
    """Implementation of `Stacks` by one real thread per stack. Their identifiers are keys of `known`, and `threading`
    takes each of them for the main thread."""

    def __init__(self, known: dict[int, Any]) -> None:
        self._known = known
        self._main = self._current = _ThreadStack(self, None)

    def current(self) -> Stack:
        return self._current

    def new(self, function: Callable[[], None]) -> Stack:
        return _ThreadStack(self, function)

    def go_on(self, stack: _ThreadStack) -> None:
        """Resume `stack`, or start it; the calling stack must then suspend itself."""
        self._current = stack
        if stack.function is None:
            stack.ready.release()
        else:
            function, stack.function = stack.function, None
            starting.append(stack)
            try:
                real_start(self._run, (function, threading.gettrace()))
            finally:
                starting.pop()

    def _run(self, function: Callable[[], None], tracer: Any) -> None:
        ident = _thread.get_ident()
        self._known[ident] = None
        threading._active[ident] = threading.main_thread()  # type: ignore[attr-defined]
        sys.settrace(tracer)
        try:
            function()
        finally:
            sys.settrace(None)
            del threading._active[ident]  # type: ignore[attr-defined]
            self._known.pop(ident, None)
            self.go_on(self._main)


class _ThreadStack:
    def __init__(self, stacks: Threads, function: Callable[[], None] | None) -> None:
        self._stacks = stacks
        self.function = function
        self.ready = _thread.allocate_lock()
        real_acquire(self.ready)

    def switch(self) -> None:
        before = self._stacks.current()
        assert isinstance(before, _ThreadStack)
        self._stacks.go_on(self)
        try:
            real_acquire(before.ready)
        except KeyboardInterrupt:
            # It comes to Python's main thread, whichever stack runs: one at a time, also then.
            real_acquire(before.ready)
            raise


@functools.cache
def _greenlet() -> Any:
    """Return the module `greenlet`, or None if it is not installed."""
    try:
        return import_module("greenlet")
    except ImportError:
        return None


def make_stacks(known: dict[int, Any]) -> Stacks:
    """Return the call stacks of a world: greenlets if possible, otherwise threads. `known` has the world's threads by
    their real identifiers."""
    greenlet = _greenlet() if sys.gettrace() is None else None
    if greenlet is not None:
        return Greenlets(greenlet)
    return Threads(known)


def is_suspended(frame: FrameType) -> bool:
    """Return True if `frame`, the innermost frame of a thread, is that of a suspended stack."""
    return frame.f_code.co_filename == __file__
