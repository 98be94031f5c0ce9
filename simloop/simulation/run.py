"""Execution of one run: creates a world, runs a main function on an event loop in it, and returns the result.

`run` is what a user calls; `execute` is the same but returns the outcome with the world.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from simloop.choices.choices import Choices, check_seed
from simloop.loop.factory import make_loop
from simloop.loop.runner import Main, run_main
from simloop.simulation.context import WorldContext
from simloop.simulation.install import installed
from simloop.simulation.limits import Limits, make_limits
from simloop.simulation.outcome import Outcome

if TYPE_CHECKING:
    from simloop.choices.choices import Decide
    from simloop.simulation.handle import Sim
    from simloop.world.observer import Observer

T = TypeVar("T")


@contextlib.contextmanager
def world(seed: int = 0, **options: Any) -> Iterator[Sim]:
    """Return a context manager that enters a new world (simulated machines and network) from plain synchronous code.

    Inside, ``asyncio.run``, ``asyncio.Runner`` and ``asyncio.new_event_loop`` create event loops of that world, and
    clocks, sockets, files, processes and entropy are simulated. On leaving, everything is real again. Options: those of
    `simloop.run`. Raises `ConfigurationError` for a bad option, `WorldError` when a world is entered already, and
    `EscapedSimulationError` when anything in it would have reached the real world.

    >>> import asyncio, simloop
    >>> with simloop.world(seed=1) as sim:
    ...     asyncio.run(asyncio.sleep(3600))
    ...     round(sim.elapsed)
    3600
    """
    from simloop.simulation.handle import Sim

    limits = make_limits(options)
    with installed(), WorldContext(_choices(seed), limits) as entered:
        yield Sim(entered)


class Execute(Protocol):
    """Structural type of the function that runs the test once, with `choices` deciding for the environment, and returns
    the outcome. An exception that is a failure is kept in the outcome; others, such as a skip, are raised. `observer`
    is told of everything that happens. `profile` overrides the test's own. `final` marks the one run whose output,
    traceback and breakpoints a person gets to see."""

    def __call__(
        self, choices: Choices, observer: Observer | None = None, *, profile: str | None = None, final: bool = False
    ) -> Outcome: ...


def execute(main: Main[Any], choices: Choices, limits: Limits, observer: Observer | None = None) -> Outcome:
    """Run ``main()`` once as `asyncio.run` would, with `choices` deciding for the environment. Return the outcome:
    exceptions are kept in it, not raised, except for Ctrl-C."""
    outcome: Outcome | None = None
    try:
        with WorldContext(choices, limits) as world:
            outcome = Outcome(world)
            if observer is not None:
                world.watch(observer)
            loop = make_loop(world, world.root)
            outcome.value = run_main(loop, main)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if outcome is None:
            raise
        outcome.exception = outcome.world.escape or error
    assert outcome is not None
    # A run that has looked at the clock once more than another, and no more came of it, has gone another way, too.
    choices.step_digest += outcome.world.scheduler.clock.now
    return outcome


def run(main: Main[T], *, seed: int = 0, **options: Any) -> T:
    """Run ``main()`` once in a fresh simulated world, as `asyncio.run` would.

    Seed 0 is the canonical run, in which nothing unusual happens; any other seed, up to 2**64 - 1, determines every
    order of events that the real environment could have chosen, the same way each time. Options, all of which may be
    left out:

    - `profile`: the orders of events that count as legal, ``"cpython"`` (the default), ``"portable"`` or ``"hostile"``;
    - `max_steps`: number of callbacks after which the run is given up (1,000,000);
    - `max_time`: virtual seconds after which it is given up (86,400);
    - `max_stall`: virtual seconds for which one slow callback may keep a loop from its timers (0.05);
    - `max_hang`: real seconds without progress after which it ends (30);
    - `start`: the wall clock's time when the run begins: a date, which begins at 00:00 UTC, or a datetime with a time
      zone; either may be text, such as ``"2026-10-25T00:30+02:00"`` (2026-01-01);
    - `threads`: deprecated, without effect: threads are always simulated;
    - `cancel`: True if the environment may cancel any task that ``main()`` itself creates (False);
    - `blocking`: the reaction to calls that block in a coroutine for 5 virtual milliseconds or more, ``"warn"`` (the
      default), ``"fail"`` or ``"ignore"``;
    - `preempt`: where a simulated thread may be preempted, before its system ``"calls"`` (the default) or also between
      the ``"lines"`` of your own code;
    - `strict_programs`: True to fail if a program that was registered is never started (False).

    Returns main's value or raises its exception; also `ConfigurationError` for a bad option, and `DeadlockError`,
    `StepLimitError`, `TimeLimitError`, `EscapedSimulationError`, `BlockingCallError` and `UncalledProgramError`, which
    end a run.

    >>> import asyncio, simloop
    >>> async def main():
    ...     await asyncio.sleep(3600)
    ...     return "an hour later, at once"
    >>> simloop.run(main)
    'an hour later, at once'
    """
    outcome = execute(main, _choices(seed), make_limits(options))
    if outcome.exception is not None:
        raise outcome.exception
    value: T = outcome.value
    return value


def _choices(seed: int) -> Choices:
    """Return the choices of a run that is given by a seed alone."""
    return Choices(seed, _seeded()(seed)) if check_seed(seed) else Choices()


@functools.cache
def _seeded() -> Callable[[int], Decide | None]:
    """Return the function `simloop.choices.draws.seeded`, imported only here: campaigns need it only to replay a
    seed."""
    from simloop.choices.draws import seeded

    return seeded
