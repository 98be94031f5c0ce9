"""Script that prints the digests of the runs of all programs of the corpora, for a comparison between processes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import test_clock_guarantees
import test_no_false_alarms
import test_thread_guarantees
import test_thread_pattern_guarantees
from corpus import Corpus, mains

from simloop.choices.choices import Choices
from simloop.choices.draws import seeded
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

CORPORA: list[Corpus] = [
    test_clock_guarantees.corpus, test_thread_guarantees.corpus, test_thread_pattern_guarantees.corpus,
]  # fmt: skip


def programs() -> list[Callable[[], Coroutine[Any, Any, Any]]]:
    found = [program for program, _ in test_no_false_alarms.PROGRAMS]
    return found + [main for corpus in CORPORA for program, _ in corpus.cases for main in mains(program)]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for number, main in enumerate(programs()):
        for seed in range(int(sys.argv[1])):
            outcome = execute(main, Choices(seed, seeded(seed)), Limits())
            print(number, main.__qualname__, seed, outcome.choices.digest, type(outcome.exception).__name__)
