"""Random draws: seeded answers to choice points, shuffles and numbers. Nothing else in the project is random."""

from __future__ import annotations

import _random
import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from simloop.choices.lateness import ENDS, LATE, Arrival

if TYPE_CHECKING:
    from simloop.choices.choices import Decide, T

# A declared cancellation or signal comes at most once: at a higher rate it would always come early.
_ONCE = {"cancel": 1.5, "signal.sent": 1.5}
#: Number of points of a kind that a run is expected to have, if nothing is known of earlier runs.
_TYPICAL = 30
#: Kinds of choice points on the order of simultaneous events.
_ORDERS = ("poll.order", "timer.tie")
# Of how many draws of a coincidence the best is taken; fewer, where more than so many pairs would have to be looked at.
_DRAWS = 10
_PAIRS_MAX = 2000
# Of so many pairs it is remembered that they have been late together.
_SEEN_MAX = 100_000
#: Approximate maximum number of deviations of one kind that a dense walk makes in a run.
_MANY = 60


def random_walk(seed: int, typical: Mapping[str, int] | None = None) -> Decide:
    """Return a function that answers choice points by a seeded random walk.

    It deviates about one to ten times in a run (a number drawn for each run), equally often at every kind of point,
    regardless of how many points a kind has. In each run a quarter of the kinds are left out ("swarm testing", Groce et
    al., ISSTA 2012), so that some runs differ in one kind only.

    `typical` is the expected number of points of each kind.
    """
    rng: _random.Random | None = None
    wanted = 0.0
    expected = typical or {}
    rates: dict[str, float] = {}

    def rate_of(kind: str) -> float:
        nonlocal rng, wanted
        if rng is None:
            rng = _late_generator(mixed_seed(seed, 1))
            wanted = 2 ** (3.3 * rng.random()) / max(2, min(len(expected) or 5, 5))
        on = rng.random() < 0.75
        share = _ONCE.get(kind) or wanted * -math.log(1 - rng.random())
        return on * min(0.5, share / expected.get(kind, _TYPICAL))

    def decide(who: str, kind: str, number: int, n: int) -> int:
        rate = rates.get(kind)
        if rate is None:
            rate = rates[kind] = rate_of(kind)
        assert rng is not None
        return 1 + _below(rng, n - 1) if n > 1 and rng.random() < rate else 0

    return decide


def _late_generator(seed: int) -> _random.Random:
    """Return a random generator. It is made at a run's first choice point, since a run without points needs none and
    seeding is slow. It is made inside of the run, where the class in the module `random` is the program's own."""
    return _random.Random(seed)


def _below(rng: _random.Random, n: int) -> int:
    """Return a random integer in ``range(n)``, as `random.Random.randrange` does."""
    bits = n.bit_length()
    while (value := rng.getrandbits(bits)) >= n:
        pass
    return value


def dense_walk(seed: int, typical: Mapping[str, int] | None = None) -> Decide:
    """Return a function that answers choice points by a seeded random walk that deviates at a large part of all points:
    .04 to .6 of them, drawn log-uniformly for each run. At points that end something (cancellations, signals, power
    failures) the rate is lower, .01 to .1.

    In half of the runs a quarter of the kinds are left out ("swarm testing", Groce et al., ISSTA 2012). In half of the
    runs most late arrivals are late until the same time, so that they coincide, and the order of simultaneous events
    often changes.

    `typical` is the expected number of points of each kind: if there are many, the rate is lower.
    """
    draw: Callable[[], float] | None = None
    density = rare = 0.0
    meets = swarms = False
    expected = typical or {}
    rates: dict[str, float] = {}

    def rate_of(kind: str) -> float:
        nonlocal draw, density, rare, meets, swarms
        if draw is None:
            draw = _late_generator(mixed_seed(seed, 4)).random
            density, rare = 0.04 * 15 ** draw(), 0.01 * 10 ** draw()
            meets, swarms = draw() < 0.5, draw() < 0.5
        if swarms and draw() < 0.25:
            return 0.0
        if kind in ENDS:
            return rare
        if meets and kind in _ORDERS:
            return 0.4
        usual = density * 0.3 if kind == "cpu.stall" else density
        return min(usual, _MANY / expected.get(kind, _TYPICAL))

    def decide(who: str, kind: str, number: int, n: int) -> int:
        if n < 2:
            return 0
        rate = rates.get(kind)
        if rate is None:
            rate = rates[kind] = rate_of(kind)
        assert draw is not None
        if draw() >= rate:
            return 0
        if meets and n > LATE.get(kind, n) and draw() < 0.9:
            return LATE[kind]
        return 1 + int(draw() * (n - 1))

    return decide


def coincidences(
    seed: int, sources: Sequence[Sequence[Arrival]], seen: set[tuple[Arrival, Arrival]], alike: bool | None = None
) -> Decide:
    """Return a function that answers choice points so that arrivals of different sources coincide.

    All sources (connections, threads, processes), or four in five, or half of them, are late once, or two or three
    times, at points that are drawn. All are late until the same time, from which they continue together. In half of the
    runs, the points are drawn such that all sources have about as many points after them. The order of simultaneous
    events changes too. Points that end something deviate at a rate of .01 to .1; all other points at such a rate in a
    quarter of the runs, otherwise not at all.

    `sources` are the points of each source at which it may be late, in order. `seen` is the set of pairs of points at
    which sources were late together in earlier runs. Of several draws, the one with most pairs that are not in `seen`
    is taken (as in the greedy construction of covering arrays, Cohen, Dalal, Fredman and Patton, IEEE TSE 1997), and
    these are added to it.

    If `alike` is not None, nine in ten sources are late once: at points with about as many points after them if it is
    True, at any points if it is False; and other points do not deviate, except for orders and ends.
    """
    draw = _random.Random(mixed_seed(seed, 5)).random
    part = (0.5, 0.8, 1.0, 1.0)[int(draw() * 4)]
    times = (1, 1, 1, 2, 3)[int(draw() * 5)]
    noise = 0.01 * 10 ** draw() if draw() < 0.25 else 0.0
    rare = 0.01 * 10 ** draw()
    if alike is not None:
        part, times, noise = 0.9, 1, 0.0
    size = (len(sources) * times) ** 2 // 2 + 1
    if any(points[0][1] == "order.lag" for points in sources):
        size = _PAIRS_MAX  # steps of tasks: there is no end to which they come together, and a few suffice
    left = None
    if (draw() < 0.5 if alike is None else alike) and size < _PAIRS_MAX:
        left = 0
        while draw() < 0.6:
            left += 1
    late: set[Arrival] = set()
    new: set[tuple[Arrival, Arrival]] = set()
    for _ in range(max(1, min(_DRAWS, _PAIRS_MAX // size))):
        drawn = _drawn(draw, sources, part, times, left)
        pairs = set(combinations(sorted(drawn), 2)) - seen if size < _PAIRS_MAX else set()
        if not late or len(pairs) > len(new):
            late, new = drawn, pairs
    if len(seen) < _SEEN_MAX:
        seen |= new

    def decide(who: str, kind: str, number: int, n: int) -> int:
        if n < 2:
            return 0
        if (who, kind, number) in late:
            return min(LATE[kind], n - 1)
        rate = 0.2 if kind in _ORDERS else rare if kind in ENDS else noise
        return 1 + int(draw() * (n - 1)) if draw() < rate else 0

    return decide


def _drawn(
    draw: Callable[[], float], sources: Sequence[Sequence[Arrival]], part: float, times: int, left: int | None
) -> set[Arrival]:
    """Return a random sample of the arrivals of some sources (a `part` of them), `times` of each. If `left` is None,
    any of its arrivals may be drawn; otherwise those with about `left` points after them, since what sources do at
    their end is often similar, however long they take to get there."""
    found = set()
    for points in sources:
        if draw() >= part:
            continue
        for _ in range(times):
            if left is None:
                found.add(points[int(draw() * len(points))])
            else:
                after = left + (0, 0, 0, 0, 0, -1, 1)[int(draw() * 7)]
                found.add(points[-1 - min(max(after, 0), len(points) - 1)])
    return found


def shuffler(seed: int) -> Callable[[list[T]], list[T]]:
    """Return a function that returns shuffled copies of lists, with random numbers from this seed."""
    rng = random.Random(mixed_seed(seed, 2))
    return lambda items: rng.sample(items, len(items))


def drawer(*seeds: int) -> Callable[[int], int]:
    """Return a function ``draw(n)`` that returns a random integer in ``range(n)``, with random numbers from these
    seeds."""
    rng = random.Random(mixed_seed(*seeds, 3))
    return rng.randrange


def seeded(seed: int) -> Decide | None:
    """Return the function that answers the choice points of a run with this seed: a random walk, or None for seed 0,
    the canonical run."""
    return random_walk(seed) if seed else None


def mixed_seed(*parts: int) -> int:
    """Return a 64-bit hash of several integers (the finaliser of SplitMix64)."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state
