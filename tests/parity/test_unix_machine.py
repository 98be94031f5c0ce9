"""Random calls on unix sockets, on Linux and on the simulated kernel, compared call by call and mask by mask.

What is compared: values, exception types, errnos, what poll(2) says of every socket after every call, its names, and
how much a send buffer takes. Not compared: which abstract names the kernel chooses.
"""

from __future__ import annotations

import platform
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from parity_kernels import Outcome, outcome
from sizes import examples
from unix_sides import RealUnix, SimUnix

SOL = socket.SOL_SOCKET
STREAM, DGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
MAX_SOCKETS = 8
WHICH = st.integers(0, MAX_SOCKETS - 1)
KINDS = st.sampled_from([STREAM, STREAM, DGRAM, SEQPACKET])
#: Paths, a directory, a regular file, a name in it, a directory that is not there, abstract names, and none.
NAMES = st.sampled_from(["a", "a", "b", "dir", "file", "file/x", "gone/x", "@a", "@b", "dir/"])
SIZES = st.sampled_from([0, 1, 2, 64, 700, 5_000])
FLAGS = st.sampled_from([0, 0, 0, int(socket.MSG_PEEK), int(socket.MSG_DONTWAIT)])
# Without SO_REUSEPORT, which unix sockets have lost in Linux 6.13.
OPTIONS = st.sampled_from([
    socket.SO_ERROR, socket.SO_TYPE, socket.SO_DOMAIN, socket.SO_PROTOCOL, socket.SO_ACCEPTCONN, socket.SO_PASSCRED,
    socket.SO_SNDBUF, socket.SO_RCVBUF, socket.SO_KEEPALIVE, socket.SO_PEERCRED, socket.SO_REUSEADDR, 9_999,
])  # fmt: skip


def counts_alike() -> bool:
    """Whether this kernel's messages cost what those of Linux 6.6 to 6.18 cost on 64 bits, with pages of 4 KiB: it is
    no contract, and differs with the kernel's configuration."""
    with tempfile.TemporaryDirectory() as directory:
        sides = [side(Path(directory) / "root") for side in (RealUnix, SimUnix)]
        found = [[filled(side, kind, size) for kind in (STREAM, DGRAM) for size in (1, 448, 10_000)] for side in sides]
        for side in sides:
            side.finish()
    return found[0] == found[1]


def filled(side: Any, kind: int, size: int) -> list[Any]:
    one, _ = side.pair(kind)
    sent = []
    while True:
        result = outcome(lambda: side.send(one, bytes(size), 0))
        sent.append(result)
        if result[0] == "raised":
            return sent


EXACT = counts_alike()
#: Whether an unconnected datagram socket that was shut down says EPIPE, and an empty packet is not missed.
RECENT = tuple(map(int, platform.release().split(".")[:2])) >= (6, 14)


class Pair:
    """One socket in both worlds."""

    def __init__(self, kind: int, real: Any, sim: Any) -> None:
        self.kind = kind
        self.real = real
        self.sim = sim


def step(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule for when there are sockets."""

    def decorate(method: Callable[..., None]) -> Any:
        return precondition(lambda self: bool(self.pairs))(rule(**strategies)(method))

    return decorate


class UnixMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.sides: tuple[Any, Any] = RealUnix(self.directory / "root"), SimUnix(self.directory)
        self.pairs: list[Pair] = []
        self.pipes: list[tuple[tuple[int, int], tuple[int, int]]] = []
        self.counter = 0
        for side in self.sides:
            side.mkdir("dir")
            side.mknod("file")

    def teardown(self) -> None:
        for side in self.sides:
            side.finish()
        shutil.rmtree(self.directory)

    # --- comparing --------------------------------------------------------------------------------------

    def pick(self, which: int) -> Pair:
        return self.pairs[which % len(self.pairs)]

    def same(self, name: str, pair: Pair | None, *args: Any) -> Outcome:
        """Make the same call on both sides."""
        found = []
        for side, sock in zip(self.sides, (pair.real, pair.sim) if pair else (None, None), strict=True):
            arguments = args if sock is None else (sock, *args)
            found.append(outcome(lambda side=side, arguments=arguments: getattr(side, name)(*arguments)))
        real, sim = found
        assert sim == real, f"{name}{args}: simulated {sim}, real {real}"
        return real  # type: ignore[no-any-return]

    def same_method(self, name: str, pair: Pair, *args: Any) -> Outcome:
        real, sim = (outcome(lambda sock=sock: getattr(sock, name)(*args)) for sock in (pair.real, pair.sim))
        assert sim == real, f"{name}{args}: simulated {sim}, real {real}"
        return real

    @invariant()
    def masks_agree(self) -> None:
        real, sim = self.sides
        found = real.masks([pair.real for pair in self.pairs]), sim.masks([pair.sim for pair in self.pairs])
        assert found[1] == found[0], f"masks: simulated {found[1]}, real {found[0]}"
        found = real.masks([pipe[0][0] for pipe in self.pipes]), sim.masks([pipe[1][0] for pipe in self.pipes])
        assert found[1] == found[0], f"pipes: simulated {found[1]}, real {found[0]}"

    @invariant()
    def names_agree(self) -> None:
        for pair in self.pairs:
            self.same("names", pair)

    # --- making sockets ---------------------------------------------------------------------------------

    def has_room(self, count: int = 1) -> bool:
        return len(self.pairs) + count <= MAX_SOCKETS

    @precondition(lambda self: self.has_room())
    @rule(kind=KINDS)
    def make_socket(self, kind: int) -> None:
        self.pairs.append(Pair(kind, *(side.socket(kind) for side in self.sides)))

    @precondition(lambda self: self.has_room(2))
    @rule(kind=KINDS)
    def make_pair(self, kind: int) -> None:
        real, sim = (side.pair(kind) for side in self.sides)
        self.pairs += [Pair(kind, *ends) for ends in zip(real, sim, strict=True)]

    @initialize(kind=KINDS)
    def make_pair_first(self, kind: int) -> None:
        self.make_pair(kind)

    @precondition(lambda self: self.has_room(3))
    @rule(kind=st.sampled_from([STREAM, SEQPACKET]), name=st.sampled_from(["a", "b", "@a"]), backlog=st.integers(0, 2))
    def make_connection(self, kind: int, name: str, backlog: int) -> None:
        self.make_socket(kind)
        listener = self.pairs[-1]
        if self.same("bind", listener, name)[0] == "returned":
            self.same_method("listen", listener, backlog)
            self.make_socket(kind)
            self.same("connect", self.pairs[-1], name)
            self.accept_at(listener)

    @precondition(lambda self: self.has_room(2))
    @rule(name=st.sampled_from(["a", "b", "@a"]), count=st.sampled_from([0, 3, 12]))
    def make_datagrams(self, name: str, count: int) -> None:
        """A sender that is connected to a receiver which is not connected to it, and may be full."""
        self.make_socket(DGRAM)
        if self.same("bind", self.pairs[-1], name)[0] == "returned":
            self.make_socket(DGRAM)
            self.same("connect", self.pairs[-1], name)
            for _ in range(count):
                self.same("send", self.pairs[-1], self.payload(3), 0)

    @precondition(lambda self: self.has_room())
    @rule(kind=KINDS, name=st.sampled_from(["a", "@a", "@b"]), listens=st.booleans())
    def leave_a_name(self, kind: int, name: str, listens: bool) -> None:
        """A socket that is bound, and closed again."""
        self.make_socket(kind)
        bound = self.pairs.pop()
        self.same("bind", bound, name)
        if listens:
            self.same_method("listen", bound, 1)
        bound.real.close()
        bound.sim.close()

    @step(which=WHICH)
    def dup(self, which: int) -> None:
        if self.has_room():
            pair = self.pick(which)
            real, sim = self.sides
            self.pairs.append(Pair(pair.kind, real.dup(pair.real), sim.dup(pair.sim)))

    # --- names ------------------------------------------------------------------------------------------

    @step(which=WHICH, name=NAMES | st.just(""))
    def bind(self, which: int, name: str) -> None:
        self.same("bind", self.pick(which), name)

    @rule(name=st.sampled_from(["a", "b", "file", "gone"]))
    def unlink(self, name: str) -> None:
        self.same("unlink", None, name)

    @rule(name=st.sampled_from(["a", "b"]), to=st.sampled_from(["a", "b", "dir/c"]))
    def rename(self, name: str, to: str) -> None:
        self.same("rename", None, name, to)

    @rule(name=st.sampled_from(["a", "b", "dir/c"]))
    def mode(self, name: str) -> None:
        self.same("mode", None, name)

    # --- connecting -------------------------------------------------------------------------------------

    @step(which=WHICH, backlog=st.integers(-1, 2))
    def listen(self, which: int, backlog: int) -> None:
        self.same_method("listen", self.pick(which), max(0, backlog))

    @step(which=WHICH, name=NAMES)
    def connect(self, which: int, name: str) -> None:
        self.same("connect", self.pick(which), name)

    @step(which=WHICH)
    def accept(self, which: int) -> None:
        if self.has_room():
            self.accept_at(self.pick(which))

    def accept_at(self, listener: Pair) -> None:
        real, sim = (
            outcome(lambda side=side, sock=sock: side.accept(sock))
            for side, sock in zip(self.sides, (listener.real, listener.sim), strict=True)
        )
        assert sim[0] == real[0], f"accept: simulated {sim}, real {real}"
        if real[0] == "raised":
            assert sim == real, f"accept: simulated {sim}, real {real}"
            return
        assert sim[1][1] == real[1][1], f"accept: simulated {sim}, real {real}"
        self.pairs.append(Pair(listener.kind, real[1][0], sim[1][0]))

    # --- data -------------------------------------------------------------------------------------------

    def payload(self, size: int) -> bytes:
        self.counter += 1
        return (b"%d," % self.counter * size)[:size]

    @step(which=WHICH, size=SIZES, flags=st.sampled_from([0, 0, int(socket.MSG_DONTWAIT), int(socket.MSG_NOSIGNAL)]))
    def send(self, which: int, size: int, flags: int) -> None:
        if size or RECENT:
            self.same("send", self.pick(which), self.payload(size), flags)

    @step(which=WHICH, size=SIZES, name=NAMES)
    def sendto(self, which: int, size: int, name: str) -> None:
        if size or RECENT:
            self.same("sendto", self.pick(which), self.payload(size), name)

    @step(which=WHICH, size=SIZES)
    def write(self, which: int, size: int) -> None:
        if size or RECENT:
            self.same("write", self.pick(which), self.payload(size))

    @precondition(lambda self: EXACT and bool(self.pairs))
    @rule(which=WHICH, size=st.sampled_from([1, 300, 5_000, 70_000]))
    def fill(self, which: int, size: int) -> None:
        """Send until there is no more room."""
        pair, data = self.pick(which), self.payload(size)
        for _ in range(400):
            if self.same("send", pair, data, 0)[0] == "raised":
                break

    @step(which=WHICH, size=SIZES)
    def recv(self, which: int, size: int) -> None:
        self.same("recv", self.pick(which), size, 0)

    @step(which=WHICH, size=SIZES)
    def read(self, which: int, size: int) -> None:
        if size:
            self.same("read", self.pick(which), size)

    @step(which=WHICH, size=SIZES, room=st.sampled_from([0, 8, 16, 20, 24, 100]), flags=FLAGS)
    def recvmsg(self, which: int, size: int, room: int, flags: int) -> None:
        self.same("recvmsg", self.pick(which), size, room, flags)

    @step(which=WHICH)
    def drain(self, which: int) -> None:
        pair = self.pick(which)
        for _ in range(400):
            result = self.same("recvmsg", pair, 100_000, 100, 0)
            if result[0] == "raised" or not result[1][0]:
                break

    # --- passing files ----------------------------------------------------------------------------------

    @precondition(lambda self: len(self.pipes) < 3)
    @rule()
    def make_pipe(self) -> None:
        self.pipes.append(tuple(side.pipe() for side in self.sides))  # type: ignore[arg-type]

    @precondition(lambda self: bool(self.pairs) and bool(self.pipes))
    @rule(
        which=WHICH, pipe=st.integers(0, 2), size=SIZES, count=st.integers(1, 3), plain=st.booleans(),
        closes=st.booleans(),
    )  # fmt: skip
    def send_files(self, which: int, pipe: int, size: int, count: int, plain: bool, closes: bool) -> None:
        """Send a pipe's write end, maybe the last that is open, and maybe data around it."""
        index = pipe % len(self.pipes)
        pair, (real_pipe, sim_pipe) = self.pick(which), self.pipes[index]
        if real_pipe[1] < 0 or not (size or RECENT):
            return
        if plain:
            self.same("send", pair, self.payload(5), 0)
        data = self.payload(size)
        real = outcome(lambda: self.sides[0].send_files(pair.real, data, [real_pipe[1]] * count))
        sim = outcome(lambda: self.sides[1].send_files(pair.sim, data, [sim_pipe[1]] * count))
        assert sim == real, f"send_files: simulated {sim}, real {real}"
        if plain:
            self.same("send", pair, self.payload(5), 0)
        if closes:
            self.sides[0].close_fd(real_pipe[1])
            self.sides[1].close_fd(sim_pipe[1])
            self.pipes[index] = (real_pipe[0], -1), (sim_pipe[0], -1)

    @rule(
        kind=KINDS,
        sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4),
        reads=st.lists(st.tuples(st.sampled_from([1, 3, 20]), st.sampled_from([0, 24, 100]), FLAGS), max_size=5),
    )
    def pass_files(self, kind: int, sizes: list[int], reads: list[tuple[int, int, int]]) -> None:
        """Send data with and without a pipe's write end over a new connection, read some of it, and close all."""
        pipes = [side.pipe() for side in self.sides]
        ends = [side.pair(kind) for side in self.sides]
        for number, size in enumerate(sizes):
            data = self.payload(size + 1)
            for side, pipe, (one, _) in zip(self.sides, pipes, ends, strict=True):
                if number % 2:
                    side.send_files(one, data, [pipe[1]] * size)
                else:
                    side.send(one, data, 0)
        other = Pair(kind, ends[0][1], ends[1][1])
        for side, pipe in zip(self.sides, pipes, strict=True):
            side.close_fd(pipe[1])
        for size, room, flags in reads:
            self.same("recvmsg", other, size, room, flags)
        self.masks_of([pipe[0] for pipe in pipes])
        for _, end in ends:
            end.close()
        self.masks_of([pipe[0] for pipe in pipes])
        for (one, _), side, pipe in zip(ends, self.sides, pipes, strict=True):
            one.close()
            side.close_fd(pipe[0])

    def masks_of(self, fds: list[int]) -> None:
        real, sim = (side.masks([fd]) for side, fd in zip(self.sides, fds, strict=True))
        assert sim == real, f"pipe: simulated {sim}, real {real}"

    # --- ending -----------------------------------------------------------------------------------------

    @step(which=WHICH, how=st.sampled_from([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))
    def shutdown(self, which: int, how: int) -> None:
        pair = self.pick(which)
        if RECENT or pair.kind != DGRAM:
            self.same_method("shutdown", pair, how)

    @step(which=WHICH)
    def close(self, which: int) -> None:
        pair = self.pick(which)
        self.pairs.remove(pair)
        pair.real.close()
        pair.sim.close()

    # --- options ----------------------------------------------------------------------------------------

    @step(which=WHICH, option=OPTIONS, value=st.sampled_from([0, 1, 64, 40_000]))
    def setsockopt(self, which: int, option: int, value: int) -> None:
        pair = self.pick(which)
        if EXACT or option not in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self.same_method("setsockopt", pair, SOL, option, value)
            self.same("getsockopt", pair, option)

    @step(which=WHICH, option=OPTIONS)
    def getsockopt(self, which: int, option: int) -> None:
        self.same("getsockopt", self.pick(which), option)


TestUnixMachine = UnixMachine.TestCase
TestUnixMachine.settings = settings(
    max_examples=examples(150), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
