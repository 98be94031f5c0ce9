"""Progress reports of a campaign: a line of text that is updated, once the campaign has lasted for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

# Real seconds before the first line, and between two lines.
_AFTER = 2.0
_BETWEEN = 0.5


class Progress:
    """Reporter of a campaign's progress. ``tell(line)`` is called two real seconds after the beginning, and twice a
    second from then on, each time with a new line in place of the last one. `clock` returns the time in seconds."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._next = clock() + _AFTER

    def note(self, line: Callable[[], str]) -> None:
        """Report ``line()`` if the next report is due; otherwise it is not called."""
        if (now := self._clock()) >= self._next:
            self._next = now + _BETWEEN
            self._tell(line())
