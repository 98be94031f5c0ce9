"""Single rules of TCP, each on Linux and on the simulated kernel with one expectation for both.

Most were once a difference between the two; the rest are the rules that clients and servers lean on.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from parity_kernels import KERNELS, abort, mask_of, outcome, settled

IN, OUT, ERR, HUP = select.POLLIN, select.POLLOUT, select.POLLERR, select.POLLHUP
SOL = socket.SOL_SOCKET
HOST = "127.0.0.1"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
EOF = ("returned", b"")


class Bench:
    """One kernel, and the sockets to close at the end."""

    def __init__(self, name: str) -> None:
        self.kernel: Any = KERNELS[name]()
        self.made: list[Any] = []

    def socket(self, v6: bool = False) -> Any:
        sock = self.kernel.socket(v6)
        self.made.append(sock)
        return sock

    def listener(self, backlog: int = 5, **options: int) -> Any:
        sock = self.socket()
        for name, value in options.items():
            sock.setsockopt(SOL, getattr(socket, name), value)
        sock.bind((HOST, 0))
        sock.listen(backlog)
        return sock

    def accept(self, listener: Any) -> Any:
        settled(lambda: self.kernel.masks([listener])[0], IN)
        sock = listener.accept()[0]
        if isinstance(sock, socket.socket):
            sock.setblocking(False)
        self.made.append(sock)
        return sock

    def client(self, listener: Any) -> Any:
        sock = self.socket()
        assert sock.connect_ex((HOST, listener.getsockname()[1])) == errno.EINPROGRESS
        return sock

    def connection(self) -> tuple[Any, Any]:
        listener = self.listener()
        client = self.client(listener)
        return client, self.accept(listener)

    def mask(self, sock: Any, expected: int) -> int:
        return mask_of(self.kernel, sock, expected)

    def unused_port(self) -> int:
        """Bound by somebody who does not listen."""
        sock = self.socket()
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(params=sorted(KERNELS))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(request.param)
    yield bench
    for sock in bench.made:
        abort(sock)


def raised(number: int) -> tuple[str, str, str]:
    return ("raised", type(OSError(number, "")).__name__, errno.errorcode[number])


def test_a_reset_leaves_what_has_arrived_readable_then_tells_its_error_once(bench: Bench) -> None:
    client, server = bench.connection()
    server.send(b"last words")
    assert bench.mask(client, IN | OUT) == IN | OUT
    abort(server)
    assert bench.mask(client, IN | OUT | ERR | HUP) == IN | OUT | ERR | HUP
    assert client.recv(4) == b"last"
    assert client.recv(100) == b" words"
    assert outcome(lambda: client.recv(1)) == raised(errno.ECONNRESET)
    assert outcome(lambda: client.recv(1)) == EOF


def test_a_reset_after_the_end_of_the_data_does_not_reach_the_reader(bench: Bench) -> None:
    client, server = bench.connection()
    server.shutdown(socket.SHUT_WR)
    assert bench.mask(client, IN | OUT) == IN | OUT
    abort(server)
    assert bench.mask(client, IN | OUT | ERR | HUP) == IN | OUT | ERR | HUP
    assert outcome(lambda: client.recv(1)) == EOF
    # It stays for the writer, as a broken pipe.
    assert client.getsockopt(SOL, socket.SO_ERROR) == errno.EPIPE
    assert outcome(lambda: client.recv(1)) == EOF


def test_closing_with_unread_data_resets_the_peer(bench: Bench) -> None:
    client, server = bench.connection()
    client.send(b"unread")
    assert bench.mask(server, IN | OUT) == IN | OUT
    server.close()
    assert bench.mask(client, IN | OUT | ERR | HUP) == IN | OUT | ERR | HUP
    assert outcome(lambda: client.send(b"x")) == raised(errno.ECONNRESET)
    assert outcome(lambda: client.send(b"x")) == raised(errno.EPIPE)


def test_sending_to_a_closed_peer_succeeds_once(bench: Bench) -> None:
    client, server = bench.connection()
    server.close()
    assert bench.mask(client, IN | OUT) == IN | OUT
    assert client.send(b"x") == 1
    assert bench.mask(client, IN | OUT | ERR | HUP) == IN | OUT | ERR | HUP
    assert outcome(lambda: client.send(b"x")) == raised(errno.EPIPE)


def test_a_second_connect_returns_0_once_and_then_that_it_is_connected(bench: Bench) -> None:
    client, _ = bench.connection()
    port = client.getpeername()[1]
    assert settled(lambda: client.connect_ex((HOST, port)), 0) == 0
    assert client.connect_ex((HOST, port)) == errno.EISCONN


def test_a_refused_connect_is_told_by_the_next_one_after_which_the_socket_is_fresh(bench: Bench) -> None:
    client = bench.socket()
    port = bench.unused_port()
    assert client.connect_ex((HOST, port)) == errno.EINPROGRESS
    assert bench.mask(client, IN | OUT | ERR | HUP) == IN | OUT | ERR | HUP
    assert client.connect_ex((HOST, port)) == errno.ECONNREFUSED
    assert bench.mask(client, OUT | HUP) == OUT | HUP
    assert outcome(lambda: client.recv(1)) == raised(errno.ENOTCONN)
    assert client.connect_ex((HOST, bench.listener().getsockname()[1])) == errno.EINPROGRESS
    assert bench.mask(client, OUT) == OUT


def test_a_failure_that_was_asked_for_leaves_the_next_connect_aborted(bench: Bench) -> None:
    client = bench.socket()
    port = bench.unused_port()
    client.connect_ex((HOST, port))
    assert bench.mask(client, IN | OUT | ERR | HUP) == IN | OUT | ERR | HUP
    assert client.getsockopt(SOL, socket.SO_ERROR) == errno.ECONNREFUSED
    assert client.connect_ex((HOST, port)) == errno.ECONNABORTED
    assert client.connect_ex((HOST, port)) == errno.EINPROGRESS


def test_port_0_is_refused_like_any_other_that_nobody_listens_at(bench: Bench) -> None:
    client = bench.socket()
    assert client.connect_ex((HOST, 0)) == errno.EINPROGRESS
    assert bench.mask(client, IN | OUT | ERR | HUP) == IN | OUT | ERR | HUP


def test_a_full_backlog_leaves_the_connection_attempt_pending(bench: Bench) -> None:
    listener = bench.listener(backlog=0)
    bench.client(listener)
    second = bench.client(listener)
    port = listener.getsockname()[1]
    assert bench.mask(second, 0) == 0
    assert second.connect_ex((HOST, port)) == errno.EALREADY
    assert outcome(lambda: second.send(b"x")) == raised(errno.EAGAIN)
    assert outcome(lambda: second.recv(1)) == raised(errno.EAGAIN)
    assert outcome(second.getpeername) == raised(errno.ENOTCONN)
    second.shutdown(socket.SHUT_WR)  # gives up
    assert bench.mask(second, OUT | ERR | HUP) == OUT | ERR | HUP
    assert second.getsockopt(SOL, socket.SO_ERROR) == errno.ECONNRESET
    assert second.getsockname()[0] == "0.0.0.0"


def test_closing_a_listener_resets_who_was_not_accepted(bench: Bench) -> None:
    listener = bench.listener()
    client = bench.client(listener)
    assert bench.mask(client, OUT) == OUT
    listener.close()
    assert bench.mask(client, IN | OUT | ERR | HUP) == IN | OUT | ERR | HUP
    assert client.getsockopt(SOL, socket.SO_ERROR) == errno.ECONNRESET


def test_shutting_down_before_connecting_is_refused_and_remembered(bench: Bench) -> None:
    client = bench.socket()
    assert outcome(lambda: client.recv(1)) == raised(errno.ENOTCONN)
    assert outcome(lambda: client.shutdown(socket.SHUT_RDWR)) == raised(errno.ENOTCONN)
    assert outcome(lambda: client.recv(1)) == EOF
    assert client.connect_ex((HOST, bench.listener().getsockname()[1])) == errno.EINPROGRESS
    assert bench.mask(client, IN | OUT | HUP) == IN | OUT | HUP
    assert outcome(lambda: client.send(b"x")) == raised(errno.EPIPE)


def test_a_connection_that_ended_in_order_is_no_longer_connected(bench: Bench) -> None:
    client, server = bench.connection()
    client.shutdown(socket.SHUT_WR)
    assert bench.mask(server, IN | OUT) == IN | OUT
    assert client.getpeername()
    server.shutdown(socket.SHUT_WR)
    for sock in (client, server):
        assert bench.mask(sock, IN | OUT | HUP) == IN | OUT | HUP
        assert settled(lambda sock=sock: outcome(sock.getpeername), raised(errno.ENOTCONN)) == raised(errno.ENOTCONN)
        assert outcome(lambda sock=sock: sock.shutdown(socket.SHUT_WR)) == raised(errno.ENOTCONN)
        assert outcome(lambda sock=sock: sock.recv(1)) == EOF


def test_data_for_an_end_that_reads_no_more_resets_only_after_its_own_end(bench: Bench) -> None:
    client, server = bench.connection()
    server.shutdown(socket.SHUT_RD)
    client.send(b"late")
    assert settled(lambda: outcome(lambda: server.recv(9, socket.MSG_PEEK)), ("returned", b"late"))[1] == b"late"
    assert server.recv(9) == b"late"
    server.shutdown(socket.SHUT_WR)
    client.send(b"too late")
    for sock in (client, server):
        assert bench.mask(sock, IN | OUT | ERR | HUP) == IN | OUT | ERR | HUP


def test_a_socket_can_connect_to_itself(bench: Bench) -> None:
    sock = bench.socket()
    sock.bind((HOST, 0))
    assert sock.connect_ex((HOST, sock.getsockname()[1])) == errno.EINPROGRESS
    assert bench.mask(sock, OUT) == OUT
    assert sock.send(b"me") == 2
    assert bench.mask(sock, IN | OUT) == IN | OUT
    assert sock.recv(9) == b"me"


def test_a_port_in_time_wait_can_be_had_only_when_both_want_to_share(bench: Bench) -> None:
    for theirs, ours, expected in ((0, 0, False), (0, 1, False), (1, 0, False), (1, 1, True)):
        listener = bench.listener(SO_REUSEADDR=theirs)
        address = listener.getsockname()
        client = bench.client(listener)
        server = bench.accept(listener)
        server.close()
        assert bench.mask(client, IN | OUT) == IN | OUT
        client.close()
        listener.close()
        successor = bench.socket()
        successor.setsockopt(SOL, socket.SO_REUSEADDR, ours)
        result = outcome(lambda sock=successor, address=address: sock.bind(address))
        assert result == (("returned", None) if expected else raised(errno.EADDRINUSE)), (theirs, ours)


def test_a_connection_that_nobody_owns_holds_its_port(bench: Bench) -> None:
    listener = bench.listener()
    client = bench.client(listener)
    server = bench.accept(listener)
    address = listener.getsockname()
    listener.close()
    server.close()
    bench.mask(client, IN | OUT)
    assert outcome(lambda: bench.socket().bind(address)) == raised(errno.EADDRINUSE)
    client.send(b"nobody")  # and is reset, after which there is nothing to wait for
    assert bench.mask(client, IN | OUT | ERR | HUP) == IN | OUT | ERR | HUP
    successor = bench.socket()
    assert settled(lambda: outcome(lambda: successor.bind(address)), ("returned", None)) == ("returned", None)


def test_two_connections_cannot_have_the_same_two_ends(bench: Bench) -> None:
    listener = bench.listener()
    first, second = bench.socket(), bench.socket()
    for sock in (first, second):
        sock.setsockopt(SOL, socket.SO_REUSEADDR, 1)
    first.bind((HOST, 0))
    second.bind(first.getsockname())
    assert first.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    assert second.connect_ex(listener.getsockname()) == errno.EADDRNOTAVAIL


def test_only_one_of_two_that_share_a_port_may_listen(bench: Bench) -> None:
    first, second = bench.socket(), bench.socket()
    for sock in (first, second):
        sock.setsockopt(SOL, socket.SO_REUSEADDR, 1)
    first.bind((HOST, 0))
    second.bind(first.getsockname())
    first.listen(1)
    assert outcome(lambda: second.listen(1)) == raised(errno.EADDRINUSE)


def test_the_source_of_a_connection_to_another_loopback_address(bench: Bench) -> None:
    listener = bench.socket()
    listener.bind(("127.0.0.2", 0))
    listener.listen(1)
    client = bench.socket()
    client.connect_ex(listener.getsockname())
    assert client.getsockname()[0] == "127.0.0.1"


def test_a_listener_that_stops_is_a_fresh_socket_without_a_port_of_the_systems_choice(bench: Bench) -> None:
    listener = bench.listener()
    before = listener.getsockname()
    listener.shutdown(socket.SHUT_RD)
    assert bench.mask(listener, OUT | HUP) == OUT | HUP
    assert listener.getsockname() == before
    listener.bind((HOST, 0))
    listener.listen(1)
    assert listener.getsockopt(SOL, socket.SO_ACCEPTCONN) == 1


def test_option_values_are_checked_and_normalised(bench: Bench) -> None:
    sock = bench.socket()
    sock.setsockopt(SOL, socket.SO_KEEPALIVE, 7)
    assert sock.getsockopt(SOL, socket.SO_KEEPALIVE) == 1
    sock.setsockopt(SOL, socket.SO_LINGER, struct.pack("ii", 1, 5))
    sock.setsockopt(SOL, socket.SO_LINGER, struct.pack("ii", 0, 9))
    assert sock.getsockopt(SOL, socket.SO_LINGER, 8) == struct.pack("ii", 0, 5)
    idle = (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    assert outcome(lambda: sock.setsockopt(*idle, 0)) == raised(errno.EINVAL)
    assert outcome(lambda: sock.setsockopt(SOL, socket.SO_TYPE, 1)) == raised(errno.ENOPROTOOPT)
    assert outcome(lambda: sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)) == raised(errno.EOPNOTSUPP)
    assert outcome(lambda: sock.setsockopt(SOL, socket.SO_REUSEADDR, b"\1")) == raised(errno.EINVAL)


@pytest.mark.parametrize("option", [socket.SO_SNDBUF, socket.SO_RCVBUF])
def test_buffer_sizes_are_doubled_and_bounded_from_below(bench: Bench, option: int) -> None:
    sock = bench.socket()
    sock.setsockopt(SOL, option, 10_000)
    assert sock.getsockopt(SOL, option) == 20_000
    sock.setsockopt(SOL, option, 1)
    assert sock.getsockopt(SOL, option) == {socket.SO_SNDBUF: 4_608, socket.SO_RCVBUF: 2_304}[option]


@pytest.mark.parametrize(
    ("how", "at_client", "at_server", "received"),
    [
        (socket.SHUT_RD, OUT, IN | OUT, ("returned", b"yo")),
        (socket.SHUT_WR, IN | OUT, OUT, ("returned", b"yo")),
        (socket.SHUT_RDWR, IN | OUT, IN | OUT | HUP, raised(errno.ECONNRESET)),
    ],
)
def test_connections_are_shut_down_as_their_listener_was_before_it_listened(
    bench: Bench, how: int, at_client: int, at_server: int, received: Any
) -> None:
    listener = bench.socket()
    listener.bind((HOST, 0))
    assert outcome(lambda: listener.shutdown(how)) == raised(errno.ENOTCONN)
    listener.listen(5)
    client = bench.client(listener)
    assert bench.mask(client, at_client) == at_client
    server = bench.accept(listener)
    assert bench.mask(server, at_server) == at_server
    assert client.send(b"yo") == 2
    assert settled(lambda: outcome(lambda: server.recv(5)), received) == received
