"""World: the hosts, processes and network of one run. It knows the current process, and lets it block until something
happens."""

from __future__ import annotations

import _thread
import functools
import re
import signal as _signal  # constants only
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from simloop.choices.choices import generator
from simloop.errors import ConfigurationError, SimulationError, StepLimitError
from simloop.kernel.clock import WALL_NS
from simloop.kernel.host import LOCALHOST, Host
from simloop.kernel.process.process import Process, ProcessGone
from simloop.kernel.process.table import ProcessTable
from simloop.kernel.scheduler import DEFAULT_MAX_STALL, DEFAULT_MAX_TIME, Scheduler

if TYPE_CHECKING:
    from random import Random

    from simloop.choices.choices import Choices
    from simloop.kernel.files.calls import FileCalls
    from simloop.kernel.files.filesystem import FileSystem
    from simloop.kernel.files.lower import LowerLayer
    from simloop.kernel.process.threads import SimThread
    from simloop.network.network import Network
    from simloop.world.observer import Observer
    from simloop.world.outside import OutsideSignal
    from simloop.world.userland import Userland

E = TypeVar("E", bound=SimulationError)

# RFC 1123, and underscores, which containers like to have.
_HOST_NAME = r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?"
DEFAULT_MAX_STEPS = 1_000_000
#: Number of processors that `os.cpu_count` returns in every world, so that pool sizes do not depend on the real
#: machine.
CPU_COUNT = 4


class World:
    """Simulated world of one run: everything that its event loops run on."""

    __slots__ = (
        "_lower", "_network", "_programs", "_random", "_start_ns", "cancel_own", "cancellations", "choices", "current",
        "escape", "hosts", "jobs_numbered", "last_step", "max_steps", "observer", "outside_signals", "preempts_lines",
        "processes", "processors", "profile", "reaching_out", "root", "scheduler", "steps", "switches", "threads",
        "userland",
    )  # fmt: skip

    def __init__(
        self,
        choices: Choices,
        userland: Userland | None = None,
        profile: str = "cpython",
        max_steps: int = DEFAULT_MAX_STEPS,
        max_time: float = DEFAULT_MAX_TIME,
        max_stall: float = DEFAULT_MAX_STALL,
        cancel_own: bool = False,
        preempts_lines: bool = False,
        start_ns: int = WALL_NS,
    ) -> None:
        if userland is None:
            from simloop.world.userland import NoUserland

            userland = NoUserland()
        self.choices = choices
        self.profile = profile
        self.max_steps = max_steps
        #: Number of steps after which a loop or thread raises `error_at_end`: `max_steps`, or 0 after an escape.
        self.last_step = max_steps
        #: True if the environment may cancel the tasks that the test function itself creates.
        self.cancel_own = cancel_own
        #: True if threads may be preempted between source lines of the user's code (simloop/world/lines.py).
        self.preempts_lines = preempts_lines
        #: Signals that the environment may send, see `Sim.may_signal`.
        self.outside_signals: tuple[OutsideSignal, ...] = ()
        #: Number of tasks that the environment has cancelled so far.
        self.cancellations = 0
        self.steps = 0
        self.threads: dict[int, SimThread | None] = {_thread.get_ident(): None}
        self.scheduler = Scheduler(choices, userland.deadlock, userland.activity, max_time, max_stall, self.threads)
        self._start_ns = start_ns
        self._network: Network | None = None
        self.hosts: dict[str, Host] = {}
        self.userland = userland
        self._programs: Any = None
        self.processes = ProcessTable(choices)
        self.root = self.processes.add(self._add_host(LOCALHOST))
        #: Process whose code runs now. Everything that depends on the calling process uses this.
        self.current: Process = self.root
        self.reaching_out = False
        #: Observer that is notified of everything that happens, set by `watch`; None if the run is not traced.
        self.observer: Observer | None = None
        self._random: Random | None = None
        self._lower: LowerLayer | None = None
        #: Preemptions of processes, `simloop.world.switches.Switches`; None as long as there is only one process.
        self.switches: Any = None
        #: Real processors that the calling thread may use, while it is bound to one (`bind_to_processor`).
        self.processors: Collection[int] | None = None
        #: Number of jobs that executors have started, by the prefix of their threads' names.
        self.jobs_numbered: dict[str, int] = {}
        #: Error for the first use of the real system, with which the run fails even if it was swallowed; None if there
        #: was none.
        self.escape: SimulationError | None = None

    @property
    def random(self) -> Random:
        """Random generator behind the functions of the module `random`."""
        if self._random is None:
            self._random = generator(self.choices.entropy.getrandbits(64))
        return self._random

    @property
    def network(self) -> Network:
        """Network between the hosts, imported by the first run that uses it."""
        if self._network is None:
            from simloop.network.network import Network

            self._network = Network(self.scheduler, self.hosts)
        return self._network

    @property
    def programs(self) -> Any:
        """Table of the world's simulated executables, see `Userland.programs`."""
        if self._programs is None:
            self._programs = self.userland.programs(self)
        return self._programs

    def add_process(self, host: Host, program: str | None = None) -> Process:
        """Return a new process on `host` that runs `program`, or a function of the test itself if that is None."""
        return self.processes.add(host, program)

    def end(self, process: Process, status: int, *, at_once: bool = False) -> None:
        """End `process` with a wait status (wait(2)), because it has called exit(2) or was killed. If `at_once` is
        True, its parent is notified without a delay."""
        if process is not self.root:
            from simloop.kernel.process.exits import end

            end(process, status, self.scheduler, self._child_ended, at_once=at_once)

    def _child_ended(self, parent: Process) -> None:
        self.userland.send(self, parent, _signal.SIGCHLD)

    def host(self, name: str) -> Host:
        """Return the host with this name, and create it if there is none yet."""
        if not isinstance(name, str) or not re.fullmatch(_HOST_NAME, name):
            raise ConfigurationError(f"{name!r} cannot be the name of a host")
        return self.hosts.get(name) or self._add_host(name)

    def _add_host(self, name: str) -> Host:
        self.hosts[name] = host = Host(name, len(self.hosts) + 1, self.scheduler, self._start_ns)
        return host

    def watch(self, observer: Observer) -> None:
        """Set the observer of the run, which is notified of everything that happens from now on. Must be called before
        the first loop is created."""
        self.observer = self.choices.observer = observer

    def block(
        self,
        done: Callable[[], bool],
        timeout: float | None = None,
        *,
        warn: bool = True,
        is_blocked: Callable[[], bool] | None = None,
    ) -> bool:
        """Block the calling code until ``done()`` is True, or for `timeout` virtual seconds. Returns the last value of
        ``done()``. `warn` is False for calls without an async counterpart, which cause no `BlockingCallWarning`.
        ``is_blocked()``, if given, returns the opposite of ``done()`` in less time (see `Scheduler.when`)."""
        process = self.current
        if not process.alive:
            self.stop()
        deadline = None if timeout is None else self.scheduler.clock.now + max(0, round(timeout * 1e9))

        def done_here() -> bool:
            # It is asked in the middle of other processes' turns, and may look at the descriptors of its own.
            previous = self.current
            if previous is process:
                return done()
            self.current = process
            try:
                return done()
            finally:
                self.current = previous

        thread = self.threads.get(_thread.get_ident())
        if thread is not None:
            return thread.park(done_here, deadline, is_blocked)
        for outside in self.outside_signals:
            outside.ask_in_call(process, self.choices)
        began = self.scheduler.clock.now
        try:
            came = self.wait(process, done_here, deadline)
        finally:
            self.current = process
        if self.observer is not None:
            self.observer.blocked(process.name, self.scheduler.clock.now - began)
        if warn and process.loop is not None and process.loop.has_other_work():
            self.userland.blocked(self, self.scheduler.clock.now - began)
        return came

    def count_steps(self, number: int, who: str) -> None:
        """Add `number` to the run's number of steps. Beyond the limit, raise `StepLimitError`, which names `who`, a
        thread or process."""
        self.steps += number
        if self.steps > self.last_step:
            raise self.escaped(self.error_at_end(f"; last was {who}"))

    def error_at_end(self, last: str) -> SimulationError:
        """Return the error that ends a run after its last step: the recorded `escape`, or `StepLimitError`, to whose
        message `last` is added."""
        if self.escape is not None and self.last_step < self.max_steps:
            self.last_step = self.max_steps  # what ends with it goes on as ever
            return self.escape
        return StepLimitError(
            f"the run took more than {self.max_steps} steps (max_steps): raise max_steps, or look for what "
            f"never rests{last}"
        )

    def wait(self, process: Process, done: Callable[[], bool], deadline_ns: int | None) -> bool:
        """Block `process` until ``done()`` is True or the deadline is reached; if it is stopped (SIGSTOP), also until
        it is continued. Returns the last value of ``done()``."""
        scheduler, userland = self.scheduler, self.userland
        came = False

        def woken() -> bool:
            nonlocal came
            if not process.alive:
                return True
            if process.stopped:
                return False
            came = done()
            return came or (bool(process.signals) and userland.interrupts(self, process))

        loop = process.loop
        while True:
            if loop is not None and loop.stepped:
                loop.suspend()
            try:
                scheduler.block(process, woken, deadline_ns)
                if process.stopped:
                    scheduler.block(process, lambda: not process.stopped)
            finally:
                if loop is not None and loop.stepped:
                    loop.resume()
            if not process.alive:
                raise ProcessGone
            if process.signals:
                # A handler that raises ends the call; after any other it goes on (PEP 475).
                userland.handle(self, process, at_poll=False)
            if came or (deadline_ns is not None and scheduler.clock.now >= deadline_ns):
                return came

    def stop(self) -> NoReturn:
        """Unwind the calling code, because its process has ended."""
        thread = self.threads.get(_thread.get_ident())
        if thread is not None:
            thread.park(lambda: False, None)
        raise ProcessGone

    def files(self, process: Process | None = None) -> FileCalls:
        """Return the object that makes file system calls for `process`, or for the current process if that is None."""
        process = process or self.current
        if process.calls is None:
            if not process.alive:
                self.stop()
            calls: FileCalls = _files().make_calls(self.fs(process.host), process)
            return calls
        return process.calls

    def fs(self, host: Host) -> FileSystem:
        """Return the file system of `host`."""
        if host.fs is None:
            if self._lower is None:
                self._lower = _files().LowerLayer()
            host.fs = _files().make_file_system(host, self._lower, self.choices, self.observer)
        fs: FileSystem = host.fs
        return fs

    def escaped(self, error: E) -> E:
        """Record `error`, for a use of the real system, as the one with which the run fails, and return it, for the
        caller to raise. If it is swallowed, the next turn of a loop raises it again."""
        if self.escape is None:
            self.escape = error
            self.last_step = 0
        return error

    def fingerprint(self) -> int:
        """Return the happens-before fingerprint of the run: a hash of the arrivals at each process, and of the number
        of its steps before each. Runs with the same fingerprint differ only in the times of events."""
        choices = self.choices
        seed = choices.seed if choices.drew_entropy else -1
        return hash((seed, choices.folded, self.processes.forgotten, *[process.order for process in self.processes]))

    def close(self) -> None:
        """Unwind the threads that are still suspended, and break reference cycles."""
        self.scheduler.close()
        if self.processors is not None:
            from simloop.kernel.process.threads import end_threads

            end_threads(self, self.processors)
        for host in self.hosts.values():
            host.close()
        self.hosts.clear()
        if self._network is not None:
            self._network.close()
        self._programs = self.switches = None
        self.outside_signals = ()
        for process in self.processes:
            process.loop = None
            process.calls = None
            if process.holders or process.kept:
                process.forget_holders()
            if process.environ is not None:
                process.parent = process.notify = None
            if process.children:  # most have none
                process.children = {}
            # A transport that is collected after the run closes its socket: it must find nothing to close.
            process.files.clear()


@functools.cache
def _files() -> Any:
    """Return the module `simloop.world.files`, imported by the first run that uses a file."""
    from simloop.world import files

    return files
