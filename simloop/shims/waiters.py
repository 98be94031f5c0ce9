"""Threads of asyncio's own that do nothing but wait for a child, without a thread.

ThreadedChildWatcher, which is what asyncio has up to Python 3.11, starts one for each subprocess. What that thread runs
has no effect before its waitpid(2) comes back, and calls nothing of the program's after it but handlers of `logging`.
So nobody can tell who runs it: it is run in one go by whoever runs the world, once waitpid would not block. A real
thread and its hand-overs would cost more than all the rest of a simulated process.

Such threads are not among those of `threading.enumerate`. A handler of `logging` that blocks stops the loop.
"""

from __future__ import annotations

import os
import threading
import weakref
from _thread import get_ident
from asyncio import events, unix_events
from contextvars import Context
from typing import Any

from simloop.errors import SimulationError
from simloop.kernel.process.delays import later
from simloop.kernel.process.exits import find_child
from simloop.kernel.process.process import Process, ProcessGone
from simloop.shims import processes
from simloop.world import active
from simloop.world.world import World

# As they are before anybody puts something of his own there, which would run in the thread, too.
_Thread: Any = threading.Thread
_run, _bootstrap = _Thread.run, _Thread._bootstrap
_do_waitpid = getattr(getattr(unix_events, "ThreadedChildWatcher", None), "_do_waitpid", None)  # up to Python 3.13
_waitpid = next(shim for owner, name, shim in processes.REPLACEMENTS if owner is os and name == "waitpid")
_threading: Any = threading


def only_waits(function: Any) -> bool:
    """Whether `function` is how a thread begins that is all asyncio's own, and waits for a child."""
    thread: Any = getattr(function, "__self__", None)
    if type(thread) is not _Thread or getattr(thread._target, "__func__", thread) is not _do_waitpid:
        return False
    if function.__func__ is not _bootstrap or getattr(thread.run, "__func__", None) is not _run:
        return False
    args = thread._args
    return os.waitpid is _waitpid and len(args) == 4 and type(args[1]) is int and args[1] > 0


class Waiter:
    """Stands for such a thread.

    It is also what the interpreter would have for `threading` to ask: the lock that a running thread holds (up to
    Python 3.12), the handle of a thread (since 3.13). So `join` and `is_alive` are threading's own.
    """

    def __init__(self, world: World, thread: Any) -> None:
        self._world = world
        self._process = world.current
        self._thread = thread
        self._pid: int = thread._args[1]
        #: The child that it waits for, as long as there is one.
        self.child = self._find()
        #: It has come to its end, or its world has.
        self.over = False

    def start(self) -> int:
        thread, process = self._thread, self._process
        # An address, as those of real threads are (pthread_self(3)).
        thread._ident = id(self)
        if hasattr(thread, "_handle"):
            thread._handle = self
        else:
            thread._tstate_lock = self
        process.holders[-id(self)] = weakref.ref(self)
        who = f"{process.name} thread"
        # Thread.start() comes back once a thread runs. So this one does by then, and may be late for its waitpid.
        later(process, self._world.scheduler, "thread.start", who, self, self._ask, 0, shares=False)
        _threading._limbo.pop(thread, None)
        thread._started.set()
        return id(self)

    def _find(self) -> Process | None:
        return next((child for child in self._process.children if child.pid == self._pid), None)

    def _ask(self) -> None:
        """The thread calls waitpid: now if that does not block, else once it does not."""
        process = self._process
        if not process.alive:
            return  # it stays where it is
        if process.stopped:
            self._world.scheduler.when(lambda: not process.stopped, self._ask)
        elif self._blocks():
            child = self.child
            if child is None or child.parent is not process:
                self.child = child = self._find()
            assert child is not None
            child.observers.append(self)
        else:
            self._run()

    def changed(self) -> None:
        """The child can be waited for, by whoever comes first."""
        scheduler = self._world.scheduler
        scheduler.at(scheduler.clock.now, self._ask)

    def _blocks(self) -> bool:
        child = self.child
        if child is not None and child.parent is self._process and (not child.exited or child.status is not None):
            return child.status is None  # as it is for most
        previous, self._world.current = self._world.current, self._process
        try:
            return find_child(self._process, self._pid, asked=True) is None
        except ChildProcessError:
            return False
        finally:
            self._world.current = previous

    def _run(self) -> None:
        """What a thread would do, seen from inside as from a thread of its own: by its name, by what runs in it, and by
        its context, which is empty, and which the callbacks that it queues inherit."""
        world, thread, here = self._world, self._thread, get_ident()
        previous, world.current = world.current, self._process
        running = events._get_running_loop()
        events._set_running_loop(None)
        main, _threading._active[here] = threading.current_thread(), thread
        try:
            Context().run(thread.run)
        except (SimulationError, KeyboardInterrupt):
            raise  # they concern the run, and the person at the keyboard
        except ProcessGone:
            pass
        except BaseException:
            thread._invoke_excepthook(thread)
        finally:
            _threading._active[here] = main
            events._set_running_loop(running)
            world.current = previous
            self._process.holders.pop(-id(self), None)
            self._end()

    def forget(self) -> None:
        """Its world is over. The watcher that has started it is not: it belongs to the interpreter."""
        thread = self._thread
        threads = getattr(thread._target.__self__, "_threads", {})
        if threads.get(self._pid) is thread:
            del threads[self._pid]
        # As run() ends: what it was to do knows all of the run.
        del thread._target, thread._args, thread._kwargs
        self._end()

    def _end(self) -> None:
        self.over = True
        self._thread = None

    # --- for threading ----------------------------------------------------------------------------------

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if blocking and not self.over and active.world() is self._world:
            self._world.block(lambda: self.over, None if timeout < 0 else timeout)
        return self.over

    def release(self) -> None:
        pass

    def locked(self) -> bool:
        return not self.over

    def is_done(self) -> bool:
        return self.over

    def join(self, timeout: float | None = None) -> None:
        self.acquire(timeout=-1 if timeout is None else timeout)
