"""Ends a step that never gives the loop back, which would hang a test run for good."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

# Held in a list: simloop changes references that modules hold by name to its own signals.
_ARM = [signal.setitimer]
_CPU_SECONDS = 0.3


def _too_long(*_: object) -> None:
    raise TimeoutError(f"a step took more than {_CPU_SECONDS:g} s of CPU time")


signal.signal(signal.SIGVTALRM, _too_long)


@pytest.fixture
def no_endless_step() -> Iterator[None]:
    """What pytest-timeout does for a whole test, for each run of it; by CPU time, for slow machines."""
    _ARM[0](signal.ITIMER_VIRTUAL, _CPU_SECONDS)
    yield
    _ARM[0](signal.ITIMER_VIRTUAL, 0)
