"""Wrappers of the calls of the SQLite library: methods of connections, cursors and blobs.

SQLite holds the mutex of a connection during the whole of a call, while its file operations may wait in virtual time.
Another simulated thread that used the same connection meanwhile would block on that mutex in C, where the simulation
cannot switch to the thread that holds it. So each connection gets a lock of its own around its calls, for which threads
wait in virtual time, and threads are only preempted before a call. No exception can cross C code: an exception that
ends the thread or the run in the middle of a call is stored, and raised when the call returns.
"""

from __future__ import annotations

import functools
import sqlite3
import warnings
import weakref
from _thread import get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simloop.shims import static_types
from simloop.world import active

if TYPE_CHECKING:
    from simloop.kernel.process.process import Process
    from simloop.world.world import World

    # Code that runs: a process that blocks keeps a stack of its own, maybe in the same real thread as others.
    Caller = tuple[int, Process]

#: Types whose methods are replaced.
TYPES = (sqlite3.Connection, sqlite3.Cursor, sqlite3.Blob)
# Called for each row: to be preempted at so many places finds nothing more.
_PER_ROW = ("__next__", "fetchone", "fetchmany")
# interrupt() is for other threads, and takes no mutex.
_FREE = ("__new__", "__enter__", "__getattribute__", "__del__", "interrupt", "cursor", "iterdump")


class Call:
    """Call of the SQLite library in progress, with the exception to raise when it returns, if any."""

    __slots__ = ("error",)

    def __init__(self) -> None:
        self.error: BaseException | None = None


_going_on: dict[Caller, Call] = {}
# By the identity of the connection, which lives as long as the call.
_owners: dict[int, Caller] = {}
# By the identity of a connection, until it is finalized: the simulated process that has opened it.
_processes: dict[int, Process] = {}
# Connections of blobs, by identity.
_of_blobs: weakref.WeakKeyDictionary[sqlite3.Blob, int] = weakref.WeakKeyDictionary()
# Since Python 3.13: it warns of a connection that was not closed.
_finalizes = "__del__" in vars(sqlite3.Connection)


def current(world: World) -> Call | None:
    """Return the call of the SQLite library that is in progress in this thread. None if there is none, as in a
    finalizer: then the caller must not block in virtual time."""
    return _going_on.get((get_ident(), world.current))


# Its position among the arguments of a connection.
_CHECK_SAME_THREAD = 4


def _moves(world: World) -> bool:
    """Return True if the calling process may be resumed in another real thread, which SQLite's `check_same_thread`
    would reject."""
    return world.threads.get(get_ident()) is None and world.current is not world.root and world.scheduler.on_threads


def _method(name: str, real: Any) -> Any:
    entered = active.here if name in _PER_ROW else active.world

    @functools.wraps(real)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        world = entered()
        if world is None or world.reaching_out:
            return real(self, *args, **kwargs)
        if name == "__init__":
            if _finalizes:
                _processes[id(self)] = world.current
            if _moves(world) and len(args) <= _CHECK_SAME_THREAD:
                kwargs["check_same_thread"] = False
        work: Callable[[], Any] = functools.partial(real, self, *args, **kwargs)
        if name == "backup":
            target = args[0] if args else kwargs.get("target")
            work = functools.partial(_locked, world, id(target), work)
        connection = id(self if isinstance(self, sqlite3.Connection) else getattr(self, "connection", self))
        result = _locked(world, _of_blobs.get(self, connection) if isinstance(self, sqlite3.Blob) else connection, work)
        if name == "blobopen":
            _of_blobs[result] = connection
        return result

    return method


def _locked(world: World, connection: int, work: Callable[[], Any]) -> Any:
    caller = get_ident(), world.current
    if _owners.get(connection) == caller:
        return work()
    while connection in _owners:
        world.block(lambda: connection not in _owners)
    call, outer = Call(), _going_on.get(caller)
    _owners[connection], _going_on[caller] = caller, call
    try:
        result = work()
    except BaseException:
        if call.error is None:
            raise
    else:
        if call.error is None:
            return result
    finally:
        del _owners[connection]
        if outer is None:
            del _going_on[caller]
        else:
            _going_on[caller] = outer
    raise call.error from None


def _finalizer(real: Any) -> Any:
    @functools.wraps(real)
    def finalizer(self: Any) -> None:
        process = _processes.pop(id(self), None)
        if process is None or process.alive:
            real(self)
            return
        # A process that is gone could not close it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            real(self)

    return finalizer


@functools.cache
def install() -> None:
    """Replace the methods, once and for good: outside of a world they only call the real ones. Does nothing if types
    written in C cannot be changed."""
    if not static_types.has_flags(sqlite3.Connection):
        return
    for owner in TYPES:
        for name, real in list(vars(owner).items()):
            if callable(real) and name not in _FREE and (owner is sqlite3.Connection or name != "__init__"):
                static_types.put_method(owner, name, _method(name, real))
    if _finalizes:
        static_types.put_method(sqlite3.Connection, "__del__", _finalizer(vars(sqlite3.Connection)["__del__"]))
