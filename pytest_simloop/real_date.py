"""Choice of the date on which the runs of a test begin, for tests that only hold on the real one.

A world's wall clock begins on a date of its own, so that runs are the same on every day. But modules are imported, and
fixtures of wider scope are set up, before the first run and on the real date: the expiry that one of them has computed,
say, may lie far from the world's present, which no real environment would do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simloop.choices.choices import Choices
from simloop.errors import limit_met
from simloop.simulation.limits import NOW

if TYPE_CHECKING:
    from pytest_simloop.simulated import Simulated
    from simloop.simulation.limits import Limits


def limits_from_now(item: Simulated, usual: Limits, seed: int, error: BaseException) -> Limits | None:
    """Return the limits with which a test that has failed with `error` begins at the real time, if that makes its
    canonical run pass, which fails with the `usual` ones: then the failure is none of the program. Else return None, as
    for a test that was told when to begin."""
    if usual.start is not None or limit_met(error):
        return None
    now = usual._replace(start=NOW).at_present()
    # Twice as usual: state that runs leave behind may make any other run fail.
    for limits, passes in ((usual, False), (now, True), (usual, False)):
        item.use(limits)
        if (item.execute(Choices(seed)).exception is None) is not passes:
            item.use(usual)
            return None
    item.use(now)
    item.from_now = True
    return now
