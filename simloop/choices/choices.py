"""Choices: the single source of nondeterminism, asked at choice points and recording its answers.

Whatever the environment may decide is asked of one `Choices` object, by a *point*: who asks, the kind of the decision,
and which one it is of that kind (the nth occurrence). The answer 0 is always the default, so a run is fully
described by its few answers that are not 0 (its *deviations*), a seed for the entropy that the program itself draws,
and a profile. That description is a `simloop.choices.schedule.Schedule`; written as one line of text it is a token.

The package imports nothing of the project but its errors.
"""

from __future__ import annotations

import _random
import zlib
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from random import Random
from typing import Any, NamedTuple, Protocol, TypeVar

from simloop.errors import ConfigurationError

T = TypeVar("T")
_seed = _random.Random.seed

PROFILES = ("cpython", "portable", "hostile")

# The kinds of points, in the order of their codes in tokens: append only, never reorder.
KINDS = (
    "cancel",
    "net.deliver",
    "net.connect",
    "poll.order",
    "timer.tie",
    "cpu.stall",
    "thread.start",
    "thread.finish",
    "process.turn",
    "order.task",
    "order.timer",
    "order.fd",
    "order.arrival",
    "net.race",
    "thread.race",
    "disk.crash",
    "disk.journal",
    "host.crash",
    "disk.fault",
    "process.exit",
    "signal",
    "signal.seen",
    "signal.merge",
    "process.pid",
    "process.start",
    "thread.switch",
    "clock.step",
    "thread.line",
    "process.switch",
    "signal.sent",
    "poll.late",
    "net.lose",
    "net.partition",
    "net.reset",
    "host.pause",
    "order.lag",
    "dns.fail",
    "dns.slow",
)


class Point(NamedTuple):
    """Choice point: who asks, the kind of the decision, and its number. Its identity survives edits elsewhere in the
    program, because `number` counts only the points of the same `who` and `kind`, never the steps of the run. `who` is
    plain text, which `simloop.choices.who.Who` takes apart."""

    who: str
    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind} #{self.number} of {self.who}"


class Answer(NamedTuple):
    """Answer to a choice point: `value` out of `range(n)`."""

    point: Point
    n: int
    value: int


Decide = Callable[[str, str, int, int], int]
"""``decide(who, kind, number, n)`` answers one point with a value in ``range(n)``."""


def generator(seed: int) -> Random:
    """Return ``random.Random(seed)``, without calling `Random.__init__` and `Random.seed`, for which there is a shim: a
    run that draws numbers needs two of them."""
    made = Random.__new__(Random)
    _seed(made, seed)
    made.gauss_next = None  # type: ignore[attr-defined]
    return made


class DeviationObserver(Protocol):
    """Protocol of the part of a run's observer that is notified of deviations."""

    def deviated(self, answer: Answer, subject: object) -> None: ...


class Choices:
    """Source of all decisions of one run: answers every choice point, and records the answers."""

    __slots__ = (
        "_counters",
        "_entropy",
        "_kinds",
        "decide",
        "folded",
        "lines",
        "numbered",
        "observer",
        "recorded",
        "seed",
        "step_digest",
        "stock",
    )

    def __init__(
        self, seed: int = 0, decide: Decide | None = None, *, lines: bool = False, numbered: bool = False
    ) -> None:
        self.seed = seed
        #: True if lines of threads are choice points, whatever the options of the run say.
        self.lines = lines
        #: True if all objects that would hash by address have numbers in this run (`simloop.shims.set_order`).
        self.numbered = numbered
        #: Record of arrivals if the run's loops are to have stock asyncio's own turns (`simloop.loop.stock_loop`).
        self.stock: Any = None
        #: Function that answers the points; None if all answers are 0.
        self.decide = decide
        self._counters: dict[tuple[str, str], int] = {}
        self.recorded: list[tuple[str, str, int, int, int]] = []
        #: Step digest: the number of callbacks run after each turn, and the times of arrivals, summed up. Runs that
        #: take other turns have another one. Each turn adds to it, and a hash would cost the turn twice as much.
        self.step_digest = 0
        #: Part of the happens-before fingerprint that shows in no loop's arrivals, see `fold`.
        self.folded = 0
        self._entropy: Random | None = None
        self._kinds: dict[str, int] | None = None
        self.observer: DeviationObserver | None = None

    @property
    def entropy(self) -> Random:
        """Random generator behind the program's own entropy: `random`, `os.urandom`, `uuid`, `secrets`."""
        if self._entropy is None:
            self._entropy = generator(self.seed)
        return self._entropy

    @property
    def digest(self) -> int:
        """Hash of all answers, and of the turns that the run has taken: equal if two runs went the same way, also in
        different processes. Computed on access, because few runs are ever compared."""
        text = repr((self.recorded, self.step_digest))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")

    def choose(self, who: str, kind: str, n: int, subject: object = None) -> int:
        """Return the environment's answer at this choice point, in ``range(n)``. `subject` is the object that a report
        may describe (a task, a connection); it decides nothing."""
        key = (who, kind)
        self._counters[key] = number = self._counters.get(key, 0) + 1
        value = 0
        if self.decide is not None:
            value = self.decide(who, kind, number, n)
            if value:
                assert 0 < value < n, f"{kind} of {who} answered {value} of {n}"
                if self.observer is not None:
                    self.observer.deviated(Answer(Point(who, kind, number), n, value), subject)
        self.recorded.append((who, kind, number, n, value))
        return value

    def order(self, who: str, kind: str, n: int, subject: object = None) -> int:
        """Choose as `choose` does, and fold the answer into the fingerprint: no loop's arrivals show such an order."""
        value = self.choose(who, kind, n, subject)
        if value:
            self.fold(f"{who} {kind}", value)
        return value

    def fold(self, what: str, number: int) -> None:
        """Add an event to the happens-before fingerprint (the hash of a Mazurkiewicz trace): runs that differ in it are
        never equivalent."""
        # crc32 and not hash(), which would depend on PYTHONHASHSEED.
        self.folded = hash((self.folded, zlib.crc32(what.encode()), number))

    @property
    def drew_entropy(self) -> bool:
        """True once the program has drawn from its own entropy, so that the seed matters to it."""
        return self._entropy is not None

    @property
    def kinds(self) -> dict[str, int]:
        """Number of the run's choice points that have more than one answer, by kind, once it is over."""
        if self._kinds is None:
            self._kinds = {}
            for _, kind, _, n, _ in self.recorded:
                if n > 1:
                    self._kinds[kind] = self._kinds.get(kind, 0) + 1
        return self._kinds

    def state(self) -> tuple[Any, ...]:
        """Return the record of the run as plain data, for `restore` in another process."""
        return self.recorded, self.step_digest, self.folded, self.drew_entropy

    def restore(self, state: tuple[Any, ...]) -> None:
        """Load the record of a run that another process has made (`state`)."""
        self.recorded, self.step_digest, self.folded, drew_entropy = state
        if drew_entropy:
            self.entropy.random()

    def answers(self) -> list[Answer]:
        return [Answer(Point(who, kind, number), n, value) for who, kind, number, n, value in self.recorded]

    def deviations(self) -> dict[Point, int]:
        return {Point(who, kind, number): value for who, kind, number, _, value in self.recorded if value}


# --- tokens -----------------------------------------------------------------------------------------


def check_profile(name: str) -> str:
    if name not in PROFILES:
        raise ConfigurationError(f"unknown profile {name!r}: use one of {', '.join(PROFILES)}")
    return name


def check_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ConfigurationError(f"seed must be a whole number from 0 to 2**64 - 1, not {seed!r}")
    return seed


def permute(items: list[T], answer: Callable[[T, deque[T]], int]) -> list[T]:
    """Return a permutation of `items`: ``answer(item, later)`` is the number of `later` items, the first ones, that
    overtake an item. All zeros keep the order (a Lehmer code, read from the back)."""
    ordered: deque[T] = deque()  # most go to the front, which in a list takes all others along
    for item in reversed(items):
        ordered.insert(answer(item, ordered) if ordered else 0, item)
    return list(ordered)


def nth(name: str, number: int) -> str:
    """Return the name for the `number`-th thing called `name`: the first one gets no number.

    >>> nth("read", 1), nth("read", 2)
    ('read', 'read#2')
    """
    return f"{name}#{number}" if number > 1 else name
