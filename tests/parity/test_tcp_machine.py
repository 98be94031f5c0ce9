"""Random TCP calls on Linux and on the simulated kernel, compared call by call and mask by mask.

What is compared: values, exception types, errnos, and what poll(2) says of every socket after every call.
What is not, because it is nobody's contract: port numbers as such (pairs of them are), and after how many
bytes a send buffer is full. A direction that was filled up is therefore only emptied as a whole.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from parity_kernels import PATIENCE, Outcome, RealKernel, SimKernel, abort, have_ipv6, outcome, settled, taken_by_others
from sizes import examples

SOL, TCP, V6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IPV6
V4_ADDRESSES = ("127.0.0.1", "0.0.0.0", "127.0.0.2")
V6_ADDRESSES = ("::1", "::", "::ffff:127.0.0.1")
FOREIGN = {False: "192.0.2.1", True: "2001:db8::1"}  # RFC 5737, RFC 3849
HAVE_IPV6 = have_ipv6()
MAX_SOCKETS = 8
#: A SYN that found a full queue is sent again after a second; the machine stops before that.
RETRY_SECONDS = 0.7
EAGAIN = ("raised", "BlockingIOError", "EAGAIN")

# Without SO_PRIORITY, which setting IP_TOS changes by a table of the kernel's.
OPTIONS = [
    (SOL, socket.SO_KEEPALIVE), (SOL, socket.SO_TYPE), (SOL, socket.SO_ACCEPTCONN), (SOL, socket.SO_ERROR),
    (SOL, socket.SO_DOMAIN), (SOL, socket.SO_PROTOCOL), (SOL, socket.SO_BROADCAST), (SOL, socket.SO_OOBINLINE),
    (SOL, socket.SO_LINGER), (SOL, 9_999),
    (TCP, socket.TCP_KEEPIDLE), (TCP, socket.TCP_KEEPINTVL), (TCP, socket.TCP_KEEPCNT), (TCP, socket.TCP_SYNCNT),
    (TCP, socket.TCP_USER_TIMEOUT), (TCP, 9_999), (socket.IPPROTO_IP, socket.IP_TOS),
    (socket.IPPROTO_IP, socket.IP_TTL), (V6, socket.IPV6_V6ONLY), (V6, socket.IPV6_TCLASS),
    (V6, socket.IPV6_UNICAST_HOPS), (99, 1),
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([0, 1, 2, -1, 64, 300, 40_000]),
    st.sampled_from([b"", b"\1", struct.pack("i", 1), struct.pack("ii", 1, 0), struct.pack("ii", 1, 5), bytes(8)]),
)
#: Which socket a rule takes: an index into those that there are.
WHICH = st.integers(0, MAX_SOCKETS - 1)
SMALL = st.sampled_from([0, 1, 2, 64])


class Pair:
    """One socket in both worlds."""

    def __init__(self, real: Any, sim: Any, v6: bool) -> None:
        self.real = real
        self.sim = sim
        self.v6 = v6
        #: Reuse options are set before binding only: Linux remembers per port what the first binder
        #: wanted (tb->fastreuse), which no program relies on.
        self.bound = False
        #: Buffers so small that a few packets fill them: bytes are rationed.
        self.small = False
        self.read_shut = False
        #: An IPv6 socket that once tried an IPv4 address goes on to speak IPv4 whatever it is told, and
        #: gets no answers (tcp_v6_connect() leaves ipv6_mapped in place): one address kind for each.
        self.connected_to: str | None = None
        self.peer: Pair | None = None
        #: What is under way since the direction was filled up, in each world.
        self.filled: tuple[bytes, bytes] | None = None

    def both(self, name: str, *args: Any) -> tuple[Outcome, Outcome]:
        return outcome(lambda: getattr(self.real, name)(*args)), outcome(lambda: getattr(self.sim, name)(*args))


def step(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule for when there are sockets, and no time has passed that the simulated world has not seen."""

    def decorate(method: Callable[..., None]) -> Any:
        @functools.wraps(method)
        def guarded(self: TcpMachine, **arguments: Any) -> None:
            if self.live():
                method(self, **arguments)

        return precondition(lambda self: bool(self.pairs))(rule(**strategies)(guarded))

    return decorate


class TcpMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.real, self.sim = RealKernel(), SimKernel()
        self.pairs: list[Pair] = []
        #: Ports of the two worlds that mean the same, as (real, simulated).
        self.ports: set[tuple[int, int]] = {(0, 0)}
        self.retry_at: float | None = None
        self.counter = 0

    def teardown(self) -> None:
        for pair in self.pairs:
            abort(pair.real)
            pair.sim.close()

    # --- comparing --------------------------------------------------------------------------------------

    def live(self) -> bool:
        # Also over when another program has taken a port of ours.
        return self.retry_at is None or time.monotonic() < self.retry_at

    def pick(self, which: int) -> Pair:
        return self.pairs[which % len(self.pairs)]

    def same(self, pair: Pair, name: str, *args: Any) -> Outcome:
        real, sim = pair.both(name, *args)
        assert sim == real, f"{name}{args}: simulated {sim}, real {real}"
        return real

    def same_address(self, pair: Pair, name: str, *, fresh: bool = False) -> Outcome:
        real, sim = pair.both(name)
        if real[0] != sim[0]:
            real = settled(lambda: outcome(getattr(pair.real, name)), sim)
        if real[0] == sim[0] == "returned":
            self.same_name(real[1][:2], sim[1], fresh=fresh)
        else:
            assert sim == real, f"{name}: simulated {sim}, real {real}"
        return real

    def same_name(self, real: tuple[str, int], sim: tuple[str, int], *, fresh: bool = False) -> None:
        assert sim[0] == real[0], f"simulated {sim}, real {real}"
        ports = (real[1], sim[1])
        if fresh:
            self.ports.add(ports)
        assert ports in self.ports, f"ports {ports} do not belong together"

    @invariant()
    def masks_agree(self) -> None:
        if not self.live():
            return

        def seen(masks: list[int]) -> list[int]:
            # Whether there is room again in a direction that was filled up depends on its size.
            return [mask & ~4 if pair.filled else mask for mask, pair in zip(masks, self.pairs, strict=True)]

        sim = seen(self.sim.masks(pair.sim for pair in self.pairs))
        real = settled(lambda: seen(self.real.masks(pair.real for pair in self.pairs)), sim)
        assert sim == real, f"masks: simulated {sim}, real {real}"
        if 0 in sim and self.retry_at is None:
            self.retry_at = time.monotonic() + RETRY_SECONDS

    @invariant()
    def names_agree(self) -> None:
        if self.live():
            for pair in self.pairs:
                self.same_address(pair, "getsockname")
                self.same_address(pair, "getpeername")

    # --- making sockets ---------------------------------------------------------------------------------

    def add(self, v6: bool) -> Pair:
        pair = Pair(self.real.socket(v6), self.sim.socket(v6), v6)
        self.pairs.append(pair)
        return pair

    def has_room(self, count: int = 1) -> bool:
        return len(self.pairs) + count <= MAX_SOCKETS

    @precondition(lambda self: self.has_room())
    @rule(v6=st.booleans() if HAVE_IPV6 else st.just(False))
    def make_socket(self, v6: bool) -> None:
        self.add(v6)

    @initialize(v6=st.booleans() if HAVE_IPV6 else st.just(False))
    def make_connection_first(self, v6: bool) -> None:
        self.make_connection(v6, False, 0)

    @precondition(lambda self: self.has_room(3))
    @rule(v6=st.booleans() if HAVE_IPV6 else st.just(False), small=st.booleans(), backlog=st.integers(0, 2))
    def make_connection(self, v6: bool, small: bool, backlog: int) -> None:
        listener, client = self.add(v6), self.add(v6)
        if small:
            for pair in (listener, client):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    self.same(pair, "setsockopt", SOL, option, 1)
                    self.same(pair, "getsockopt", SOL, option)
                pair.small = True
        self.bind_to(listener, V6_ADDRESSES[0] if v6 else V4_ADDRESSES[0], 0, 0)
        self.same(listener, "listen", backlog)
        self.connect_to(client, listener, V6_ADDRESSES[0] if v6 else V4_ADDRESSES[0])
        self.masks_agree()
        self.accept_at(listener)

    # --- names ------------------------------------------------------------------------------------------

    @step(
        which=WHICH,
        address=st.integers(0, 3),
        port_of=st.none() | WHICH,
    )
    def bind(self, which: int, address: int, port_of: int | None) -> None:
        pair = self.pick(which)
        known = V6_ADDRESSES if pair.v6 else V4_ADDRESSES
        ip = known[address] if address < len(known) else FOREIGN[pair.v6]
        real_port = sim_port = 0
        if port_of is not None:
            other = self.pick(port_of)
            real_port, sim_port = other.real.getsockname()[1], other.sim.getsockname()[1]
        self.bind_to(pair, ip, real_port, sim_port)

    @step(which=WHICH, index=st.integers(0, 15))
    def bind_used_port(self, which: int, index: int) -> None:
        """Ports of sockets that were closed may cool down, or be held by what is left of a connection."""
        ports = sorted(self.ports, key=lambda pair: pair[1])
        real_port, sim_port = ports[index % len(ports)]
        pair = self.pick(which)
        self.bind_to(pair, (V6_ADDRESSES if pair.v6 else V4_ADDRESSES)[0], real_port, sim_port)

    def bind_to(self, pair: Pair, ip: str, real_port: int, sim_port: int) -> None:
        real = outcome(lambda: pair.real.bind((ip, real_port)))
        if real[0] == "raised" and real[2] == "EADDRINUSE":
            ours = [other.real for other in self.pairs]
            if taken_by_others(real_port, ours, [known for known, _ in self.ports]):
                self.retry_at = 0.0  # nothing can be compared any more
                return
        sim = outcome(lambda: pair.sim.bind((ip, sim_port)))
        assert sim == real, f"bind({ip}): simulated {sim}, real {real}"
        if real[0] == "returned":
            pair.bound = True
            self.same_address(pair, "getsockname", fresh=True)

    @step(which=WHICH, option=st.sampled_from([socket.SO_REUSEADDR, socket.SO_REUSEPORT]), value=st.integers(0, 1))
    def reuse(self, which: int, option: int, value: int) -> None:
        pair = self.pick(which)
        if not pair.bound:
            self.same(pair, "setsockopt", SOL, option, value)
        self.same(pair, "getsockopt", SOL, option)

    # --- connecting -------------------------------------------------------------------------------------

    @step(which=WHICH, backlog=st.integers(0, 2))
    def listen(self, which: int, backlog: int) -> None:
        pair = self.pick(which)
        self.same(pair, "listen", backlog)
        pair.bound = True
        self.same_address(pair, "getsockname", fresh=True)

    @step(which=WHICH, to=WHICH, address=st.integers(0, 2))
    def connect(self, which: int, to: int, address: int) -> None:
        pair = self.pick(which)
        ip = (V6_ADDRESSES if pair.v6 else V4_ADDRESSES)[address]
        self.connect_to(pair, self.pick(to), ip if pair.connected_to is None or not pair.v6 else pair.connected_to)

    @step(which=WHICH)
    def connect_again(self, which: int) -> None:
        pair = self.pick(which)
        self.connect_to(pair, pair, pair.connected_to or (V6_ADDRESSES[0] if pair.v6 else V4_ADDRESSES[0]))

    def connect_to(self, pair: Pair, target: Pair, ip: str) -> None:
        real = pair.real.connect_ex((ip, target.real.getsockname()[1]))
        sim = pair.sim.connect_ex((ip, target.sim.getsockname()[1]))
        assert sim == real, f"connect: simulated {os.strerror(sim)}, real {os.strerror(real)}"
        if real == errno.EINPROGRESS:
            pair.bound = True
            pair.connected_to = ip
            self.same_address(pair, "getsockname", fresh=True)

    @step(which=WHICH)
    def accept(self, which: int) -> None:
        if self.has_room():
            self.accept_at(self.pick(which))

    def accept_at(self, listener: Pair) -> None:
        real, sim = listener.both("accept")
        assert sim[0] == real[0], f"accept: simulated {sim}, real {real}"
        if real[0] == "raised":
            assert sim == real, f"accept: simulated {sim}, real {real}"
            return
        real_sock, real_peer = real[1]
        real_sock.setblocking(False)
        sim_sock, sim_peer = sim[1]
        child = Pair(real_sock, sim_sock, listener.v6)
        self.pairs.append(child)
        child.bound = True
        child.small = listener.small
        self.same_name(real_peer[:2], sim_peer)
        for other in self.pairs:
            if other is not child and other.sim.file.tx is sim_sock.file.rx is not None:
                other.peer, child.peer = child, other
                child.small = other.small = child.small or other.small

    # --- data -------------------------------------------------------------------------------------------

    def payload(self, size: int) -> bytes:
        self.counter += 1
        return (b"%d," % self.counter * size)[:size]

    @step(which=WHICH, size=SMALL)
    def send(self, which: int, size: int) -> None:
        pair = self.pick(which)
        if pair.filled is None and not self.rationed(pair):
            self.same(pair, "send", self.payload(size))

    @step(which=WHICH, sizes=st.lists(SMALL, max_size=3))
    def sendmsg(self, which: int, sizes: list[int]) -> None:
        pair = self.pick(which)
        if pair.filled is None and not self.rationed(pair):
            self.same(pair, "sendmsg", [self.payload(size) for size in sizes])

    def rationed(self, pair: Pair) -> bool:
        # With the smallest buffers even a byte costs Linux half a kilobyte of receive buffer.
        return pair.small and pair.sim.file.tx is not None and pair.sim.file.tx.size > 0

    @step(which=WHICH)
    def fill(self, which: int) -> None:
        """Send until there is no more room."""
        pair = self.pick(which)
        if pair.filled is not None or pair.peer is None:
            return
        before = pair.sim.file.tx.peek(1 << 20) if pair.sim.file.tx is not None else b""
        (sent_real, real), (sent_sim, sim) = self.send_all(pair.real, PATIENCE / 50), self.send_all(pair.sim, 0)
        assert sim == real, f"at last: simulated {sim}, real {real}"
        assert bool(sent_real) == bool(sent_sim)
        if sent_real:
            pair.filled = (before + sent_real, before + sent_sim)

    def send_all(self, sock: Any, patience: float) -> tuple[bytes, Outcome]:
        chunk = bytes(range(256)) * 256
        sent = bytearray()
        deadline = None
        while True:
            result = outcome(lambda: sock.send(chunk))
            if result[0] == "returned":
                sent += chunk[: result[1]]
                deadline = None
            elif result != EAGAIN or (deadline is not None and time.monotonic() >= deadline):
                return bytes(sent), result
            elif deadline is None:
                deadline = time.monotonic() + patience

    @step(which=WHICH)
    def drain(self, which: int) -> None:
        """Receive all that was sent into a direction that is full."""
        pair = self.pick(which)
        if pair.peer is None or pair.peer.filled is None or pair.read_shut:
            # One that has shut down its reading no longer tells of room (tcp_cleanup_rbuf()): the rest comes
            # when the peer's timer probes for it.
            return
        filled, pair.peer.filled = pair.peer.filled, None
        real = self.receive_all(pair.real, filled[0], 4 * PATIENCE)  # tiny windows need probes
        sim = self.receive_all(pair.sim, filled[1], 0)
        assert sim == real, f"drained: simulated {sim}, real {real}"

    def receive_all(self, sock: Any, expected: bytes, patience: float) -> tuple[bool, Outcome]:
        got = bytearray()
        deadline = time.monotonic() + patience
        while len(got) < len(expected):
            result = outcome(lambda: sock.recv(65_536))
            if result[0] == "returned" and result[1]:
                got += result[1]
            elif result != EAGAIN or time.monotonic() >= deadline:
                break
        result = outcome(lambda: sock.recv(1))
        assert expected.startswith(got)
        return got == expected, result

    def unfilled(self, pair: Pair) -> bool:
        return pair.peer is None or pair.peer.filled is None

    @step(which=WHICH, size=st.sampled_from([0, 1, 3, 100, 65_536]), flags=st.sampled_from([0, 0, socket.MSG_PEEK]))
    def recv(self, which: int, size: int, flags: int) -> None:
        pair = self.pick(which)
        if self.unfilled(pair):
            real, sim = pair.both("recv", size, int(flags))
            if sim != real:
                real = self.received(pair.real, size, int(flags), real, sim)
            assert sim == real, f"recv({size}, {flags}): simulated {sim}, real {real}"

    def received(self, sock: Any, size: int, flags: int, got: Outcome, expected: Outcome) -> Outcome:
        """What comes in the end, where at first it was less than expected."""
        deadline = time.monotonic() + PATIENCE
        while got != expected and time.monotonic() < deadline:
            if got == EAGAIN:
                got = outcome(lambda: sock.recv(size, flags))
            elif got[0] != "returned" or len(got[1]) >= len(expected[1]):
                break
            elif flags:
                got = outcome(lambda: sock.recv(size, flags))
            else:
                missing = len(expected[1]) - len(got[1])
                more = outcome(lambda missing=missing: sock.recv(missing))  # type: ignore[misc]
                got = ("returned", got[1] + more[1]) if more[0] == "returned" else got
        return got

    @step(which=WHICH, size=st.sampled_from([0, 1, 100]))
    def recv_into(self, which: int, size: int) -> None:
        pair = self.pick(which)
        if self.unfilled(pair):
            real_buffer, sim_buffer = bytearray(size), bytearray(size)
            real = outcome(lambda: pair.real.recv_into(real_buffer))
            sim = outcome(lambda: pair.sim.recv_into(sim_buffer))
            assert (sim, sim_buffer) == (real, real_buffer)

    # --- ending -----------------------------------------------------------------------------------------

    @step(which=WHICH, how=st.sampled_from([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))
    def shutdown(self, which: int, how: int) -> None:
        pair = self.pick(which)
        self.same(pair, "shutdown", how)
        pair.read_shut |= how != socket.SHUT_WR

    @step(which=WHICH, aborting=st.booleans())
    def close(self, which: int, aborting: bool) -> None:
        pair = self.pick(which)
        if aborting:
            self.same(pair, "setsockopt", SOL, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.pairs.remove(pair)
        self.same(pair, "close")

    # --- options ----------------------------------------------------------------------------------------

    @step(which=WHICH, option=st.sampled_from(OPTIONS), value=VALUES)
    def setsockopt(self, which: int, option: tuple[int, int], value: int | bytes) -> None:
        pair = self.pick(which)
        if option == (SOL, socket.SO_LINGER) and isinstance(value, bytes) and len(value) == 8 and value[4]:
            # Closing with time to linger blocks a close(2) of the real kernel while data is unsent.
            value = struct.pack("ii", 0, 5)
        self.same(pair, "setsockopt", *option, value)
        self.same_option(pair, option)

    @step(which=WHICH, option=st.sampled_from(OPTIONS))
    def getsockopt(self, which: int, option: tuple[int, int]) -> None:
        self.same_option(self.pick(which), option)

    def same_option(self, pair: Pair, option: tuple[int, int]) -> None:
        length = (8,) if option == (SOL, socket.SO_LINGER) else ()
        self.same(pair, "getsockopt", *option, *length)


TestTcpMachine = TcpMachine.TestCase
TestTcpMachine.settings = settings(
    max_examples=examples(150), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
