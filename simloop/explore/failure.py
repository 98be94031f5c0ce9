"""Failure that a campaign has found, as reported to the user."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from simloop.choices.choices import Choices
    from simloop.choices.schedule import Schedule
    from simloop.report.explanation import Explanation
    from simloop.simulation.outcome import Outcome


@dataclass
class Failure:
    """Failure that a campaign has found: its shrunk schedule, its exception, and the explanation for the user."""

    #: Token, the schedule as one line of text; `simloop.replay` takes it.
    token: str
    #: Exception that the test raised in the last replay of the token.
    exception: BaseException
    #: Number of the run that failed, counted from 1 (the canonical run).
    run_number: int
    #: Name of the strategy that found the failure.
    strategy: str
    #: Profile, seed and deviations that the token encodes.
    schedule: Schedule
    #: Comparison of the failing run with the nearest passing one, step by step.
    explanation: Explanation = field(repr=False)
    #: Number of deviations in the failing run, before its schedule was shrunk.
    deviations_found: int = 0
    _execute: Callable[[Choices], Outcome] | None = field(default=None, repr=False, compare=False)

    @property
    def runs(self) -> int:
        """Deprecated name of `run_number`."""
        warnings.warn("Failure.runs is now called run_number", DeprecationWarning, stacklevel=2)
        return self.run_number

    @property
    def story(self) -> list[str]:
        """Sentences that describe the deviations of the schedule (choices other than the default), in the order in
        which they happened."""
        return self.explanation.sentences

    def prove(self) -> str:
        """Replay the schedule on stock asyncio's own event loop, with the same events arriving from outside. Return a
        sentence: ``"replayed on stock asyncio: same failure"``, or why that failed.

        >>> import asyncio, simloop
        >>> async def main():
        ...     task = asyncio.create_task(asyncio.sleep(1))
        ...     simloop.current().may_cancel(task)
        ...     await task
        >>> simloop.explore(main).failure.prove()
        'replayed on stock asyncio: same failure'
        """
        from simloop.explore.proof import prove

        assert self._execute is not None
        return prove(self._execute, self.schedule, self.exception)

    def describe(self) -> str:
        """Return the report as text, at most 100 columns by 60 lines: the cause of the failure, the steps of the
        failing and of a passing run, whether it can happen on stock asyncio, and the token."""
        from simloop.report.text import Line, command, failure_text

        head = f"failed in run {self.run_number} ({self.strategy})"
        lines = failure_text(head, self.explanation, [Line(""), *command(["token:", self.token])])
        return "\n".join(line.text for line in lines)
