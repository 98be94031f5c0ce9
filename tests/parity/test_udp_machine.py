"""Random calls on UDP sockets, on Linux's loopback and on the simulated kernel, compared call by call and mask by mask.

What is compared: values, exception types, errnos, what poll(2) says of every socket after every call, its names. Not
compared: port numbers as such (pairs of them are), and after how many datagrams a receive buffer is full.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from parity_kernels import Outcome, SimKernel, have_ipv6, outcome, settled
from sizes import examples

from simloop.kernel.descriptors import DescriptorTable
from simloop.kernel.net.udp import UdpSocket
from simloop.shims.socket.ancillary import passed

SOL, IP, V6 = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6
IP_PKTINFO, RECVPKTINFO = 8, 49
IP_RECVERR, IPV6_RECVERR, MSG_ERRQUEUE = 11, 25, int(socket.MSG_ERRQUEUE)
MASK_BITS = select.POLLIN | select.POLLOUT | select.POLLERR | select.POLLHUP | select.POLLRDHUP
HAVE_IPV6 = have_ipv6()
MAX_SOCKETS = 6
WHICH = st.integers(0, MAX_SOCKETS - 1)
GROUP, OTHER_GROUP, BROADCAST = "224.77.1.1", "224.77.1.2", "127.255.255.255"
V4_ADDRESSES = ("127.0.0.1", "127.0.0.1", "0.0.0.0", "127.0.0.2", GROUP, BROADCAST, "192.0.2.1")
V6_ADDRESSES = ("::1", "::1", "::", "::ffff:127.0.0.1", "2001:db8::1")
ADDRESS = st.integers(0, 6)
SIZES = st.sampled_from([0, 1, 2, 64, 3_000, 65_507, 65_508, 65_528])
LO = socket.inet_aton("127.0.0.1")
OPTIONS = [
    (SOL, socket.SO_TYPE), (SOL, socket.SO_ERROR), (SOL, socket.SO_PROTOCOL), (SOL, socket.SO_BROADCAST),
    (SOL, socket.SO_ACCEPTCONN), (SOL, socket.SO_DOMAIN), (SOL, 9_999), (IP, socket.IP_MULTICAST_TTL),
    (IP, socket.IP_MULTICAST_LOOP), (IP, socket.IP_TTL), (IP, IP_PKTINFO), (IP, IP_RECVERR),
    (V6, IPV6_RECVERR), (socket.IPPROTO_TCP, 1), (17, 999), (99, 1),
]  # fmt: skip


class Pair:
    """One socket in both worlds."""

    def __init__(self, real: socket.socket, sim: UdpSocket, v6: bool) -> None:
        self.real = real
        self.sim = sim
        self.v6 = v6
        self.bound = False
        #: An IPv6 socket that has spoken IPv4 goes on to (see `test_tcp_machine`): one kind of address for each.
        self.mapped: bool | None = None


def step(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule for when there are sockets."""

    def decorate(method: Callable[..., None]) -> Any:
        return precondition(lambda self: bool(self.pairs))(rule(**strategies)(method))

    return decorate


class UdpMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = SimKernel()
        self.table = DescriptorTable()
        self.pairs: list[Pair] = []
        #: Ports of the two worlds that mean the same, as (real, simulated).
        self.ports: set[tuple[int, int]] = {(0, 0)}
        self.counter = 0

    def teardown(self) -> None:
        for pair in self.pairs:
            pair.real.close()
            pair.sim.close()

    # --- comparing --------------------------------------------------------------------------------------

    def pick(self, which: int) -> Pair:
        return self.pairs[which % len(self.pairs)]

    def compare(self, what: str, real: Callable[[], Any], sim: Callable[[], Any]) -> Outcome:
        found = outcome(real), outcome(sim)
        assert found[1] == found[0], f"{what}: simulated {found[1]}, real {found[0]}"
        return found[0]

    @invariant()
    def masks_agree(self) -> None:
        def real() -> list[int]:
            poll = select.poll()
            for pair in self.pairs:
                poll.register(pair.real, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
            found = dict(poll.poll(0))
            return [found.get(pair.real.fileno(), 0) & MASK_BITS for pair in self.pairs]

        sim = [pair.sim.mask() | (select.POLLRDHUP if pair.sim.hung_up else 0) for pair in self.pairs]
        found = settled(real, sim)
        assert sim == found, f"masks: simulated {sim}, real {found}"

    @invariant()
    def names_agree(self) -> None:
        for pair in self.pairs:
            for name in ("getsockname", "getpeername"):
                real, sim = outcome(getattr(pair.real, name)), outcome(getattr(pair.sim, name))
                assert real[0] == sim[0], f"{name}: simulated {sim}, real {real}"
                if real[0] == "raised":
                    assert real == sim
                    continue
                self.same_address(real[1], sim[1], fresh=name == "getsockname")

    def same_address(self, real: Any, sim: Any, *, fresh: bool = False) -> None:
        assert real[0] == sim[0], f"simulated {sim}, real {real}"
        if fresh and sim[1] not in [known for _, known in self.ports]:
            # Linux draws ports, and in many steps one comes again.
            self.ports.add((real[1], sim[1]))
        assert (real[1], sim[1]) in self.ports, f"ports of {real} and {sim} do not belong together"

    # --- making sockets ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.pairs) < MAX_SOCKETS)
    @rule(v6=st.booleans() if HAVE_IPV6 else st.just(False), reuse=st.sampled_from([0, 0, 1]))
    def make_socket(self, v6: bool, reuse: int) -> None:
        family = socket.AF_INET6 if v6 else socket.AF_INET
        real = socket.socket(family, socket.SOCK_DGRAM)
        real.setblocking(False)
        sim = UdpSocket(self.kernel.network, self.kernel.host, int(family))
        sim.flags |= os.O_NONBLOCK
        for sock in (real, sim):
            sock.setsockopt(SOL, socket.SO_REUSEADDR, reuse)
            sock.setsockopt(IP, socket.IP_MULTICAST_IF, LO)
        self.pairs.append(Pair(real, sim, v6))

    @initialize()
    def make_two_first(self) -> None:
        for _ in range(2):
            self.make_socket(False, 0)
            self.bind_to(self.pairs[-1], "127.0.0.1", None)

    @precondition(lambda self: len(self.pairs) + 2 <= MAX_SOCKETS)
    @rule(
        addresses=st.lists(st.sampled_from(["127.0.0.1", "0.0.0.0", "127.0.0.2"]), min_size=2, max_size=2),
        to=st.sampled_from(["127.0.0.1", "127.0.0.2", "0.0.0.0"]),
        connects=st.booleans(),
    )
    def share_a_port(self, addresses: list[str], to: str, connects: bool) -> None:
        """Two sockets at one port, one of which may be connected to who sends to it."""
        sender = self.pairs[0] if self.pairs and not self.pairs[0].v6 else None
        for number, ip in enumerate(addresses):
            self.make_socket(False, 1)
            self.bind_to(self.pairs[-1], ip, self.pairs[-2] if number else None)
        if sender is None:
            return
        if connects:
            self.connect_to(self.pairs[-2], "127.0.0.1", sender)
        for _ in range(2):
            self.sendto_from(sender, 7, to, self.pairs[-1])

    @precondition(lambda self: bool(self.pairs))
    @rule(
        which=WHICH,
        to=WHICH,
        sends=st.lists(st.sampled_from(["send", "recv", "error", "queue", "stop"]), min_size=2, max_size=6),
        asks=st.booleans(),
        connects=st.booleans(),
        sizes=st.tuples(SIZES, st.sampled_from([0, 3, 4000])),
    )
    def lose_the_peer(
        self, which: int, to: int, sends: list[str], asks: bool, connects: bool, sizes: tuple[int, int]
    ) -> None:
        """Go on to send to one that has closed, with its errors in the queue or without."""
        pair, other = self.pick(which), self.pick(to)
        if pair is other or pair.v6 != other.v6:
            return
        host = "::1" if pair.v6 else "127.0.0.1"
        if connects and self.connect_to(pair, host, other)[0] == "raised":
            return
        real, sim = other.real.getsockname(), other.sim.getsockname()
        self.pairs.remove(other)
        other.real.close()
        other.sim.close()
        option = (V6, IPV6_RECVERR) if pair.v6 else (IP, IP_RECVERR)
        if asks:
            pair.real.setsockopt(*option, 1)
            pair.sim.setsockopt(*option, 1)
        for what in ("send", *sends):
            self.masks_agree()
            if what == "send":
                data = self.payload(sizes[0])
                if connects:
                    self.compare("send", partial(pair.real.send, data), partial(pair.sim.send, data))
                else:
                    address = host, real[1]
                    self.compare(
                        "sendto",
                        partial(pair.real.sendto, data, address),
                        partial(pair.sim.sendmsg, data, 0, (host, sim[1])),
                    )
            elif what == "recv":
                self.compare("recv", lambda: pair.real.recv(9), lambda: pair.sim.recv(9))
            elif what == "queue":
                self.receive(pair, sizes[1], 100, MSG_ERRQUEUE)
            elif what == "stop":
                self.compare(
                    "stop", partial(pair.real.setsockopt, *option, 0), partial(pair.sim.setsockopt, *option, 0)
                )
            else:
                error = (SOL, socket.SO_ERROR)
                self.compare("error", partial(pair.real.getsockopt, *error), partial(pair.sim.getsockopt, *error))

    # --- names ------------------------------------------------------------------------------------------

    def address(self, pair: Pair, index: int) -> str:
        known = V6_ADDRESSES if pair.v6 else V4_ADDRESSES
        return known[index % len(known)]

    @step(which=WHICH, address=ADDRESS, port_of=st.none() | WHICH)
    def bind(self, which: int, address: int, port_of: int | None) -> None:
        pair = self.pick(which)
        self.bind_to(pair, self.address(pair, address), None if port_of is None else self.pick(port_of))

    def bind_to(self, pair: Pair, ip: str, other: Pair | None) -> None:
        ports = (0, 0) if other is None else (other.real.getsockname()[1], other.sim.getsockname()[1])
        if any(one.real.getsockname()[1] == ports[0] and one.sim.getsockname()[1] != ports[1] for one in self.pairs):
            return  # two have drawn the same port, with other addresses
        result = self.compare(
            f"bind {ip}", lambda: pair.real.bind((ip, ports[0])), lambda: pair.sim.bind((ip, ports[1]))
        )
        if result[0] == "returned":
            pair.mapped = ip.startswith("::ffff:") or None if ip == "::" else ip.startswith("::ffff:")

    def target(self, pair: Pair, to: int, address: int) -> tuple[str, int, int] | None:
        """An address with the ports of another socket; none where Linux goes on with what it was told before."""
        other = self.pick(to)
        ip = self.address(pair, address)
        if pair.v6:
            mapped = ip.startswith("::ffff:")
            if pair.mapped is not None and mapped != pair.mapped:
                return None
        return ip, other.real.getsockname()[1], other.sim.getsockname()[1]

    @step(which=WHICH, to=WHICH, address=ADDRESS)
    def connect(self, which: int, to: int, address: int) -> None:
        pair = self.pick(which)
        target = self.target(pair, to, address)
        if target is None or target[0].startswith(("192.0.2", "2001:")):
            return  # whether there is a route depends on the machine
        if target[0] == BROADCAST and pair.sim.peer is not None:
            return  # where that fails, the socket keeps its peer and yet is not told any more that it refuses
        self.connect_to(pair, target[0], self.pick(to))

    def connect_to(self, pair: Pair, ip: str, other: Pair) -> Outcome:
        real, sim = other.real.getsockname()[1], other.sim.getsockname()[1]
        if any(one.sim.port == pair.sim.port and one.sim.peer == (ip, sim) for one in self.pairs if one is not pair):
            # Which of two sockets hears that have both addresses in common has changed with Linux 6.13.
            return ("raised", "too alike")
        result = self.compare(
            f"connect {ip}", lambda: pair.real.connect((ip, real)), lambda: pair.sim.connect((ip, sim))
        )
        if result[0] == "returned" and pair.v6:
            pair.mapped = ip.startswith("::ffff:")
        return result

    # --- data -------------------------------------------------------------------------------------------

    def payload(self, size: int) -> bytes:
        self.counter += 1
        return (b"%d," % self.counter * size)[:size]

    @step(which=WHICH, size=SIZES)
    def send(self, which: int, size: int) -> None:
        pair, data = self.pick(which), self.payload(size)
        self.compare("send", lambda: pair.real.send(data), lambda: pair.sim.send(data))

    @step(which=WHICH, to=WHICH, address=ADDRESS, size=SIZES)
    def sendto(self, which: int, to: int, address: int, size: int) -> None:
        pair = self.pick(which)
        target = self.target(pair, to, address)
        if target is not None and not target[0].startswith(("192.0.2", "2001:")):
            self.sendto_from(pair, size, target[0], self.pick(to))

    def sendto_from(self, pair: Pair, size: int, ip: str, other: Pair) -> None:
        data = self.payload(size)
        real, sim = other.real.getsockname()[1], other.sim.getsockname()[1]
        self.compare(
            f"sendto {ip}", lambda: pair.real.sendto(data, (ip, real)), lambda: pair.sim.sendmsg(data, 0, (ip, sim))
        )

    @step(
        which=WHICH,
        size=SIZES,
        room=st.sampled_from([0, 16, 100]),
        flags=st.sampled_from([0, 0, 0, int(socket.MSG_PEEK), MSG_ERRQUEUE]),
    )
    def recvmsg(self, which: int, size: int, room: int, flags: int) -> None:
        self.receive(self.pick(which), size, room, flags)

    def receive(self, pair: Pair, size: int, room: int, flags: int) -> None:
        real = outcome(lambda: pair.real.recvmsg(size, room, flags))
        sim = outcome(lambda: self.received(pair, size, room, flags))
        if real[0] == sim[0] == "returned":
            self.same_address(real[1][3], sim[1][3])
            real, sim = (real[0], real[1][:3]), (sim[0], sim[1][:3])
        assert sim == real, f"recvmsg: simulated {sim}, real {real}"

    def received(self, pair: Pair, size: int, room: int, flags: int) -> Any:
        found = pair.sim.recvmsg(size, flags)
        ancillary, more = passed(self.table, found, room, bool(flags))  # type: ignore[arg-type]
        return found.data, ancillary, found.flags | more, found.address

    @step(which=WHICH)
    def drain(self, which: int) -> None:
        for _ in range(20):
            if not self.pick(which).sim.queue:
                break
            self.recvmsg(which, 65_536, 100, 0)

    # --- ending -----------------------------------------------------------------------------------------

    @step(which=WHICH, how=st.sampled_from([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))
    def shutdown(self, which: int, how: int) -> None:
        pair = self.pick(which)
        self.compare("shutdown", lambda: pair.real.shutdown(how), lambda: pair.sim.shutdown(how))

    @step(which=WHICH)
    def close(self, which: int) -> None:
        pair = self.pick(which)
        self.pairs.remove(pair)
        pair.real.close()
        pair.sim.close()

    # --- options ----------------------------------------------------------------------------------------

    @step(which=WHICH, option=st.sampled_from(OPTIONS), value=st.sampled_from([0, 1, 2, -1, 64, 300, b"\1", b""]))
    def setsockopt(self, which: int, option: tuple[int, int], value: Any) -> None:
        pair = self.pick(which)
        self.compare(
            f"set {option} {value!r}",
            lambda: pair.real.setsockopt(*option, value),
            lambda: pair.sim.setsockopt(*option, value),
        )
        self.getsockopt(which, option)

    @step(which=WHICH, option=st.sampled_from(OPTIONS))
    def getsockopt(self, which: int, option: tuple[int, int]) -> None:
        pair = self.pick(which)
        self.compare(f"get {option}", lambda: pair.real.getsockopt(*option), lambda: pair.sim.getsockopt(*option))

    @step(
        which=WHICH,
        joins=st.booleans(),
        group=st.sampled_from([GROUP, OTHER_GROUP, "10.0.0.9"]),
        interface=st.sampled_from(["127.0.0.1", "127.0.0.1", "192.0.2.9"]),
        long=st.booleans(),
    )
    def membership(self, which: int, joins: bool, group: str, interface: str, long: bool) -> None:
        pair = self.pick(which)
        name = socket.IP_ADD_MEMBERSHIP if joins else socket.IP_DROP_MEMBERSHIP
        value = socket.inet_aton(group) + socket.inet_aton(interface) + (struct.pack("i", 0) if long else b"")
        self.compare(
            f"membership {joins} {group} {interface}",
            lambda: pair.real.setsockopt(IP, name, value),
            lambda: pair.sim.setsockopt(IP, name, value),
        )


TestUdpMachine = UdpMachine.TestCase
TestUdpMachine.settings = settings(
    max_examples=examples(150), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
