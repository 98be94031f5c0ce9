"""Pid tables: the process ids of one host that are in use, and those that were freed last."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import Protocol, TypeVar

#: Number of freed pids that are remembered: the last ones.
REMEMBERED_MAX = 8


class Numbered(Protocol):
    """Protocol of a process, as a table of process numbers sees it: its pid, its process group and its session."""

    pid: int
    group: int
    session: int


P = TypeVar("P", bound=Numbered)


class PidTable(dict[int, P]):
    """Table of one host's processes by pid, until they are reaped."""

    #: True once a process of the host has changed its process group or session.
    has_groups = False

    @cached_property
    def reaped(self) -> deque[int]:
        """Pids of the processes that were reaped last, without those in use again."""
        return deque(maxlen=REMEMBERED_MAX)

    def free(self) -> list[int] | deque[int]:
        """Return the remembered pids that may be reused: no process, group or session has them."""
        if not self.has_groups:
            return self.reaped
        taken = {number for process in self.values() for number in (process.group, process.session)}
        return [pid for pid in self.reaped if pid not in taken]
