"""The example finds both of its mistakes as one fault, and nothing in Raft without them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sizes import examples

import simloop
from simloop.explore.strategies.crash import CRASH
from simloop.explore.strategies.fault import FAULTS

EXAMPLE = Path(__file__).parents[2] / "examples" / "raft"
# Connections stay open at nodes until their hosts have no power.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::simloop.BlockingCallWarning"
)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLE)
    import test_raft as module

    return module


def main_of(example: Any, survives: str, kind: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def main() -> None:
        await getattr(example, f"survives_a_{survives}")(simloop.current(), getattr(example, kind))

    return main


@pytest.mark.parametrize("seed", range(0, 100_000, 5_000)[: examples(5)])
@pytest.mark.parametrize(
    ("survives", "mistake", "fault"),
    [("partition", "ReadsAlone", "net.partition"), ("power_cut", "ForgetsItsVote", CRASH)],
)
def test_each_mistake_is_found_as_one_fault(example: Any, survives: str, mistake: str, fault: str, seed: int) -> None:
    failure = simloop.explore(main_of(example, survives, mistake), runs=100, seed=seed).failure
    assert failure is not None
    assert [point.kind for point in failure.schedule.deviations if point.kind in (CRASH, *FAULTS)] == [fault]


@pytest.mark.parametrize("survives", ["partition", "power_cut"])
def test_raft_passes(example: Any, survives: str) -> None:
    assert simloop.explore(main_of(example, survives, "Node"), runs=examples(75), seed=1).failure is None
