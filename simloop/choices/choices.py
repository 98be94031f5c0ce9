"""Single source of nondeterminism: answers all choice points of a run, and records the answers.

Whatever the environment may decide is asked of one `Choices` object at a *choice point*, which is identified by the
name of whoever asks, the kind of the decision, and its number among the decisions of that name and kind. The answer 0
is always the default, so a run is fully described by its few other answers (its *deviations*), a seed for the entropy
that the program itself draws, and a profile. That description is a `simloop.choices.schedule.Schedule`; as one line of
text it is a token.

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
    """Choice point: the name of whoever asks (`who`), the kind of the decision, and its number among the points of that
    name and kind.

    Edits elsewhere in the program do not change it, since the number does not depend on other steps of the run. `who`
    is plain text, which `simloop.choices.who.Who` parses.
    """

    who: str
    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind} #{self.number} of {self.who}"


class Answer(NamedTuple):
    """Answer to a choice point: `value`, out of ``range(n)``."""

    point: Point
    n: int
    value: int


Decide = Callable[[str, str, int, int], int]
"""``decide(who, kind, number, n)`` returns the answer at a choice point (`Point`), in ``range(n)``."""


def generator(seed: int) -> Random:
    """Return ``random.Random(seed)``, without calling `Random.__init__` and `Random.seed`, which are shimmed in a
    run."""
    made = Random.__new__(Random)
    _seed(made, seed)
    made.gauss_next = None  # type: ignore[attr-defined]
    return made


class DeviationObserver(Protocol):
    """Structural type of an observer that is notified of deviations, the answers that are not 0."""

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
        "sometimes",
        "step_digest",
        "stock",
    )

    def __init__(
        self, seed: int = 0, decide: Decide | None = None, *, lines: bool = False, numbered: bool = False
    ) -> None:
        self.seed = seed
        #: True if threads may be preempted before each source line, regardless of the options of the run.
        self.lines = lines
        #: True if objects whose hash is their memory address are numbered in this run, and hash by that number
        #: (`simloop.shims.set_order`).
        self.numbered = numbered
        #: Record of arrivals, if the run is to use the loops of `simloop.loop.stock_loop`, whose turns are those of
        #: stock asyncio; otherwise None.
        self.stock: Any = None
        #: Function that answers the choice points; None if all answers are 0.
        self.decide = decide
        self._counters: dict[tuple[str, str], int] = {}
        self.recorded: list[tuple[str, str, int, int, int]] = []
        #: Step digest, to compare runs: the sum of the numbers of callbacks run by the end of each turn, and of the
        #: times of arrivals. It is a sum, since a hash would double the cost of a turn.
        self.step_digest = 0
        #: Part of the happens-before fingerprint that does not come from the arrivals at a loop, see `fold`.
        self.folded = 0
        #: Conditions that some runs should meet, by name: True for those that this run has met.
        self.sometimes: dict[str, bool] = {}
        self._entropy: Random | None = None
        self._kinds: dict[str, int] | None = None
        self.observer: DeviationObserver | None = None

    @property
    def entropy(self) -> Random:
        """Random generator behind all entropy of the program: `random`, `os.urandom`, `uuid`, `secrets`."""
        if self._entropy is None:
            self._entropy = generator(self.seed)
        return self._entropy

    @property
    def digest(self) -> int:
        """Hash of all answers and steps of the run: equal if two runs went the same way, even in different real
        processes. Computed at each access, because few runs are compared."""
        text = repr((self.recorded, self.step_digest))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")

    def choose(self, who: str, kind: str, n: int, subject: object = None) -> int:
        """Return the environment's answer at a choice point, in ``range(n)``.

        `who` is the name of whoever asks, and `kind` one of `KINDS`. `subject` is the object that a report may describe
        (a task, a connection); it has no effect on the answer.
        """
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
        """Return an answer as `choose` does, and hash it into the run's fingerprint, which tells distinct interleavings
        apart: for choices whose effect does not show in the order in which events reach the loops."""
        value = self.choose(who, kind, n, subject)
        if value:
            self.fold(f"{who} {kind}", value)
        return value

    def fold(self, what: str, number: int) -> None:
        """Hash an event into the happens-before fingerprint (the hash of a Mazurkiewicz trace): runs that differ in it
        are not equivalent."""
        # crc32 and not hash(), which would depend on PYTHONHASHSEED.
        self.folded = hash((self.folded, zlib.crc32(what.encode()), number))

    @property
    def drew_entropy(self) -> bool:
        """True once the program has drawn entropy, so that the run depends on the seed."""
        return self._entropy is not None

    @property
    def kinds(self) -> dict[str, int]:
        """Number of the run's choice points with more than one possible answer, by kind. To be used only once the run
        is over."""
        if self._kinds is None:
            self._kinds = {}
            for _, kind, _, n, _ in self.recorded:
                if n > 1:
                    self._kinds[kind] = self._kinds.get(kind, 0) + 1
        return self._kinds

    def state(self) -> tuple[Any, ...]:
        """Return the record of the run as plain data, to be passed to `restore` in another real process."""
        return self.recorded, self.step_digest, self.folded, self.sometimes, self.drew_entropy

    def restore(self, state: tuple[Any, ...]) -> None:
        """Load the record of a run in another real process, as returned by `state`."""
        self.recorded, self.step_digest, self.folded, self.sometimes, drew_entropy = state
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
    """Return a permutation of `items`. ``answer(item, later)`` returns how many of the `later` items, which followed it
    in `items`, are to come before `item`. If all answers are 0, the order stays (a Lehmer code)."""
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
