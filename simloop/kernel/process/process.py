"""A simulated process, and the states of its life."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from simloop.kernel.descriptors import DescriptorTable, File, Watcher

if TYPE_CHECKING:
    from simloop.kernel.files.calls import FileCalls
    from simloop.kernel.host import Host
    from simloop.kernel.process.pids import PidTable
    from simloop.kernel.scheduler import Runnable


class ProcessGone(BaseException):
    """Exception that unwinds the code of a process that was killed, or whose machine has lost power. Nobody should
    catch it, and nobody needs to: whatever the process calls from then on raises it again."""


class State(IntEnum):
    """State of a process, in the order in which a life goes through them. Up to `STOPPED` it is alive."""

    RUNNING = 0
    #: By SIGSTOP or the like, until SIGCONT.
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

    def __init__(self, host: Host, table: PidTable[Process], pid: int, name: str) -> None:
        super().__init__()
        #: Tells it from the other processes of the world, in point ids and reports.
        self.name = name
        self.host = host
        self.pid = pid
        #: Its host's processes by number.
        self.table = table
        #: Its process group and its session (credentials(7)).
        self.group = self.session = pid
        self.loop: Runnable | None = None
        #: How many callbacks its loop has run; and a hash of what has arrived at it, and after how many each time.
        self.steps = 0
        self.order = 0

        #: Its calls on files, once it has made one.
        self.calls: FileCalls | None = None

        #: Signals that have come, and whose handlers its main thread has still to run.
        self.signals: tuple[int, ...] = ()
        #: Handlers by signal number, as `signal.signal` was given them.
        self.signal_handlers: dict[int, Callable[..., Any] | int | None] = {}
        self.masked: frozenset[int] = _NO_SIGNALS

        #: Who started it; None for those that nobody waits for.
        self.parent: Process | None = None
        self.children: tuple[Process, ...] = ()
        #: What it was started with, if another process has started it: text, or bytes as `os.environ` keeps them.
        self.environ: dict[Any, Any] | None = None
        #: The line that started it, as ``file:line``.
        self.started_at = "?"

        self.state = State.RUNNING
        #: Called when it is ended from outside, see `killed`.
        self.on_kill: Callable[[], None] | None = None
        #: Its status as wait(2) gives it, once that can be seen.
        self.status: int | None = None
        #: Lets it be seen, once it has ended; that happens by itself, too, sooner or later.
        self.notify: Callable[[], None] | None = None
        #: Who is to hear that it has ended.
        self.observers: list[Watcher] = []

    @property
    def alive(self) -> bool:
        """True while it is running or stopped: it may still do something, once SIGCONT comes at the latest."""
        return self.state <= State.STOPPED

    @property
    def stopped(self) -> bool:
        """True between a signal that stops it and SIGCONT."""
        return self.state is State.STOPPED

    @property
    def exited(self) -> bool:
        """True for a zombie or a reaped process, which has or will have a status; not after a power loss."""
        return self.state is State.ZOMBIE or self.state is State.REAPED

    def enter(self, state: State) -> None:
        """Change its state: the one way to do so, by a legal transition."""
        assert state in _TRANSITIONS[self.state], f"{self} is {self.state.name}, and cannot become {state.name}"
        self.state = state

    def open(self, file: File) -> int:
        """Allocate a descriptor for `file`: the lowest free one, as POSIX wants it."""
        if not self.alive:
            raise ProcessGone
        return super().open(file)

    def killed(self) -> None:
        """Tell its runner that it was ended from outside, in the middle of whatever it did."""
        on_kill, self.on_kill = self.on_kill, None
        if on_kill is not None:
            on_kill()

    def lose_power(self) -> None:
        """End with the machine or the world, without an exit: all descriptors are gone, and nobody is told."""
        self.enter(State.POWERED_OFF)
        self.files.clear()
        self.killed()

    def release(self) -> None:
        """Release its pid: nobody can wait for it any more (release_task() in kernel/exit.c)."""
        self.enter(State.REAPED)
        self.table.pop(self.pid, None)

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.name}>"
