"""Handling of two runs of one schedule that differ: ways to make later runs alike, and the error if none helps.

A run that does something for the first time in this process (fills a cache, creates the first client) may differ from
all later ones. So a third run is compared with the second. If these differ too, objects are made to hash by number
instead of by address, and then runs are made in forked processes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from simloop.errors import NondeterminismError
from simloop.explore.run_maker import STEPS_EXPLAINED, failure_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from simloop.choices.choices import Choices
    from simloop.choices.schedule import Schedule
    from simloop.explore.forks import Zygote
    from simloop.explore.run_maker import AnyOutcome, RunMaker


def run_again(maker: RunMaker, schedule: Schedule, expected: AnyOutcome) -> AnyOutcome:
    """Run a schedule once more and check that the run goes the same way as `expected`, the outcome of the earlier run.
    Return the outcome of the later run; if they differ, that of a run after all runs have been made alike (see
    `settled`, which raises `NondeterminismError` if that fails)."""
    again = maker.traced(schedule, None)
    return again if maker.went_alike(again, expected) else settled(maker, schedule, expected, again)


def settled(maker: RunMaker, schedule: Schedule, expected: AnyOutcome, again: AnyOutcome) -> AnyOutcome:
    """Make later runs of a schedule alike, after the first two runs, with the outcomes `expected` and `again`, have
    differed. Return the outcome of one of the later runs. Raises `NondeterminismError` if they cannot be made alike, or
    if only some of all these runs failed."""
    third = maker.traced(schedule, None)
    alike = maker.went_alike(third, again)
    if alike and failure_in(third) == failure_in(expected):
        return third
    runs = [expected, again, third]
    while _liken(maker, alike):
        likened = run_again(maker, schedule, maker.traced(schedule, None))
        # Fresh runs know nothing of what others have left behind, as the first one did not.
        runs = [expected] if maker.begins_afresh else [*runs, likened]
        if all(failure_in(run) == failure_in(likened) for run in runs):
            return likened
    error = next((run.exception for run in runs if run.exception is not None), None)
    raise _parted(maker, schedule, expected if alike else again, third) from error


def _liken(maker: RunMaker, alike: bool) -> bool:
    """Switch on the next measure that makes runs of one schedule alike: objects hash by number instead of by address;
    then each run is a fork of this process; then a fork of a fresh process. If `alike`, only the first run differed,
    and the last measure alone is tried. Return False if no measure is left."""
    report = maker.report
    if not report.numbered and not alike:
        report.numbered = True
        return True
    if not maker.may_fork:
        return False
    from simloop.explore.forks import Forks, OwnZygote

    afresh = False
    if not report.forked and not alike:
        begin: Callable[[], Zygote] = partial(OwnZygote, maker.execute)
    elif maker.fresh is not None:
        begin, maker.fresh, afresh = maker.fresh, None, True
    else:
        return False
    try:
        forks = Forks(begin)
    except OSError:
        return False
    if maker.forks is not None:
        maker.forks.close()
    report.forked = True
    maker.forks, maker.jobs, maker.begins_afresh = forks, None, afresh
    return True


def _parted(maker: RunMaker, schedule: Schedule, one: AnyOutcome, other: AnyOutcome) -> NondeterminismError:
    """Return the error for a schedule of which two runs differ: `one` and `other`. The schedule is run twice more, with
    traces, to find where runs diverge."""
    where = ""
    if max(one.steps, other.steps) <= STEPS_EXPLAINED:
        from simloop.report.parting import WatchedRun, parting

        schedule = schedule._replace(numbered=maker.report.numbered)
        watched = [WatchedRun(schedule), WatchedRun(schedule)]
        for run in watched:
            with run.trace.touches.watch():
                maker.execute(run.choices(), run.trace)
        where = parting(*watched)
    return first_difference(one.choices, other.choices, maker.name, where)


def first_difference(expected: Choices, actual: Choices, what: str, where: str = "") -> NondeterminismError:
    """Return the error for two runs of one schedule that differ, naming the first choice point at which they do. `what`
    names the test, and `where` is a phrase on the line of code at which they diverge; empty if that is not known."""
    for left, right in zip(expected.answers(), actual.answers(), strict=False):
        if left != right:
            detail = (
                f"first at {left.point}: expected {left.value} of {left.n}, "
                f"got {right.value} of {right.n} at {right.point}"
            )
            break
    else:
        a, b = len(expected.recorded), len(actual.recorded)
        if expected.digest == actual.digest:
            detail = "every choice and every step was the same, but not what came of them"
        elif a == b:
            detail = "every choice was the same, but callbacks ran at other times or in other numbers"
        else:
            longer = (expected if a > b else actual).answers()[min(a, b)]
            detail = f"first at {longer.point}, which only the {'first' if a > b else 'second'} run reached"
    hint = (
        f"They part {where}: look there for state of a module, the order of a set, id(), real time or a real file"
        if where
        else "Look for module-level state, iteration over sets, or a clock that the simulation does not cover"
    )
    return NondeterminismError(f"two runs of {what} with the same schedule differ: {detail}. {hint}")
