"""Simulated process, and its states from start to end."""

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
    """Exception that unwinds the code of a process that was killed, or whose machine has lost power. It need not be
    caught, and catching it does not help: every further call of the process raises it again."""


class State(IntEnum):
    """State of a process, in the order of its life. It is alive in `RUNNING` and `STOPPED`."""

    RUNNING = 0
    #: Stopped by a signal such as SIGSTOP until SIGCONT, or paused with its machine.
    STOPPED = 1
    #: Exited or killed, but not yet waited for by its parent.
    ZOMBIE = 2
    #: Ended, and waited for: it has no pid any more.
    REAPED = 3
    #: Ended without a wait status: its machine lost power, or its world is over.
    POWERED_OFF = 4


_TRANSITIONS: dict[State, tuple[State, ...]] = {
    State.RUNNING: (State.STOPPED, State.ZOMBIE, State.POWERED_OFF),
    State.STOPPED: (State.RUNNING, State.ZOMBIE, State.POWERED_OFF),
    State.ZOMBIE: (State.REAPED,),
    State.REAPED: (),
    State.POWERED_OFF: (),
}
# What is asked in each run: on Python 3.11 it takes longer to find a member in its class than to compare it.
_RUNNING, _STOPPED, _ZOMBIE, _REAPED = State.RUNNING, State.STOPPED, State.ZOMBIE, State.REAPED
_NO_SIGNALS: frozenset[int] = frozenset()


class Process(DescriptorTable):
    """Simulated process: a host, a pid, descriptors, signal handlers, and an event loop of its own."""

    # Slots for what each turn, start or end of a process looks at: a class's default that some instances replace is ten
    # times as slow to find. What few processes ever have stands here.
    __slots__ = (
        "__dict__", "calls", "children", "environ", "group", "host", "loop", "masked", "name", "notify", "observers",
        "on_kill", "order", "parent", "pid", "session", "signal_handlers", "signals", "started_at", "state", "status",
        "steps", "table", "waits",
    )  # fmt: skip

    wakeup_fd = -1
    #: Time in nanoseconds at which the last signal with a handler was generated.
    caught_ns = 0
    #: Number of the turn by which its loop will have seen all signals sent to it so far.
    signals_until = 0
    #: Pending signals, which are masked, or were sent while the process was stopped.
    pending: tuple[int, ...] = ()
    #: Number of signal handlers called so far, and the last exception that one of them raised.
    handled = 0
    broken_by: BaseException | None = None
    #: Processors that it may use (sched_setaffinity(2)); None if it has not set them.
    affinity: frozenset[int] | None = None
    nice = 0
    #: True while it is preempted: others run before its next call.
    preempted = False
    #: Resource limits that it has set, as (soft, hard) by number (setrlimit(2)); they are not enforced.
    limits: Mapping[int, tuple[int, int]] = {}
    #: Processor time in nanoseconds that it has spent on reading clocks.
    looked_ns = 0
    #: Its name generator of `tempfile`; None until it is first used.
    temporary_names: Any = None
    #: Its files for log handlers that were made before the run; None until one is used.
    log_files: Any = None
    #: Its interval timer (setitimer(2)); None until it sets one.
    timer: Any = None
    #: Counters of its threads and executors, from which ids and default names such as "Thread-1" are made.
    threads_made = threads_named = executors_named = 0
    #: Functions to be called when its interpreter exits (`atexit`).
    exit_handlers: tuple[Callable[[], object], ...] = ()

    def __init__(self, host: Host, table: PidTable[Process], pid: int, name: str) -> None:
        super().__init__()
        #: Name in choice points and reports, unique in the world.
        self.name = name
        self.host = host
        self.pid = pid
        #: Table of all processes of its host, by pid.
        self.table = table
        #: Ids of its process group and its session (credentials(7)).
        self.group = self.session = pid
        self.loop: Runnable | None = None
        #: Number of callbacks that its loop has run, and a hash of its arrivals and of the number of callbacks before
        #: each.
        self.steps = 0
        self.order = 0
        self.waits = 0

        #: Object that makes its system calls on files; None until the first one.
        self.calls: FileCalls | None = None

        #: Signals that were delivered, and whose handlers its main thread has yet to call.
        self.signals: tuple[int, ...] = ()
        #: Handlers that were set by `signal.signal`, by signal number.
        self.signal_handlers: dict[int, Callable[..., Any] | int | None] = {}
        self.masked: frozenset[int] = _NO_SIGNALS

        #: Process that started it; None if no process waits for it.
        self.parent: Process | None = None
        #: Child processes that are not reaped, by pid.
        self.children: dict[int, Process] = {}
        #: Environment given by the process that started it, as text or as bytes; None if it was given none.
        self.environ: dict[Any, Any] | None = None
        #: Source line that started it, as ``file:line``.
        self.started_at = "?"

        self.state = _RUNNING
        #: Function to be called when the process is ended from outside, see `killed`.
        self.on_kill: Callable[[], None] | None = None
        #: Wait status (wait(2)) once its end is visible to others; None before.
        self.status: int | None = None
        #: Function that makes its end visible at once; None unless it has ended and its end is not visible yet.
        self.notify: Callable[[], None] | None = None
        #: Watchers to be notified when its end becomes visible, such as pidfds.
        self.observers: list[Watcher] = []

    @property
    def alive(self) -> bool:
        """True while the process is running or stopped (a stopped one may be continued)."""
        return self.state <= _STOPPED

    @property
    def stopped(self) -> bool:
        """True between a signal that stops the process and SIGCONT, and while its machine is paused."""
        return self.state is _STOPPED

    @property
    def exited(self) -> bool:
        """True for a zombie or a reaped process, whose wait status is set or will be; False after a power loss."""
        return self.state is _ZOMBIE or self.state is _REAPED

    def enter(self, state: State) -> None:
        """Change the state of the process. Every change is made by this method; the transition must be a legal one."""
        assert state in _TRANSITIONS[self.state], f"{self} is {self.state.name}, and cannot become {state.name}"
        self.state = state

    def open(self, file: File) -> int:
        """Allocate the lowest free descriptor, as POSIX demands, let it refer to `file`, and return it."""
        if not self.alive:
            raise ProcessGone
        return super().open(file)

    def killed(self) -> None:
        """Call `on_kill`, at most once, to notify the runner of the process that it was killed."""
        on_kill, self.on_kill = self.on_kill, None
        if on_kill is not None:
            on_kill()

    def lose_power(self) -> None:
        """End the process with its machine or world, without an exit: its descriptors are dropped, its parent is not
        notified."""
        self.enter(State.POWERED_OFF)
        self.files.clear()
        self.killed()

    def release(self) -> None:
        """Release the pid, since the process was waited for, or nobody will (release_task() in kernel/exit.c)."""
        self.enter(State.REAPED)
        self.table.pop(self.pid, None)

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.name}>"
