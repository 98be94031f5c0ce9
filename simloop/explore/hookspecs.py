"""Hooks (https://pluggy.readthedocs.io) by which other packages take part in exploring.

A plugin is a module or an object with functions of these names, each marked ``@simloop.hookimpl``. Plugins are found by
the entry-point group ``simloop``; under pytest also in any ``conftest.py``, for the tests of its directory, and in any
pytest plugin. An implementation may leave out arguments that it does not need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from simloop.explore.failure import Failure
    from simloop.explore.strategies.base import Strategy
    from simloop.simulation.outcome import Outcome

PROJECT = "simloop"
hookspec = pluggy.HookspecMarker(PROJECT)
#: Decorator that marks a function as the implementation of a hook.
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def simloop_strategies(test: str, seed: int, profile: str) -> Strategy | list[Strategy] | None:
    """Return new strategies for one campaign of `test`. They share its budget with simloop's own. All their random
    decisions must come from `seed`, or the campaign differs from one session to the next.

    ::

        class LastSeeds:
            name = "last seeds"

            def __init__(self, seed):
                self.seeds = iter(range(seed + 1000, seed + 1010))

            def plan(self):
                seed = next(self.seeds, None)
                return None if seed is None else simloop.Plan(seed, decide=None)

            def observe(self, choices, failed):
                pass

        @simloop.hookimpl
        def simloop_strategies(seed):
            return LastSeeds(seed)
    """


@hookspec
def simloop_observe_run(test: str, outcome: Outcome) -> None:
    """Receive the outcome of each run that explores, after the run has ended. Not called for runs that check, shrink or
    replay a failure.

    ::

        @simloop.hookimpl
        def simloop_observe_run(test, outcome):
            lengths[test].append(outcome.world.steps)
    """


@hookspec
def simloop_report_section(test: str, failure: Failure) -> tuple[str, str] | None:
    """Return the title and the text of a section to add to the report of a failure, or None to add nothing.

    ::

        @simloop.hookimpl
        def simloop_report_section(failure):
            return "tickets", tickets.find(type(failure.exception).__name__)
    """
