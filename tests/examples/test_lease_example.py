"""The example finds each of its mistakes as one fault, and nothing in the service without them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sizes import examples

import simloop
from simloop.explore.strategies.fault import FAULTS

EXAMPLE = Path(__file__).parents[2] / "examples" / "lease"
# Connections of clients that gave up stay open at the service until its host has no power.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLE)
    import test_lease as module

    return module


def main_of(example: Any, locks: str, worker: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def main() -> None:
        await example.one_writes_at_a_time(simloop.current(), getattr(example, locks)(), getattr(example, worker))

    return main


@pytest.mark.parametrize("seed", range(0, 50_000, 10_000)[: examples(5)])
@pytest.mark.parametrize(
    ("locks", "worker", "kinds"),
    [
        ("JudgesByTheWallClock", "Worker", {"clock.step"}),
        ("WritesForAnybody", "Worker", {"net.partition", "host.pause"}),
        ("Locks", "CountsOnRenewal", {"net.partition", "host.pause"}),
    ],
)
def test_each_mistake_is_found_as_one_fault(example: Any, locks: str, worker: str, kinds: set[str], seed: int) -> None:
    failure = simloop.explore(main_of(example, locks, worker), runs=100, seed=seed).failure
    assert failure is not None
    (fault,) = [point.kind for point in failure.schedule.deviations if point.kind in FAULTS]
    assert fault in kinds


def test_the_service_passes(example: Any) -> None:
    assert simloop.explore(main_of(example, "Locks", "Worker"), runs=examples(150), seed=1).failure is None
