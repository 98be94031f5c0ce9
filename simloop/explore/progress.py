"""Progress reports of a campaign: lines on how far it is, once it has lasted for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

# Real seconds before the first line, and between two lines.
_AFTER = 2.0
_BETWEEN = 0.5


class Progress:
    """Reporter of a campaign's progress. ``tell(line)`` is called two real seconds after the beginning, and twice a
    second from then on, with a line that replaces the one before; `clock` counts these seconds."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._next = clock() + _AFTER

    def note(self, line: Callable[[], str]) -> None:
        """Report ``line()``, if the next report is due."""
        if (now := self._clock()) >= self._next:
            self._next = now + _BETWEEN
            self._tell(line())
