"""Real threads and locks of the interpreter, for the simulation's own use. This module is imported before any shim is
installed, and so keeps the real functions."""

from __future__ import annotations

import _thread
import contextlib
import sys

# Locks of a run wait in virtual time (simloop/shims/locks.py).
real_acquire = _thread.LockType.acquire
real_start = _thread.start_new_thread

#: Identifiers of real threads that are the simulation's own.
outsiders: set[int] = set()


class _Seen(BaseException):
    """Exception that a thread raises in itself, to clear a flag of CPython 3.11 (see `raise_in`)."""


def raise_in(ident: int, error: type[BaseException]) -> None:
    """Raise an exception in the real thread `ident`, as soon as it next executes Python code."""
    import ctypes

    def send(ident: int, error: type[BaseException]) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(error))

    send(ident, error)
    if sys.version_info < (3, 12):
        # Until it is seen, CPython 3.11 has a mark for all threads, at which code that is traced never goes on
        # (DO_TRACING in Python/ceval.c). Whoever sees one of its own takes the mark away.
        with contextlib.suppress(_Seen):
            send(_thread.get_ident(), _Seen)
