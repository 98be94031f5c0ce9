"""The table of ports: who may bind, who listens, and what cools down after use. Parity holds it to Linux; here is what
it answers without a socket."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from simloop.choices.choices import Choices
from simloop.kernel.net.addresses import Address
from simloop.kernel.net.ports import EPHEMERAL, TIME_WAIT_NS, Claim, Ports
from simloop.kernel.scheduler import Scheduler


class Socket:
    """A socket as the table of ports sees it."""

    def __init__(self, ip: str = "0.0.0.0", *, reuse_address: bool = False, reuse_port: bool = False) -> None:
        self.ip = ip
        self.port = self.shown_port = 0
        self.peer: Address | None = None
        self.state = "CLOSED"
        self.held_until_ns: int | None = None
        self.queue: list[Any] = []
        self.flags = (reuse_address, reuse_port)
        self.powered = True

    def claim(self) -> Claim:
        # __inet6_bind() makes a socket that is bound to one IPv6 address one for IPv6 only.
        v6only = ":" in self.ip and self.ip != "::"
        return Claim(self.ip, ":" in self.ip, v6only, *self.flags, listening=self.state == "LISTEN")

    def lose_power(self) -> None:
        self.powered = False


def ports() -> Ports[Socket]:
    return Ports(Scheduler(Choices()))


def bind(table: Ports[Socket], sock: Socket, port: int) -> Socket:
    sock.port = sock.shown_port = table.claim(sock, port)
    return sock


def refused(table: Ports[Socket], sock: Socket, port: int) -> bool:
    try:
        table.claim(sock, port)
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def test_any_free_port_is_one_of_the_ephemeral_ones_and_no_two_get_the_same() -> None:
    table = ports()
    given = [bind(table, Socket(), 0).port for _ in range(5)]
    assert given == list(EPHEMERAL[:5])


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        (Socket("0.0.0.0"), Socket("10.0.0.1"), True),
        (Socket("10.0.0.1"), Socket("10.0.0.2"), False),
        (Socket(reuse_port=True), Socket(reuse_port=True), False),
        (Socket(reuse_port=True), Socket(), True),
        (Socket(reuse_address=True), Socket(reuse_address=True), False),
        (Socket("::"), Socket("0.0.0.0"), True),
        (Socket("::1"), Socket("0.0.0.0"), False),
    ],
)
def test_who_may_share_a_port(first: Socket, second: Socket, is_refused: bool) -> None:
    table = ports()
    bind(table, first, 80)
    assert refused(table, second, 80) == is_refused


def test_an_exact_binding_comes_before_a_wildcard_and_the_shortest_queue_before_others() -> None:
    table = ports()
    exact, wild, twin = Socket("10.0.0.1", reuse_port=True), Socket(reuse_port=True), Socket(reuse_port=True)
    for sock in (wild, twin, exact):
        bind(table, sock, 80)
        sock.state = "LISTEN"
        table.listen(sock)
    wild.queue.append("a connection")
    assert table.listener("10.0.0.1", 80) is exact
    assert table.listener("10.0.0.2", 80) is twin
    table.unlisten(exact)
    table.unlisten(twin)
    assert table.listener("10.0.0.1", 80) is wild
    assert table.listener("10.0.0.1", 81) is None


def test_a_port_cools_down_for_a_minute() -> None:
    scheduler = Scheduler(Choices())
    table: Ports[Socket] = Ports(scheduler)
    sock = bind(table, Socket(), 80)
    table.enter_time_wait(sock)
    table.release(sock)
    assert refused(table, Socket(), 80)
    scheduler.clock.now += TIME_WAIT_NS
    assert not refused(table, Socket(), 80)


def test_without_power_everything_is_forgotten() -> None:
    table = ports()
    sock = bind(table, Socket(), 80)
    sock.state = "LISTEN"
    table.listen(sock)
    assert table.in_use()
    table.lose_power()
    assert not sock.powered
    assert not table.in_use()
    assert table.listener("10.0.0.1", 80) is None
