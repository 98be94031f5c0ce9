"""The single source of nondeterminism.

Whatever the environment may decide is asked of one `Choices` object, by a *point*: who decides, of what
kind, and for the how-manieth time. The answer 0 is always the boring one, so a run is fully described by
its few answers that are not 0 (its *deviations*), a seed for the entropy that the program itself draws,
and a profile. That description is a `Schedule`; written as one line of text it is a token.

This module imports nothing of the project, and nothing else in the project may draw a random number.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple, Protocol, TypeVar

from simloop.errors import ConfigurationError

T = TypeVar("T")

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
)


class Point(NamedTuple):
    """A choice point. Its identity survives edits elsewhere in the program, because `number` counts
    only the points of the same `who` and `kind`, never the steps of the run. `who` is text to the letter, which
    `simloop.choices.who.Who` takes apart."""

    who: str
    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind} #{self.number} of {self.who}"


class Answer(NamedTuple):
    """What was decided at a point: `value` out of `range(n)`."""

    point: Point
    n: int
    value: int


Decide = Callable[[str, str, int, int], int]
"""``decide(who, kind, number, n)`` answers one point with a value in ``range(n)``."""


class DeviationObserver(Protocol):
    """The part of a run's observer that choices tell of their deviations."""

    def deviated(self, answer: Answer, subject: object) -> None: ...


class Choices:
    """Answers every choice point of one run, and records the answers."""

    __slots__ = ("_counters", "_decide", "_entropy", "observer", "orders", "recorded", "seed", "trail")

    def __init__(self, seed: int = 0, decide: Decide | None = None) -> None:
        self.seed = seed
        self._decide = decide
        self._counters: dict[tuple[str, str], int] = {}
        self.recorded: list[tuple[str, str, int, int, int]] = []
        #: How many callbacks had been run after each turn, and when something arrived, summed up: other turns make
        #: another sum. Each turn adds to it, and a hash would cost the turn twice as much.
        self.trail = 0
        #: A hash of what shows in no loop's arrivals and still makes runs differ, see `note`.
        self.orders = 0
        self._entropy: random.Random | None = None
        self.observer: DeviationObserver | None = None

    @property
    def entropy(self) -> random.Random:
        """Feeds what the program itself draws: `random`, `os.urandom`, `uuid`, `secrets`."""
        if self._entropy is None:
            self._entropy = random.Random(self.seed)
        return self._entropy

    @property
    def digest(self) -> int:
        """A hash of all answers, and of the turns that the run has taken: equal where two runs went the same way, in
        whatever processes. It is made when somebody asks: few runs of a campaign are compared with another."""
        text = repr((self.recorded, self.trail))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")

    def choose(self, who: str, kind: str, n: int, subject: object = None) -> int:
        """The environment's answer, in ``range(n)``, at this point. `subject` is what the report may
        speak of (a task, a connection); it decides nothing."""
        key = (who, kind)
        self._counters[key] = number = self._counters.get(key, 0) + 1
        value = 0
        if self._decide is not None:
            value = self._decide(who, kind, number, n)
            if value:
                assert 0 < value < n, f"{kind} of {who} answered {value} of {n}"
                if self.observer is not None:
                    self.observer.deviated(Answer(Point(who, kind, number), n, value), subject)
        self.recorded.append((who, kind, number, n, value))
        return value

    def order(self, who: str, kind: str, n: int, subject: object = None) -> int:
        """`choose` for an order that shows nowhere else."""
        value = self.choose(who, kind, n, subject)
        if value:
            self.note(f"{who} {kind}", value)
        return value

    def note(self, what: str, number: int) -> None:
        """Fold something that has happened into `orders`: runs that differ in it are never equivalent."""
        # crc32 and not hash(), which would depend on PYTHONHASHSEED.
        self.orders = hash((self.orders, zlib.crc32(what.encode()), number))

    @property
    def drew_entropy(self) -> bool:
        """Whether the program has drawn anything from its own entropy, so that the seed matters to it."""
        return self._entropy is not None

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


def permute(items: list[T], answer: Callable[[T, list[T]], int]) -> list[T]:
    """`items` in an order in which each may be overtaken by later ones: ``answer(item, later)`` says by
    how many of `later`, the first ones. All zeros keep the order (a Lehmer code, read from the back)."""
    ordered: list[T] = []
    for item in reversed(items):
        ordered.insert(answer(item, ordered) if ordered else 0, item)
    return ordered
