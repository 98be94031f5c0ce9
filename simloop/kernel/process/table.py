"""Process table of one world: creates processes, and gives them names and pids. Processes that have ended are dropped
after a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.choices.choices import nth
from simloop.kernel.process.process import Process

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.kernel.host import Host
    from simloop.kernel.process.pids import PidTable

# Above any number that the real kernel gives (PID_MAX_LIMIT), so that one that reaches a real kill or waitpid, as from
# an object that outlives its world, hits nobody.
FIRST_PID = 1 << 22
#: Number of processes in the table at which reaped ones are dropped for the first time.
PROCESSES_START = 64
#: Number of pids, those freed last, of which a choice may reuse one.
PIDS_REUSED_MAX = 2


class ProcessTable(list[Process]):
    """Table of all processes of a world in order of creation, without those that have ended and were dropped.

    Pids are unique in the world, unless a choice reuses one. In choice points and reports, processes are identified by
    their names.
    """

    __slots__ = ("_choices", "_limit", "_names", "_pids", "forgotten")

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._names: dict[str, int] = {}
        self._pids = FIRST_PID
        self._limit = PROCESSES_START
        #: Hash of the pids and arrivals of the dropped processes, for the fingerprint of the run.
        self.forgotten = 0

    def add(self, host: Host, program: str | None = None) -> Process:
        """Create a process on `host` that runs `program`, or one of the test's own functions if `program` is None."""
        stem = host.name if program is None else f"{host.name}:{program}"
        self._names[stem] = number = self._names.get(stem, 0) + 1
        name = nth(stem, number)
        pid = self._reused_pid(host.processes, name) if program else 0
        if not pid:
            self._pids = pid = self._pids + 1
        process = Process(host, host.processes, pid, name)
        if len(self) >= self._limit:
            self._forget_reaped()
        self.append(process)
        host.processes[pid] = process
        return process

    def _reused_pid(self, table: PidTable[Process], name: str) -> int:
        """Return the pid of a reaped process, if the environment chooses to reuse one; otherwise 0. A kernel reuses
        pids after the highest one (pid_max in proc(5)), at a time that no program can foresee."""
        if table.reaped:
            free = table.free()
            count = len(free)
            if count > PIDS_REUSED_MAX:
                count = PIDS_REUSED_MAX
            if count and (answer := self._choices.choose(name, "process.pid", 1 + count, free)):
                pid = free[-answer]
                table.reaped.remove(pid)
                return pid
        return 0

    def _forget_reaped(self) -> None:
        """Drop processes that have ended and that nobody can wait for, so that a run may start any number of them in
        bounded memory."""
        kept = []
        for process in self:
            left = process.parent or process.loop or process.children or process.holders or process.kept
            if process.status is None or left:
                kept.append(process)
            else:
                self.forgotten = hash((self.forgotten, process.pid, process.order))
        self[:] = kept
        self._limit = max(PROCESSES_START, 2 * len(kept))
