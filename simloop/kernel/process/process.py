"""A simulated process, and the states of its life."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from simloop.kernel.descriptors import DescriptorTable, File, Watcher

if TYPE_CHECKING:
    from simloop.kernel.files.calls import FileCalls
    from simloop.kernel.host import Host
    from simloop.kernel.process.pids import PidTable
    from simloop.kernel.run_queue import Runnable


class ProcessGone(BaseException):
    """Exception that unwinds the code of a process that was killed, or whose machine has lost power. Nobody should
    catch it, and nobody needs to: whatever the process calls from then on raises it again."""


class State(IntEnum):
    """State of a process, in the order in which it goes through them. Up to `STOPPED` it is alive."""

    RUNNING = 0
    #: Stopped by SIGSTOP or the like, until SIGCONT.
    STOPPED = 1
    #: It has exited or was killed, and its parent has not waited for it.
    ZOMBIE = 2
    #: It has ended, and nobody can wait for it any more.
    REAPED = 3
    #: Its machine lost power, or its world is over: it left no status.
    POWERED_OFF = 4


_TRANSITIONS: dict[State, tuple[State, ...]] = {
    State.RUNNING: (State.STOPPED, State.ZOMBIE, State.POWERED_OFF),
    State.STOPPED: (State.RUNNING, State.ZOMBIE, State.POWERED_OFF),
    State.ZOMBIE: (State.REAPED,),
    State.REAPED: (),
    State.POWERED_OFF: (),
}
_NO_SIGNALS: frozenset[int] = frozenset()


class Process(DescriptorTable):
    """Simulated process: a host, a pid, descriptors, signal handlers, and its own loop."""

    # Slots for what each turn, start or end of a process looks at: a class's default that some instances replace is ten
    # times as slow to find. What few processes ever have stands here.
    __slots__ = (
        "__dict__", "calls", "children", "environ", "group", "host", "loop", "masked", "name", "notify", "observers",
        "on_kill", "order", "parent", "pid", "session", "signal_handlers", "signals", "started_at", "state", "status",
        "steps", "table",
    )  # fmt: skip

    wakeup_fd = -1
    #: Time at which the last signal with a handler has come.
    caught_ns = 0
    #: Turn at which its loop will have seen all signals that were sent to it so far.
    signals_until = 0
    #: Pending signals: they are masked, or the process is stopped.
    pending: tuple[int, ...] = ()
    #: Number of signal handlers called, and the last exception that one has raised.
    handled = 0
    broken_by: BaseException | None = None
    #: Processors that it may use (sched_setaffinity(2)); None if it has set none.
    affinity: frozenset[int] | None = None
    nice = 0
    #: True while others go first before a call of it.
    preempted = False
    #: Limits that it has set, by number, soft and hard (setrlimit(2)); they limit nothing.
    limits: Mapping[int, tuple[int, int]] = {}
    #: Nanoseconds of processor time that it has spent on looking at clocks.
    looked_ns = 0
    #: Name generator of `tempfile`; None until it is first used.
    temporary_names: Any = None
    #: Files of log handlers that were made before the run; None until one is used.
    log_files: Any = None
    #: Its interval timer; None until it sets one.
    timer: Any = None
    #: Counters of threads and executors, for their ids and their numbered names.
    threads_made = threads_named = executors_named = 0
    #: Functions that are called when its Python ends, as `atexit` has them.
    exit_handlers: tuple[Callable[[], object], ...] = ()

    def __init__(self, host: Host, table: PidTable[Process], pid: int, name: str) -> None:
        super().__init__()
        #: Name in choice points and reports, unique in the world.
        self.name = name
        self.host = host
        self.pid = pid
        #: Processes of its host by pid.
        self.table = table
        #: Its process group and its session (credentials(7)).
        self.group = self.session = pid
        self.loop: Runnable | None = None
        #: Number of callbacks that its loop has run, and a hash of what has arrived at it after how many of them.
        self.steps = 0
        self.order = 0

        #: Its system calls on files; None until the first one.
        self.calls: FileCalls | None = None

        #: Signals that have come, and whose handlers its main thread has still to run.
        self.signals: tuple[int, ...] = ()
        #: Handlers by signal number, as `signal.signal` was given them.
        self.signal_handlers: dict[int, Callable[..., Any] | int | None] = {}
        self.masked: frozenset[int] = _NO_SIGNALS

        #: Process that started it; None if no process waits for it.
        self.parent: Process | None = None
        #: By pid: those that are not reaped.
        self.children: dict[int, Process] = {}
        #: Environment with which another process has started it, as text, or as bytes like in `os.environ`; else None.
        self.environ: dict[Any, Any] | None = None
        #: The line that started it, as ``file:line``.
        self.started_at = "?"

        self.state = State.RUNNING
        #: Called when the process is ended from outside, see `killed`.
        self.on_kill: Callable[[], None] | None = None
        #: Wait status (wait(2)), once its end is visible to others.
        self.status: int | None = None
        #: Makes its end visible at once; set while it has ended and this is due later.
        self.notify: Callable[[], None] | None = None
        #: Watchers to be notified when it has ended.
        self.observers: list[Watcher] = []

    @property
    def alive(self) -> bool:
        """True while the process is running or stopped: it may still do something, if only after a SIGCONT."""
        return self.state <= State.STOPPED

    @property
    def stopped(self) -> bool:
        """True between a signal that stops the process and SIGCONT, and while its machine is paused."""
        return self.state is State.STOPPED

    @property
    def exited(self) -> bool:
        """True for a zombie or a reaped process, which has a wait status or will have one; false after a power loss."""
        return self.state is State.ZOMBIE or self.state is State.REAPED

    def enter(self, state: State) -> None:
        """Change the state of the process. All changes go through here; the transition must be a legal one."""
        assert state in _TRANSITIONS[self.state], f"{self} is {self.state.name}, and cannot become {state.name}"
        self.state = state

    def open(self, file: File) -> int:
        """Allocate a descriptor for `file`: the lowest free one, as POSIX wants it."""
        if not self.alive:
            raise ProcessGone
        return super().open(file)

    def killed(self) -> None:
        """Notify the runner of the process, once, that it was killed."""
        on_kill, self.on_kill = self.on_kill, None
        if on_kill is not None:
            on_kill()

    def lose_power(self) -> None:
        """End the process with its machine or world, without an exit: no descriptor is left, no parent is notified."""
        self.enter(State.POWERED_OFF)
        self.files.clear()
        self.killed()

    def release(self) -> None:
        """Release the pid: nobody can wait for the process any more (release_task() in kernel/exit.c)."""
        self.enter(State.REAPED)
        self.table.pop(self.pid, None)

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.name}>"
