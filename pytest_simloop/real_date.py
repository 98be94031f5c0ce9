"""Choice of the date on which the runs of a test begin, for tests that only hold on the real one.

A world's wall clock begins on a date of its own, so that runs are the same on every day. But modules are imported, and
fixtures of wider scope are set up, before the first run and on the real date: the expiry that one of them has computed,
say, may lie far from the world's present, which no real environment would do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.choices.choices import Choices
from simloop.simulation.limits import NOW

if TYPE_CHECKING:
    from pytest_simloop.trial import Trial


def begins_now(trial: Trial) -> bool:
    """Let the runs of a test that has failed begin at the real time, if that makes its canonical run pass. Return True
    if so: then the failure is none of the program. Does nothing if the test was told when to begin."""
    item, usual = trial.item, trial.settings.limits
    if usual.start is not None:
        return False
    now = usual._replace(start=NOW).at_present()
    # Twice as usual: state that runs leave behind may make any other run fail.
    for limits, passes in ((usual, False), (now, True), (usual, False)):
        item.use(limits)
        if (item.execute(Choices(trial.settings.seed)).exception is None) is not passes:
            item.use(usual)
            return False
    item.use(now)
    item.from_now = True
    trial.settings = trial.settings._replace(limits=now)
    return True
