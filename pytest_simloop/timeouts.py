"""Integration of pytest-timeout: a timeout ends the campaign of a test, as Ctrl-C does, and its progress is
reported."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_simloop.simulated import Simulated
    from simloop.explore.campaign import Campaign

#: Campaigns in progress.
_campaigns: list[Campaign] = []


class TimedOut(KeyboardInterrupt):
    """Exception for a timeout, in place of pytest-timeout's own, which asyncio would raise in the running task: this
    one leaves the event loop."""

    def __init__(self, failure: BaseException) -> None:
        self.failure = failure


def watch() -> None:
    """Wrap the two functions of pytest-timeout that are called at a timeout, if it is imported."""
    plugin: Any = sys.modules.get("pytest_timeout")
    by_signal, by_thread = (getattr(plugin, name, None) for name in ("timeout_sigalrm", "timeout_timer"))
    if by_signal is None or by_thread is None or hasattr(by_signal, "__wrapped__"):
        return

    def timeout_sigalrm(*args: Any, **kwargs: Any) -> Any:
        try:
            return by_signal(*args, **kwargs)
        except pytest.fail.Exception as failure:
            if not _campaigns:
                raise
            raise TimedOut(failure) from None

    def timeout_timer(*args: Any, **kwargs: Any) -> Any:
        # It ends the process.
        for campaign in _campaigns:
            sys.__stderr__.write(f"\n{campaign.known()}\n")  # type: ignore[union-attr]
        return by_thread(*args, **kwargs)

    timeout_sigalrm.__wrapped__ = by_signal  # type: ignore[attr-defined]
    plugin.timeout_sigalrm, plugin.timeout_timer = timeout_sigalrm, timeout_timer


@contextlib.contextmanager
def ending(item: Simulated, campaign: Campaign) -> Iterator[None]:
    """Context manager around a campaign: a timeout in it makes the test fail, and reports the campaign's progress."""
    _campaigns.append(campaign)
    try:
        yield
    except TimedOut as interrupt:
        item.section = campaign.known()
        raise interrupt.failure from None
    finally:
        _campaigns.remove(campaign)
