"""The programs of the corpora have their one outcome in the runs of each strategy, with turns for no other."""

from __future__ import annotations

import pytest
import test_no_false_alarms
from corpus import check_simulated
from digests import CORPORA
from sizes import examples
from test_clock_guarantees import play_children

import simloop
from simloop.explore.portfolio import STRATEGIES

CASES = [*test_no_false_alarms.PROGRAMS, *(case for corpus in CORPORA for case in corpus.cases)]


def play() -> None:
    play_children(simloop.current())


@pytest.mark.filterwarnings("ignore::simloop.BlockingCallWarning")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_makes_a_correct_program_fail(strategy: str) -> None:
    preempt = "lines" if strategy == "line sweep" else "calls"
    # Each change tries a part of the programs, a different one with each strategy.
    step = len(CASES) // examples(len(CASES))
    for program, expected in CASES[STRATEGIES.index(strategy) % step :: step]:
        check_simulated(program, expected, runs=examples(20), before=play, strategies=strategy, preempt=preempt)
