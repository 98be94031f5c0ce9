"""Table of one host's processes by pid, which also remembers the pids that were freed last."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import Protocol, TypeVar

#: Number of freed pids that are remembered.
REMEMBERED_MAX = 8


class Numbered(Protocol):
    """Structural type of a process, as far as `PidTable` needs it: its pid, the ids of its process group and
    session."""

    pid: int
    group: int
    session: int


P = TypeVar("P", bound=Numbered)


class PidTable(dict[int, P]):
    """Table of one host's processes by pid. A process is removed when it is reaped."""

    #: True once a process of the host has changed its process group or session.
    has_groups = False

    @cached_property
    def reaped(self) -> deque[int]:
        """Pids of the processes that were reaped last, except those that were reused since."""
        return deque(maxlen=REMEMBERED_MAX)

    def free(self) -> list[int] | deque[int]:
        """Return those of the remembered pids that may be reused, since no process, process group or session has
        them."""
        if not self.has_groups:
            return self.reaped
        taken = {number for process in self.values() for number in (process.group, process.session)}
        return [pid for pid in self.reaped if pid not in taken]
