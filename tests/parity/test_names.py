"""`socket.getaddrinfo` for what needs no configuration: literals, no host at all, and mistakes."""

from __future__ import annotations

import socket
from socket import AF_INET, AF_INET6, AF_UNIX, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from typing import Any

import pytest
from parity_kernels import have_ipv6

import simloop

PASSIVE, CANONNAME, NUMERICHOST = socket.AI_PASSIVE, socket.AI_CANONNAME, socket.AI_NUMERICHOST
LONG = "a" * 64
#: Without IPv6 the library leaves out half of what stands for no host.
ASKED: list[tuple[Any, ...]] = [
    ("127.0.0.1", 80), ("::1", 80), ("127.0.0.1", "80"), ("127.0.0.1", None), ("127.0.0.1", ""), (b"127.0.0.1", b"80"),
    (None, None), ("", None), ("", 80), ("", 80, 0, SOCK_STREAM, 0, PASSIVE),
    (None, 80, AF_INET), (None, 80, AF_INET, SOCK_STREAM, 0, PASSIVE), (None, 80, AF_INET6, 0, 0, PASSIVE),
    (None, 80, 0, SOCK_STREAM, 0, CANONNAME), ("127.0.0.1", 80, 0, SOCK_STREAM, 0, CANONNAME),
    ("127.0.0.1", 80, AF_INET6), ("::1", 80, AF_INET), ("127.0.0.1", 80, AF_UNIX), ("127.0.0.1", 80, 99),
    ("127.0.0.1", 80, AF_INET6, SOCK_STREAM, 0, socket.AI_V4MAPPED),
    ("127.0.0.1", 80, 0, 99), ("127.0.0.1", 80, 0, SOCK_STREAM, IPPROTO_UDP), ("127.0.0.1", 80, 0, 0, IPPROTO_TCP),
    ("127.0.0.1", 80, 0, 0, 99), ("127.0.0.1", 80, 0, SOCK_DGRAM), ("127.0.0.1", 80, 0, SOCK_RAW),
    ("127.0.0.1", None, 0, SOCK_RAW), ("127.0.0.1", None, 0, SOCK_RAW, IPPROTO_UDP),
    ("127.0.0.1", 80, 0, SOCK_STREAM, 0, 1 << 26),
    ("127.0.0.1", "nosuchservice"), ("127.0.0.1", "http", 0, SOCK_STREAM, 0, socket.AI_NUMERICSERV),
    ("127.0.0.1", 70_000), ("127.0.0.1", "70000"), ("127.0.0.1", -1), ("127.0.0.1", 1.5), (5, 80),
    ("127.1", 80), ("0x7f.1", 80), ("2130706433", 80), ("01.2.3.4", 80), ("127.0.0.1 ", 80, 0, 0, 0, NUMERICHOST),
    ("0::1", 80), ("::ffff:1.2.3.4", 80), ("::FFFF:0102:0304", 80), ("fe80::1%1", 80), ("::1%lo", 80),
    ("256.1.1.1", 80, 0, 0, 0, NUMERICHOST), ("localhost", 80, 0, 0, 0, NUMERICHOST),
    (LONG, 80, 0, 0, 0, NUMERICHOST), ("127.0.0.1%lo", 80, 0, 0, 0, NUMERICHOST), ("::1%", 80),
    ("127.0.0.1 x", 80, 0, 0, 0, NUMERICHOST), ("febf::1%lo", 80), ("fec0::1%lo", 80),
    ("localhost", 80, 0, 0, 0, socket.AI_NUMERICHOST | socket.AI_CANONNAME),
]  # fmt: skip
if have_ipv6():
    ASKED += [(None, 80), (None, 80, 0, SOCK_STREAM, 0, PASSIVE)]


def answer(asked: tuple[Any, ...]) -> Any:
    try:
        return socket.getaddrinfo(*asked)
    except (OSError, TypeError) as error:
        return type(error), error.args
    except UnicodeError as error:
        return type(error)


@pytest.mark.parametrize("asked", ASKED, ids=repr)
def test_getaddrinfo_answers_as_the_real_one(asked: tuple[Any, ...]) -> None:
    real = answer(asked)
    with simloop.world():
        simulated = answer(asked)
    assert simulated == real
