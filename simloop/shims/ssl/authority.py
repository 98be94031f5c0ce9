"""The certificate authority of all worlds: certificates for host names, the same bytes in every process.

They are put together here (RFC 5280 in the encoding of X.690), and not by a library: those that make certificates have
a generator of their own, which no seed reaches, so that keys, signatures and lengths would differ between runs. RSA
with PKCS #1 v1.5 signs without a generator, and in Python it is one power. Why the keys are fixed:
docs/decisions/0012-certificates-have-one-fixed-key.md. Nothing here is secret, and only worlds trust it.
"""

from __future__ import annotations

import base64
import datetime
import functools
import ipaddress
import re
from collections.abc import Iterable
from hashlib import sha1, sha256

_P = int.from_bytes(base64.b64decode(
    "7yIbcNMhICi0a60zhFt0hT7ATMtXZ+atV4E6XGawku2Kw9dK4suTcgHAw+AV9i6Qmtqu0eTNQk+aNT4ZKnqit2VxIqRMexd7dVIuPTx0aRf5K/9AXghg"
    "dAEZjvsUURWAvqVZkWJGyhsGNkboHcYjFhWFXwjTt0Ct+Gv+XDYEShM="
))  # fmt: skip
_Q = int.from_bytes(base64.b64decode(
    "4QdKYJbGAjMIEgo3PHQwNjvpLdtfjYZZDxJpOpppMt7Um+bRgifXDMpxb5+RLUqUAe4+y6gUl0rdAN7IN9BzVP4yMgRLwdFkldjYaeEGIiltAUWYMh1J"
    "iGQ24drO7JQvaxnZhVOy0/szhSsb5xTH+Sc7HfB+DYoayM3MmtBZ5Ks="
))  # fmt: skip
_E = 65537
_SIZE = 256

#: Key of every certificate that the authority issues: an EC key, as most certificates have.
KEY_PEM = b"""\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgE/27DjJE62TVHcR5
SYgMP9v2axSnI2nVhFJXa32Q3SehRANCAAQVoVw1Q32LXfQVh08BwZjryyXX+u8p
SgxTGZRTW0fhn8iiZTPIgFIQU3dijA0wWLRaqbA5ZJ+26Bpav+82MQTE
-----END PRIVATE KEY-----
"""
# It ends with its public half, an uncompressed point.
_POINT = base64.b64decode(b"".join(KEY_PEM.splitlines()[1:-1]))[-65:]

VALID_FROM = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
VALID_UNTIL = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)

# A label may have an underscore: containers like it. The first one may be a wildcard.
_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(size))) + size + body


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, *parts)


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1))


def _bits(data: bytes, unused: int = 0) -> bytes:
    return _der(0x03, bytes((unused,)), data)


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytearray((first * 40 + second,))
    for arc in rest:
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.append(0x80 | arc & 0x7F)
        encoded += bytes(reversed(digits))
    return _der(0x06, bytes(encoded))


def _time(moment: datetime.datetime) -> bytes:
    moment = moment.astimezone(datetime.UTC)
    # Section 4.1.2.5: two digits for the year until 2049, four after that.
    if 1950 <= moment.year < 2050:
        return _der(0x17, f"{moment:%y%m%d%H%M%S}Z".encode())
    return _der(0x18, f"{moment.year:04}{moment:%m%d%H%M%S}Z".encode())


def _name(common: str) -> bytes:
    return _sequence(
        *(
            _der(0x31, _sequence(_oid(kind), _der(0x0C, text.encode())))
            for kind, text in (("2.5.4.10", "simloop"), ("2.5.4.3", common))
        )
    )


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    return _sequence(_oid(oid), b"\x01\x01\xff" if critical else b"", _der(0x04, value))


_SIGNED_WITH = _sequence(_oid("1.2.840.113549.1.1.11"), b"\x05\x00")  # SHA-256 with RSA
_AUTHORITY = "simloop's authority, whose key everybody knows"
_MODULUS = _sequence(_integer(_P * _Q), _integer(_E))
_AUTHORITY_KEY = _sequence(_sequence(_oid("1.2.840.113549.1.1.1"), b"\x05\x00"), _bits(_MODULUS))
_HOST_KEY = _sequence(_sequence(_oid("1.2.840.10045.2.1"), _oid("1.2.840.10045.3.1.7")), _bits(_POINT))
# Section 4.2.1.2: the hash of the bits of the key.
_AUTHORITY_ID, _HOST_ID = sha1(_MODULUS).digest(), sha1(_POINT).digest()


def _sign(data: bytes) -> bytes:
    """Return the signature of `data`, as RSASSA-PKCS1-v1_5 (RFC 8017, section 8.2.1)."""
    digest = _sequence(_sequence(_oid("2.16.840.1.101.3.4.2.1"), b"\x05\x00"), _der(0x04, sha256(data).digest()))
    padded = int.from_bytes(b"\x00\x01" + b"\xff" * (_SIZE - len(digest) - 3) + b"\x00" + digest)
    d = pow(_E, -1, (_P - 1) * (_Q - 1))
    # By the Chinese remainder theorem: four times as fast as pow(padded, d, _P * _Q).
    by_p, by_q = pow(padded, d % (_P - 1), _P), pow(padded, d % (_Q - 1), _Q)
    return (by_q + (by_p - by_q) * pow(_Q, -1, _P) % _P * _Q).to_bytes(_SIZE)


def _certificate(
    subject: str, key: bytes, valid_from: datetime.datetime, valid_until: datetime.datetime, extensions: Iterable[bytes]
) -> bytes:
    rest = (
        _SIGNED_WITH,
        _name(_AUTHORITY),
        _sequence(_time(valid_from), _time(valid_until)),
        _name(subject),
        key,
        _der(0xA3, _sequence(*extensions)),
    )
    serial = int.from_bytes(sha256(b"".join(rest)).digest()[:15])
    signed = _sequence(_der(0xA0, _integer(2)), _integer(serial), *rest)
    return _pem(_sequence(signed, _SIGNED_WITH, _bits(_sign(signed))))


def _pem(data: bytes) -> bytes:
    lines = base64.b64encode(data)
    body = b"".join(lines[at : at + 64] + b"\n" for at in range(0, len(lines), 64))
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


@functools.cache
def authority_pem() -> bytes:
    """Return the certificate of the authority itself."""
    extensions = (
        _extension("2.5.29.19", _sequence(b"\x01\x01\xff"), critical=True),  # it is an authority
        _extension("2.5.29.15", _bits(b"\x06", 1), critical=True),  # keyCertSign, cRLSign
        _extension("2.5.29.14", _der(0x04, _AUTHORITY_ID)),
    )
    return _certificate(_AUTHORITY, _AUTHORITY_KEY, VALID_FROM, VALID_UNTIL, extensions)


@functools.cache
def certificate_pem(
    names: tuple[str, ...],
    valid_from: datetime.datetime = VALID_FROM,
    valid_until: datetime.datetime = VALID_UNTIL,
) -> bytes:
    """Return a certificate for names and addresses (`spelled`), for servers and clients; its key is `KEY_PEM`."""
    extensions = (
        _extension("2.5.29.19", _sequence(), critical=True),
        _extension("2.5.29.15", _bits(b"\x80", 7), critical=True),  # digitalSignature
        _extension("2.5.29.37", _sequence(_oid("1.3.6.1.5.5.7.3.1"), _oid("1.3.6.1.5.5.7.3.2"))),
        _extension("2.5.29.17", _sequence(*map(_alternative, names))),
        _extension("2.5.29.14", _der(0x04, _HOST_ID)),
        _extension("2.5.29.35", _sequence(_der(0x80, _AUTHORITY_ID))),
    )
    return _certificate(names[0], _HOST_KEY, valid_from, valid_until, extensions)


def _alternative(name: str) -> bytes:
    """Return a GeneralName: of an address or of a host."""
    try:
        return _der(0x87, ipaddress.ip_address(name).packed)
    except ValueError:
        return _der(0x82, name.encode())


def spelled(name: object) -> str | None:
    """Return a name or an address as a certificate spells it, or None for what is neither."""
    if not isinstance(name, str):
        return None
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return None
    return name.lower().rstrip(".") if len(name) <= 253 and _NAME.fullmatch(name) else None
