"""The process numbers of one host: which are in use, and which were given back last."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import Protocol, TypeVar

#: So many of the numbers that were given back last are remembered.
REMEMBERED_MAX = 8


class Numbered(Protocol):
    """What a table of process numbers knows of a process: its number, its process group and its session."""

    pid: int
    group: int
    session: int


P = TypeVar("P", bound=Numbered)


class PidTable(dict[int, P]):
    """The processes of one host by pid, up to when they have been waited for."""

    #: True once a process has led a group other than that of the process that began it all.
    has_groups = False

    @cached_property
    def reaped(self) -> deque[int]:
        """The pids of those that were waited for last, and that nobody was given since."""
        return deque(maxlen=REMEMBERED_MAX)

    def free(self) -> list[int] | deque[int]:
        """The remembered numbers that may be given out again: no process, group or session has them."""
        if not self.has_groups:
            return self.reaped
        taken = {number for process in self.values() for number in (process.group, process.session)}
        return [pid for pid in self.reaped if pid not in taken]
