"""Report on all runs of a campaign."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simloop.explore.coverage import Coverage

if TYPE_CHECKING:
    from simloop.explore.failure import Failure


@dataclass
class Report:
    """Result of a campaign. Its truth value is True if every run passed.

    >>> import asyncio, simloop
    >>> async def main():
    ...     await asyncio.gather(*(asyncio.to_thread(int) for _ in range(2)))
    >>> report = simloop.explore(main, runs=20)
    >>> bool(report), report.runs, report.failure
    (True, 20, None)
    """

    #: Failure that ended the campaign; None if every run passed.
    failure: Failure | None = None
    #: Number of schedules that were run.
    runs: int = 0
    #: Number of distinct runs: those that differ from all earlier ones in what happened, not only in the times.
    distinct: int = 0
    #: Number of all schedules of the test, if every one of them was run; else 0.
    schedules_in_all: int = 0
    #: True if the canonical run had any choice point at all.
    has_choices: bool = False
    #: True if objects had to hash by number instead of by address, to make runs of one schedule alike.
    numbered: bool = False
    #: True if each run had to be made in a process of its own, to make runs of one schedule alike.
    forked: bool = False
    #: Statistics on how many of the runs were new, and how likely it is that one more would be.
    coverage: Coverage = field(default_factory=Coverage, compare=False)

    @property
    def complete(self) -> int:
        """Deprecated name of `schedules_in_all`."""
        warnings.warn("Report.complete is now called schedules_in_all", DeprecationWarning, stacklevel=2)
        return self.schedules_in_all

    def __bool__(self) -> bool:
        return self.failure is None


#: Phrase for runs that are each made in a process of its own.
FORKED = "runs forked"
#: Phrase for runs that begin at the real time.
FROM_NOW = "wall clock from now"
#: For those phrases the sentence that a session says about its tests; ``{}`` stands for them.
TOLD = {
    FORKED: "runs forked (several times as slow) for {}, since they differ otherwise",
    FROM_NOW: "wall clock from now, as with --sim-start=now, for {}, which would fail on 2026-01-01",
}


def alike_by(*, numbered: bool, forked: bool = False) -> list[str]:
    """Return phrases for the measures that made runs of one schedule alike: `numbered` if objects hash by number
    instead of by address, `forked` if each run is made in a process of its own."""
    return ["objects numbered"] * numbered + [FORKED] * forked
