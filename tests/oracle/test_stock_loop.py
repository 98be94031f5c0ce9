"""The oracle: what `SimLoop` does with the arrivals of a run, stock asyncio does with the same arrivals.

This is what allows the turn to be tuned: `SimLoop._run_once` and its hot path are not asyncio's code.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from programs import PROGRAMS, Machine
from reference import Poll, RecordingLoop, ReferenceLoop, name_of_timer
from sizes import examples

from simloop.choices.choices import Choices, Decide
from simloop.choices.schedule import Schedule
from simloop.errors import DeadlockError
from simloop.loop import loop as loop_module
from simloop.loop.stock_loop import Arrivals, StockLoop
from simloop.simulation.context import WorldContext
from simloop.simulation.limits import Limits

# Two timers that are due at the same nanosecond, of which the later one goes first.
TIE = [
    [("yield",), ("sleep", 0.001)],
    [("hang up",)],
    [("sleep", 0.009), ("yield",)],
    [("hang up",)],
    [("sleep", 0.01)],
]


def restless(seed: int) -> Decide:
    """Deviates at every third point: these programs are short."""
    rng = random.Random(seed)
    return lambda who, kind, number, n: rng.randrange(1, n) if n > 1 and rng.random() < 1 / 3 else 0


def run_on(loop: Any, machine: Machine) -> str:
    try:
        loop.run_until_complete(machine.main())
        loop.run_until_complete(loop.shutdown_asyncgens())
    except DeadlockError as error:
        return str(error)
    return "done"


# A cancelled open_connection() leaves its transport behind, on stock asyncio too.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=examples(500), deadline=None)
@example(program=TIE, seed=678252, spins=2)
@given(program=PROGRAMS, seed=st.integers(0, 2**32), spins=st.sampled_from([2, loop_module.SPINS]))
def test_the_same_arrivals_give_the_same_steps_on_stock_asyncio(program: Any, seed: int, spins: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Generated programs are too short to spin for long.
        patch.setattr(loop_module, "SPINS", spins)
        compare(program, seed)


def compare(program: Any, seed: int) -> None:
    choices = Choices(seed, restless(seed))
    ours = Machine(program)
    with WorldContext(choices, Limits()) as world:
        recording = RecordingLoop(world, world.root)
        outcome = run_on(recording, ours)
        script: list[Poll] = recording.script
        batches = recording.batches
        steps = list(ours.trace)

    schedule = Schedule("cpython", seed, choices.deviations())
    again = Choices(seed, schedule.decider())
    theirs = Machine(program)
    with WorldContext(again, Limits()) as world:
        reference = ReferenceLoop(world, script)
        assert run_on(reference, theirs).partition(":")[0] == outcome.partition(":")[0]
        batches_of_reference = list(reference.batches)
        steps_of_reference = list(theirs.trace)
        reference.clean_up()

    assert steps_of_reference == steps
    assert batches_of_reference == batches
    assert again.deviations() == choices.deviations()

    # And the loop by which a failure is proved, with tasks of a run.
    proving = Choices(seed, schedule.decider())
    proving.stock = Arrivals()
    machine = Machine(program)
    with WorldContext(proving, Limits()) as world:
        stock = StockLoop(world, world.root)
        stock._timer_names = name_of_timer  # type: ignore[assignment]
        assert run_on(stock, machine) == outcome
        assert machine.trace == steps
    assert proving.recorded == choices.recorded
