"""Random draws: seeded answers to choice points, shuffles and numbers. The project draws nothing elsewhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simloop.choices.choices import Decide, T

# A declared cancellation or signal comes at most once: at a higher rate it would always come early.
_ONCE = {"cancel": 1.5, "signal.sent": 1.5}
#: Number of points of a kind that a run is expected to have, before a run was seen.
_TYPICAL = 30


def random_walk(seed: int, typical: Mapping[str, int] | None = None) -> Decide:
    """Return a function that answers choice points by a seeded random walk. It deviates from about once in a run to ten
    times, drawn for each run, and equally often at every kind of point, however many points a kind has. A quarter of
    the kinds are left out of each run ("swarm testing", Groce et al., ISSTA 2012), so that some runs differ in one
    thing only.

    `typical` says how many points of each kind to expect.
    """
    rng = random.Random(mixed_seed(seed, 1))
    expected = typical or {}
    wanted = 2 ** rng.uniform(0, 3.3) / max(2, min(len(expected) or 5, 5))
    rates: dict[str, float] = {}

    def decide(who: str, kind: str, number: int, n: int) -> int:
        rate = rates.get(kind)
        if rate is None:
            on = rng.random() < 0.75
            share = _ONCE.get(kind) or wanted * rng.expovariate(1)
            rate = rates[kind] = on * min(0.5, share / expected.get(kind, _TYPICAL))
        return rng.randrange(1, n) if n > 1 and rng.random() < rate else 0

    return decide


def shuffler(seed: int) -> Callable[[list[T]], list[T]]:
    """Return a function that returns shuffled copies of lists, by a generator with this seed."""
    rng = random.Random(mixed_seed(seed, 2))
    return lambda items: rng.sample(items, len(items))


def drawer(*seeds: int) -> Callable[[int], int]:
    """Return a function that draws a whole number below its argument, by a generator with these seeds."""
    rng = random.Random(mixed_seed(*seeds, 3))
    return rng.randrange


def seeded(seed: int) -> Decide | None:
    """Return the function that answers the choice points of a run with a plain seed: None for seed 0, whose run is the
    canonical one, else a random walk."""
    return random_walk(seed) if seed else None


def mixed_seed(*parts: int) -> int:
    """Return a 64-bit hash of several numbers (the finaliser of SplitMix64)."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state
