"""Exits of processes, and how others learn of them: exit(2), kill(2), wait(2), pidfd_open(2)."""

from __future__ import annotations

import errno
import os
import signal as _signal  # constants only
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from simloop.kernel.descriptors import IN, File
from simloop.kernel.errors import fail
from simloop.kernel.process.delays import schedule_delayed
from simloop.kernel.process.process import Process, State
from simloop.kernel.process.signals import disposition

if TYPE_CHECKING:
    from simloop.kernel.scheduler import Scheduler

#: Pid of init, the process that adopts orphans.
INIT_PID = 1


def exit_status(code: int) -> int:
    """Return the status that wait(2) reports for a process that has called exit(2) with `code`."""
    return (code & 0xFF) << 8


class PidFd(File):
    """File that refers to a process (pidfd_open(2)): readable once the process has exited."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.flags = os.O_RDWR

    def __str__(self) -> str:
        return f"the pidfd of {self.process.name}"

    def mask(self) -> int:
        return IN if self.process.status is not None else 0

    def close(self) -> None:
        self.process.observers.remove(self)


def end(
    process: Process, status: int, scheduler: Scheduler, tell: Callable[[Process], None], *, at_once: bool = False
) -> None:
    """Terminate `process` with a wait status (wait(2)), as do_exit() in kernel/exit.c does. Its files are closed first,
    so others may see the end of its pipes before its exit.

    Its parent is notified after a delay that the environment chooses, or without one if `at_once` is True: for
    processes whose end is itself a choice. ``tell(parent)`` is called when the parent is to get its SIGCHLD.
    """
    if process.exited:
        return
    process.enter(State.ZOMBIE)
    if process.files:
        for fd in sorted(process.files):
            process.close(fd)
    for child in process.children.values():
        # An orphan: init adopts it, and reaps it.
        child.parent = None
        if child.status is not None:
            child.release()
    process.children = {}
    if at_once or process.parent is None:
        _notify(process, status, tell)
    else:
        process.notify = notify = partial(_notify, process, status, tell)
        schedule_delayed(process, scheduler, "process.exit", process.name, process, notify, 0)


def _notify(process: Process, status: int, tell: Callable[[Process], None]) -> None:
    if process.status is not None:
        return
    process.status = status
    process.notify = None
    for observer in process.observers:
        observer.changed()
    parent = process.parent
    if parent is None:
        process.release()
        return
    handler = disposition(parent, _signal.SIGCHLD)
    if handler == _signal.SIG_IGN:
        # "the child processes become zombies" only if it is not ignored (wait(2), NOTES).
        reap(process)
    if handler != _signal.SIG_DFL or parent.masked or parent.stopped:
        tell(parent)  # for most there is nothing to tell: by default the signal does nothing


def find_child(parent: Process, pid: int, *, asked: bool = False) -> Process | None:
    """Return a zombie child that `pid` selects, as waitpid(2) does; None if all such children still run. Raises
    `OSError` (ECHILD) if there is no such child.

    If `asked` is True, children count as zombies from their exit on, even if their parent has not been notified of it
    yet: for calls in the middle of a turn, during which other processes run in parallel.
    """
    if pid > 0:
        children = [parent.children[pid]] if pid in parent.children else []
    else:
        children = [child for child in parent.children.values() if _means(parent, child, pid)]
    if not children:
        raise fail(errno.ECHILD)
    if asked:
        unseen = [child for child in children if child.exited and child.status is None]
        if unseen:
            for child in unseen:
                if child.notify is not None:
                    child.notify()
            # Who ignores SIGCHLD has no child any more.
            return find_child(parent, pid)
    for child in children:
        if child.status is not None:
            return child
    return None


def _means(parent: Process, child: Process, pid: int) -> bool:
    return pid == -1 or child.group == (parent.group if pid == 0 else -pid)


def reap(child: Process) -> tuple[int, int]:
    """Reap a zombie, as wait(2) does. Returns its pid and wait status."""
    assert child.parent is not None
    assert child.status is not None
    del child.parent.children[child.pid]
    child.parent = None
    child.release()
    child.table.reaped.append(child.pid)
    return child.pid, child.status


def signal_targets(sender: Process, pid: int) -> list[Process]:
    """Return the processes of the sender's host that `pid` selects, as kill(2) does. Raises `OSError` (ESRCH) if there
    are none."""
    here = [process for process in sender.table.values() if process.state is not State.POWERED_OFF]
    if pid > 0:
        found = [process for process in here if process.pid == pid]
    elif pid == -1:
        found = [process for process in here if process is not sender]
    else:
        found = [process for process in here if process.group == (sender.group if pid == 0 else -pid)]
    if not found:
        raise fail(errno.ESRCH)
    return found
