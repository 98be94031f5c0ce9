"""Tokens: schedules as one line of text that a person can paste."""

from __future__ import annotations

import base64
import binascii
import zlib

from simloop.choices.choices import KINDS, PROFILES, Point
from simloop.choices.schedule import Schedule
from simloop.errors import OtherTestError, TokenError

_KIND_CODES = {kind: code for code, kind in enumerate(KINDS)}


def identity(name: str) -> int:
    """Return a 16-bit hash of a test's name, which the tokens of that test contain."""
    return zlib.crc32(name.encode()) & 0xFFFF


_PREFIX = "sl1:"
# The second layout has one number more, and is written where the first cannot say what the run is: so that versions
# that know the first alone can read all other tokens.
_PREFIX_2 = "sl2:"


def encode(schedule: Schedule, test: str = "") -> str:
    """Return the token of a schedule: one line that a person can paste.

    Layout, as unsigned LEB128 numbers unless said otherwise: two bytes of test identity, profile, seed,
    the table of `who` strings, then (who, kind, number, value) of each deviation, and two bytes of CRC;
    deflated if that is shorter (first byte 1), base64url without padding. If the schedule is `numbered`, a 1 follows
    the deviations, and the prefix is ``sl2:``.

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
    if schedule.numbered:
        _put(out, 1)
    out += (zlib.crc32(out) & 0xFFFF).to_bytes(2, "big")
    packed = zlib.compress(bytes(out), 9)
    body = b"\x01" + packed if len(packed) < len(out) else b"\x00" + bytes(out)
    prefix = _PREFIX_2 if schedule.numbered else _PREFIX
    return prefix + base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def decode(token: str, test: str | None = None) -> Schedule:
    """Return the schedule of a token.

    Raises `TokenError` if the text is not a complete token, and `OtherTestError` if `test` is given and the token
    belongs to another test.
    """
    text = token.strip()
    head, colon, body = text.partition(":")
    if not colon or not head.startswith("sl") or not head[2:].isdigit():
        raise TokenError(f"{_shorten(text)!r} is not a token: tokens begin with {_PREFIX!r}")
    if head not in ("sl1", "sl2"):
        raise TokenError(f"token {_shorten(text)!r} was written by a newer simloop: upgrade pytest-simloop")
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        data = _inflate(raw[1:]) if raw[0] == 1 else raw[1:]
        if raw[0] > 1 or int.from_bytes(data[-2:], "big") != zlib.crc32(data[:-2]) & 0xFFFF:
            raise ValueError
        schedule, made_for = _read(_Reader(data[:-2]), int(head[2:]))
    except (ValueError, IndexError, binascii.Error, zlib.error, UnicodeDecodeError):
        raise TokenError(f"token {_shorten(text)!r} is malformed or cut off: copy it again, whole") from None
    if test is not None and made_for != identity(test):
        raise OtherTestError(
            f"token {_shorten(text)!r} was not made for {test or 'this function'}: "
            "replay it with the test it was printed for"
        )
    return schedule


class _Reader:
    """Reader of the bytes of a token, with its position."""

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


def _read(reader: _Reader, layout: int) -> tuple[Schedule, int]:
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
    numbered = layout > 1 and reader.number()
    if reader.at != len(reader.data) or numbered > 1:
        raise ValueError
    return Schedule(profile, seed, deviations, bool(numbered)), made_for


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
