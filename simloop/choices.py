"""The single source of nondeterminism.

Whatever the environment may decide is asked of one `Choices` object, by a *point*: who decides, of what
kind, and for the how-manieth time. The answer 0 is always the boring one, so a run is fully described by
its few answers that are not 0 (its *deviations*), a seed for the entropy that the program itself draws,
and a profile. That description is a `Schedule`; written as one line of text it is a token.

This module imports nothing of the project, and nothing else in the project may draw a random number.
"""

from __future__ import annotations

import base64
import binascii
import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, Protocol, TypeVar

from simloop.errors import ConfigurationError, NondeterminismError, OtherTestError, TokenError

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
_KIND_CODES = {kind: code for code, kind in enumerate(KINDS)}


class Point(NamedTuple):
    """A choice point. Its identity survives edits elsewhere in the program, because `number` counts
    only the points of the same `who` and `kind`, never the steps of the run."""

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


class Observer(Protocol):
    """Is told of each deviation while it is taken; only traced runs have one."""

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
        self.observer: Observer | None = None

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


@dataclass(frozen=True)
class Schedule:
    """What it takes to run again: a profile, the seed of the program's own entropy, the deviations."""

    profile: str = "cpython"
    seed: int = 0
    deviations: dict[Point, int] = field(default_factory=dict)

    def decider(self) -> Decide:
        """Answers as this schedule says, and 0 everywhere else. A deviation that asks for more than
        the point offers by now gets the most that it offers."""
        wanted = {tuple(point): value for point, value in self.deviations.items()}

        def decide(who: str, kind: str, number: int, n: int) -> int:
            value = wanted.get((who, kind, number), 0)
            return value if value < n else n - 1

        return decide

    def applied(self, choices: Choices) -> int:
        """How many of the deviations took place in the run that `choices` recorded."""
        taken = choices.deviations()
        return sum(point in taken for point in self.deviations)


def identity(name: str) -> int:
    """Sixteen bits that tell one test from another; part of its tokens."""
    return zlib.crc32(name.encode()) & 0xFFFF


def first_difference(expected: Choices, actual: Choices, what: str) -> NondeterminismError:
    """The error for two runs of one schedule that went two ways."""
    for left, right in zip(expected.answers(), actual.answers(), strict=False):
        if left != right:
            detail = (
                f"first at {left.point}: expected {left.value} of {left.n}, "
                f"got {right.value} of {right.n} at {right.point}"
            )
            break
    else:
        a, b = len(expected.recorded), len(actual.recorded)
        if a == b:
            detail = "every choice was the same, but callbacks ran at other times or in other numbers"
        else:
            longer = (expected if a > b else actual).answers()[min(a, b)]
            detail = f"first at {longer.point}, which only the {'first' if a > b else 'second'} run reached"
    return NondeterminismError(
        f"two runs of {what} with the same schedule differ: {detail}. "
        "Look for module-level state, iteration over sets, or a clock that the simulation does not cover"
    )


# --- tokens -----------------------------------------------------------------------------------------

_PREFIX = "sl1:"


def encode(schedule: Schedule, test: str = "") -> str:
    """The schedule as one line that a person can paste.

    Layout, as unsigned LEB128 numbers unless said otherwise: two bytes of test identity, profile, seed,
    the table of `who` strings, then (who, kind, number, value) of each deviation, and two bytes of CRC;
    deflated where that is shorter (first byte 1), base64url without padding.

    >>> decode(encode(Schedule(seed=7))) == Schedule(seed=7)
    True
    """
    out = bytearray(identity(test).to_bytes(2, "big"))
    _put(out, PROFILES.index(schedule.profile))
    _put(out, schedule.seed)
    whos = list(dict.fromkeys(point.who for point in schedule.deviations))
    _put(out, len(whos))
    for who in whos:
        _put_text(out, who)
    _put(out, len(schedule.deviations))
    for point, value in schedule.deviations.items():
        _put(out, whos.index(point.who))
        code = _KIND_CODES.get(point.kind)
        _put(out, 0 if code is None else code + 1)
        if code is None:
            _put_text(out, point.kind)
        _put(out, point.number)
        _put(out, value)
    out += (zlib.crc32(out) & 0xFFFF).to_bytes(2, "big")
    packed = zlib.compress(bytes(out), 9)
    body = b"\x01" + packed if len(packed) < len(out) else b"\x00" + bytes(out)
    return _PREFIX + base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def decode(token: str, test: str | None = None) -> Schedule:
    """The schedule that a token stands for.

    Raises `TokenError` for text that is not a whole token, and `OtherTestError` when `test` is given
    and the token was made for another one.
    """
    text = token.strip()
    head, colon, body = text.partition(":")
    if not colon or not head.startswith("sl") or not head[2:].isdigit():
        raise TokenError(f"{_shorten(text)!r} is not a token: tokens begin with {_PREFIX!r}")
    if head != "sl1":
        raise TokenError(f"token {_shorten(text)!r} was written by a newer simloop: upgrade pytest-simloop")
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        data = _inflate(raw[1:]) if raw[0] == 1 else raw[1:]
        if raw[0] > 1 or int.from_bytes(data[-2:], "big") != zlib.crc32(data[:-2]) & 0xFFFF:
            raise ValueError
        schedule, made_for = _read(_Reader(data[:-2]))
    except (ValueError, IndexError, binascii.Error, zlib.error, UnicodeDecodeError):
        raise TokenError(f"token {_shorten(text)!r} is malformed or cut off: copy it again, whole") from None
    if test is not None and made_for != identity(test):
        raise OtherTestError(
            f"token {_shorten(text)!r} was not made for {test or 'this function'}: "
            "replay it with the test it was printed for"
        )
    return schedule


def check_profile(name: str) -> str:
    if name not in PROFILES:
        raise ConfigurationError(f"unknown profile {name!r}: use one of {', '.join(PROFILES)}")
    return name


def check_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ConfigurationError(f"seed must be a whole number from 0 to 2**64 - 1, not {seed!r}")
    return seed


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        if len(piece) != size:
            raise IndexError
        self.at += size
        return piece

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7
            if shift > 70:
                raise ValueError

    def text(self) -> str:
        return self.take(self.number()).decode()


def _read(reader: _Reader) -> tuple[Schedule, int]:
    made_for = int.from_bytes(reader.take(2), "big")
    profile = PROFILES[reader.number()]
    seed = reader.number()
    whos = [reader.text() for _ in range(reader.number())]
    deviations: dict[Point, int] = {}
    for _ in range(reader.number()):
        who = whos[reader.number()]
        code = reader.number()
        kind = KINDS[code - 1] if code else reader.text()
        point = Point(who, kind, reader.number())
        deviations[point] = reader.number()
    if reader.at != len(reader.data):
        raise ValueError
    return Schedule(profile, seed, deviations), made_for


def _inflate(data: bytes) -> bytes:
    # A pasted token is untrusted text: it must not unpack to gigabytes.
    inflater = zlib.decompressobj()
    out = inflater.decompress(data, 1 << 20)
    if not inflater.eof:
        raise ValueError
    return out


def _put(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_text(out: bytearray, text: str) -> None:
    raw = text.encode()
    _put(out, len(raw))
    out += raw


def _shorten(text: str) -> str:
    return text if len(text) <= 24 else text[:20] + "..."


# A declared cancellation comes at most once: at a higher rate it would always come early.
_ONCE = {"cancel": 1.5}
#: How many points of a kind a run is taken to have, before one was seen.
_TYPICAL = 30


def random_walk(seed: int, typical: Mapping[str, int] | None = None) -> Decide:
    """Deviates at random: from about once in a run to ten times, drawn for each run, and at points of
    every kind alike, however many it has. A quarter of the kinds are left out of each run ("swarm testing",
    Groce et al., ISSTA 2012), so that some runs differ in one thing only.

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
    """Puts lists into orders that the seed decides."""
    rng = random.Random(mixed_seed(seed, 2))
    return lambda items: rng.sample(items, len(items))


def drawer(*seeds: int) -> Callable[[int], int]:
    """Draws whole numbers below the one that it is given."""
    rng = random.Random(mixed_seed(*seeds, 3))
    return rng.randrange


def seeded(seed: int) -> Decide | None:
    """Seed 0 is the canonical run; any other walks at random."""
    return random_walk(seed) if seed else None


def permute(items: list[T], answer: Callable[[T, list[T]], int]) -> list[T]:
    """`items` in an order in which each may be overtaken by later ones: ``answer(item, later)`` says by
    how many of `later`, the first ones. All zeros keep the order (a Lehmer code, read from the back)."""
    ordered: list[T] = []
    for item in reversed(items):
        ordered.insert(answer(item, ordered) if ordered else 0, item)
    return ordered


def mixed_seed(*parts: int) -> int:
    """One 64-bit number out of several, well spread (the finaliser of SplitMix64)."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state
