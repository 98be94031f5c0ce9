"""Result of a campaign: the report on all its runs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simloop.explore.coverage import Coverage

if TYPE_CHECKING:
    from simloop.explore.failure import Failure


@dataclass
class Report:
    """Result of a campaign. It is true (as a boolean) when every run passed.

    >>> import asyncio, simloop
    >>> async def main():
    ...     await asyncio.gather(*(asyncio.to_thread(int) for _ in range(2)))
    >>> report = simloop.explore(main, runs=20)
    >>> bool(report), report.runs, report.failure
    (True, 20, None)
    """

    #: The failure that ended the campaign; None when every run passed.
    failure: Failure | None = None
    #: Number of schedules that were run.
    runs: int = 0
    #: Number of distinct runs: those that differ from all earlier ones in more than the times at which the same things
    #: happen.
    distinct: int = 0
    #: Number of all schedules of the test, if each of them was run; else 0.
    schedules_in_all: int = 0
    #: True if the canonical run had any choice point at all.
    has_choices: bool = False
    #: True if objects that hash by address had to get numbers as hashes, since runs of one schedule differed without.
    numbered: bool = False
    #: True if runs of one schedule differed even so, and each run was therefore made in a process of its own.
    forked: bool = False
    #: How many of the runs were new, and how likely a further one is.
    coverage: Coverage = field(default_factory=Coverage, compare=False)

    @property
    def complete(self) -> int:
        """Deprecated name of `schedules_in_all`."""
        warnings.warn("Report.complete is now called schedules_in_all", DeprecationWarning, stacklevel=2)
        return self.schedules_in_all

    def __bool__(self) -> bool:
        return self.failure is None


#: Words for runs that are made in a process of their own each.
FORKED = "runs forked"


def alike_by(*, numbered: bool, forked: bool = False) -> list[str]:
    """Return phrases for the measures by which the runs of one schedule became alike."""
    return ["objects numbered"] * numbered + [FORKED] * forked
