"""The benchmark's kernels: races of plain asyncio programs, most of them by the timing of the network alone, or of
threads. They are found in a campaign of the default size, and their mended versions are clean."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sizes import examples

import simloop

BENCHMARK = str(Path(__file__).resolve().parents[2] / "benchmarks" / "races")
sys.path.insert(0, BENCHMARK)
from kernels import KERNELS, Kernel  # noqa: E402

sys.path.remove(BENCHMARK)

RUNS = 100
# What fails here is told by the handlers of connections, too.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.parametrize("kernel", KERNELS, ids=[kernel.name for kernel in KERNELS]),
]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(60):
        yield


def test_both_versions_pass_when_nothing_unusual_happens(kernel: Kernel) -> None:
    simloop.run(kernel.wrong)
    simloop.run(kernel.mended)


def test_the_race_is_found(kernel: Kernel) -> None:
    # A few of them are found in four of five campaigns.
    reports = (simloop.explore(kernel.wrong, runs=RUNS, seed=seed, **kernel.options) for seed in range(1, 4))
    failure = next((report.failure for report in reports if report.failure is not None), None)
    assert failure is not None
    assert 1 <= len(failure.schedule.deviations) <= 5
    assert failure.run_number > 1
    if kernel.by != "thread":
        assert failure.prove() == "replayed on stock asyncio: same failure"
    if kernel.by == "cancel":
        assert failure.run_number <= 10


def test_the_mended_version_is_clean(kernel: Kernel) -> None:
    report = simloop.explore(kernel.mended, runs=examples(40), seed=3, **kernel.options)
    assert report.failure is None, report.failure
