"""Hosts and processes: a machine with addresses and ports, and what runs on it with its open files."""

from __future__ import annotations

import errno
import heapq
import os
import weakref
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from simloop.kernel.files import FileCalls, FileSystem
    from simloop.kernel.scheduler import Runnable
    from simloop.kernel.tcp import Ports

# Above any number that the real kernel hands out (fs.nr_open is 2**20 by default), so that a simulated
# descriptor that reaches a real system call fails instead of hitting somebody else's file.
FIRST_FD = 1 << 20

IN, OUT, ERR, HUP = 0x1, 0x4, 0x8, 0x10  # POLLIN and so on, as in poll(2)


class ProcessGone(BaseException):
    """Ends what a process is doing when it was killed, or its machine has no power any more. Nobody should catch it,
    and nobody needs to: whatever the process calls from then on raises it again."""


class Watcher(Protocol):
    """Wants to know when a file's mask may have changed."""

    def changed(self) -> None: ...


class Holder(Protocol):
    """An object of the program's that stands for a descriptor."""

    def forget(self) -> None:
        """The world is over: what is still to be done when it is collected shall not be done."""


class File:
    """An open file description: what a descriptor number stands for."""

    #: Whether epoll(7) takes it.
    pollable = True

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        #: How many descriptors stand for it.
        self.descriptors = 0

    def mask(self) -> int:
        """What poll(2) would say: `IN`, `OUT`, `ERR`, `HUP`."""
        raise NotImplementedError

    def close(self) -> None:
        """The last descriptor is gone."""
        raise NotImplementedError

    def left(self, process: Process) -> None:
        """`process` has closed a descriptor of it; it may have others."""

    def changed(self) -> None:
        """Tell whoever watches that the mask may be another."""
        for watcher in self.watchers:
            watcher.changed()


class Host:
    """A simulated machine: a name, two addresses, its TCP ports."""

    def __init__(self, name: str, number: int, ports: Ports) -> None:
        self.name = name
        self.number = number
        self.ports = ports
        #: Its processes by pid, up to when they have been waited for.
        self.processes: dict[int, Process] = {}
        #: The pids of those that were waited for last, and that nobody was given since.
        self.reaped: deque[int] = deque(maxlen=8)
        #: Whether any of its processes has ever led a group other than that of the process that began it all.
        self.has_groups = False
        #: How many pipes were made on it so far.
        self.pipes = 0
        #: Its files, once anybody has asked for them.
        self.fs: FileSystem | None = None
        #: Whether it has power.
        self.up = True

    @cached_property
    def ipv4(self) -> str:
        return f"10.0.{self.number >> 8}.{self.number & 255}"

    @cached_property
    def ipv6(self) -> str:
        return f"fd00::{self.number:x}"

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.ipv4}>"


_NONE: frozenset[int] = frozenset()


class Process:
    """A simulated process: a host, a pid, open files, signal handlers, and its own loop."""

    # Slots for what each turn, start or end of a process looks at: a class's default that some instances replace is ten
    # times as slow to find. What few processes ever have stands here.
    __slots__ = (
        "__dict__", "_free", "_next_fd", "calls", "children", "dead", "ended", "environ", "files", "group", "holders",
        "host", "inheritable", "kept", "loop", "masked", "name", "notify", "observers", "on_death", "order", "parent",
        "pid", "session", "signal_handlers", "signals", "started_at", "status", "steps", "stopped",
    )  # fmt: skip

    wakeup_fd = -1
    #: When a signal with a handler has come last.
    caught_ns = 0
    #: The turn in which its loop has seen all that it has looked at so far.
    signals_until = 0
    #: Signals that wait for being let in, since they are masked or the process is stopped.
    pending: tuple[int, ...] = ()
    #: How many handlers have been called, and what the last one that raised anything has raised.
    handled = 0
    broken_by: BaseException | None = None
    #: The processors that it may use, if it has said so.
    affinity: frozenset[int] | None = None
    nice = 0
    #: tempfile's generator of names, once it has made any.
    temporary_names: Any = None
    #: Its interval timer, once it has set one.
    timer: Any = None

    def __init__(self, host: Host, pid: int, name: str) -> None:
        #: Tells it from the other processes of the world, in point ids and reports.
        self.name = name
        self.host = host
        self.pid = pid
        #: Its process group and its session (credentials(7)).
        self.group = self.session = pid
        self.loop: Runnable | None = None
        #: How many callbacks its loop has run; and a hash of what has arrived at it, and after how many each time.
        self.steps = 0
        self.order = 0

        self.files: dict[int, File] = {}
        self._free: list[int] = []
        self._next_fd = FIRST_FD
        #: Objects by the descriptor that they stand for, as long as they live.
        self.holders: dict[int, weakref.ref[Holder]] = {}
        #: Others who want to know when the world is over.
        self.kept: list[Holder] = []
        #: Descriptors without FD_CLOEXEC.
        self.inheritable: set[int] = set()
        #: Its calls on files, once it has made one.
        self.calls: FileCalls | None = None

        #: Signals that have come, and whose handlers its main thread has still to run.
        self.signals: tuple[int, ...] = ()
        #: Handlers by signal number, as `signal.signal` was given them.
        self.signal_handlers: dict[int, Callable[..., Any] | int | None] = {}
        self.masked: frozenset[int] = _NONE
        #: By a signal, until SIGCONT.
        self.stopped = False

        #: Who started it; None for those that nobody waits for.
        self.parent: Process | None = None
        self.children: tuple[Process, ...] = ()
        #: What it was started with, if another process has started it: text, or bytes as `os.environ` keeps them.
        self.environ: dict[Any, Any] | None = None
        #: The line that started it, as ``file:line``.
        self.started_at = "?"

        #: It was killed, or its machine has lost power: it never does anything again.
        self.dead = False
        #: Called when it dies.
        self.on_death: Callable[[], None] | None = None
        #: Whether it has ended, and its status as wait(2) gives it once that can be seen.
        self.ended = False
        self.status: int | None = None
        #: Lets it be seen, once it has ended; that happens by itself, too, sooner or later.
        self.notify: Callable[[], None] | None = None
        #: Who is to hear that it has ended.
        self.observers: list[Watcher] = []

    def open(self, file: File) -> int:
        """A descriptor for `file`: the lowest free one, as POSIX wants it."""
        if self.dead:
            raise ProcessGone
        if self._free:
            fd = heapq.heappop(self._free)
        else:
            fd = self._next_fd
            self._next_fd += 1
        self.files[fd] = file
        file.descriptors += 1
        return fd

    def open_as(self, fd: int, file: File) -> None:
        """Let `fd` stand for `file`, whatever it stood for before: dup2(2)."""
        if fd in self.files:
            self.close(fd)
        for number in range(self._next_fd, fd + 1):
            heapq.heappush(self._free, number)
        self._next_fd = max(self._next_fd, fd + 1)
        self._free.remove(fd)
        heapq.heapify(self._free)
        self.files[fd] = file
        file.descriptors += 1

    def inherit(self, fd: int, file: File) -> None:
        """What its parent has left open for it."""
        if fd >= FIRST_FD:
            self.open_as(fd, file)
        else:
            self.files[fd] = file
            file.descriptors += 1
        self.inheritable.add(fd)

    def close(self, fd: int) -> None:
        file = self.files.pop(fd, None)
        if file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        heapq.heappush(self._free, fd)
        self.inheritable.discard(fd)
        file.descriptors -= 1
        file.left(self)
        if not file.descriptors:
            file.close()

    def die(self) -> None:
        """Its machine has lost power: all that it has open is gone, and nobody was told."""
        self.dead = True
        self.files.clear()
        on_death, self.on_death = self.on_death, None
        if on_death is not None:
            on_death()

    def vanish(self) -> None:
        """Nobody can wait for it any more."""
        self.host.processes.pop(self.pid, None)

    def forget_holders(self) -> None:
        """Nothing that still stands for a descriptor may do anything any more."""
        for reference in self.holders.values():
            held = reference()
            if held is not None:
                held.forget()
        self.holders.clear()
        for holder in self.kept:
            holder.forget()
        self.kept.clear()

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.name}>"
