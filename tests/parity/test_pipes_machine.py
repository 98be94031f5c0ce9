"""Random calls on pipes and a fifo, on Linux and on the simulated kernel, compared call by call and mask by mask."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pipe_sides import RealPipes, SimPipes
from sizes import examples

MAX_FDS = 10
WHICH = st.integers(0, MAX_FDS - 1)
PAGE = 4096
COUNTS = st.one_of(
    st.sampled_from([0, 1, 2, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 5000, 10_000, 65_535, 65_536, 65_537, 150_000]),
    st.integers(0, 3 * PAGE),
)
#: Capacities that anybody may have; what only some may is no affair of the simulated kernel's.
SIZES = st.sampled_from([0, 1, PAGE, PAGE + 1, 3 * PAGE, 16 * PAGE, 65_537, 1 << 17, 1 << 20, -1])
#: What pipes have in common with no file.
OTHERS = [
    ("lseek", 0, 0), ("lseek", 5, 2), ("pread", 1, 0), ("pread", 1, -1), ("pwrite", b"x", 0), ("pwrite", b"x", -1),
    ("ftruncate", 0), ("ftruncate", -1), ("fallocate", 0, 1), ("fallocate", -1, 1), ("fsync",), ("kind",), ("read", -1),
]  # fmt: skip
Outcome = tuple[Any, ...]


class PipesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.real, self.sim = RealPipes(Path(self.directory.name)), SimPipes()
        #: The same descriptors in both worlds.
        self.fds: list[tuple[int, int]] = []
        self.written = 0

    def teardown(self) -> None:
        self.real.finish()
        self.sim.finish()
        self.directory.cleanup()

    def same(self, name: str, real_args: tuple[Any, ...], sim_args: tuple[Any, ...], *args: Any) -> Outcome:
        real = outcome(self.real, name, *real_args, *args)
        sim = outcome(self.sim, name, *sim_args, *args)
        # Where it fails, how it fails; and what it returns, unless that is a number of a descriptor.
        assert sim[0] == real[0], f"{name}{args}: simulated {sim}, real {real}"
        assert sim == real or name in ("pipe", "open_fifo", "dup"), f"{name}{args}: simulated {sim}, real {real}"
        return (*real, sim[1])

    def on(self, which: int, name: str, *args: Any) -> Outcome:
        real, sim = self.fds[which % len(self.fds)]
        return self.same(name, (real,), (sim,), *args)

    @invariant()
    def masks_agree(self) -> None:
        for which in range(len(self.fds)):
            self.on(which, "mask")
            self.on(which, "available")

    # --- descriptors ------------------------------------------------------------------------------------

    @initialize()
    def first(self) -> None:
        self.pipe(os.O_NONBLOCK)

    @precondition(lambda self: len(self.fds) <= MAX_FDS - 2)
    @rule(flags=st.sampled_from([0, 0, 0, os.O_DIRECT, os.O_CLOEXEC]))
    def make_pipe(self, flags: int) -> None:
        self.pipe(flags | os.O_NONBLOCK)

    @rule(flags=st.sampled_from([os.O_APPEND, os.O_WRONLY, os.O_NONBLOCK | os.O_CREAT]))
    def refuse_flags(self, flags: int) -> None:
        assert self.same("pipe", (), (), flags)[0] == "raised"

    def pipe(self, flags: int) -> None:
        _, real, sim = self.same("pipe", (), (), flags)
        self.fds += zip(real, sim, strict=True)

    @precondition(lambda self: len(self.fds) < MAX_FDS)
    @rule(access=st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]))
    def open_fifo(self, access: int) -> None:
        found = self.same("open_fifo", (), (), access)
        if found[0] == "returned":
            self.fds.append(found[1:])

    @precondition(lambda self: 0 < len(self.fds) < MAX_FDS)
    @rule(which=WHICH)
    def dup(self, which: int) -> None:
        self.fds.append(self.on(which, "dup")[1:])

    @precondition(lambda self: self.fds)
    @rule(which=WHICH)
    def close(self, which: int) -> None:
        self.on(which, "close")
        del self.fds[which % len(self.fds)]

    # --- data -------------------------------------------------------------------------------------------

    def data(self, size: int) -> bytes:
        self.written += 1
        return (b"%d," % self.written * size)[:size]

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, size=COUNTS)
    def write(self, which: int, size: int) -> None:
        self.on(which, "write", self.data(size))

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, sizes=st.lists(COUNTS, max_size=3))
    def writev(self, which: int, sizes: list[int]) -> None:
        self.on(which, "writev", [self.data(size) for size in sizes])

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, size=st.sampled_from([1, 100, 1000, PAGE - 1, PAGE, PAGE + 1, 6000, 65_536]))
    def fill(self, which: int, size: int) -> None:
        """Write until it says no: in how many pieces, and with how many bytes in it, is the same."""
        for _ in range(200):
            if self.on(which, "write", self.data(size))[0] == "raised":
                break

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, count=COUNTS)
    def read(self, which: int, count: int) -> None:
        self.on(which, "read", count)

    @precondition(lambda self: len(self.fds) <= MAX_FDS - 2)
    @rule(
        first=COUNTS,
        taken=COUNTS,
        second=COUNTS,
        count=st.sampled_from([1, 999, PAGE]),
        spliced=st.booleans(),
        flags=st.sampled_from([0, 0, os.O_DIRECT]),
    )
    def pages(self, first: int, taken: int, second: int, count: int, spliced: bool, flags: int) -> None:
        """How small writes share pages shows in how many fit."""
        self.make_pipe(flags)
        read_end, write_end = len(self.fds) - 2, len(self.fds) - 1
        self.write(write_end, first)
        if spliced and len(self.fds) <= MAX_FDS - 2:
            self.make_pipe(0)
            self.splice(read_end, len(self.fds) - 1, taken)
            self.write(len(self.fds) - 1, second)
            self.fill(len(self.fds) - 1, count)
        else:
            self.read(read_end, taken)
        self.write(write_end, second)
        self.fill(write_end, count)

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, to=WHICH, count=COUNTS)
    def splice(self, which: int, to: int, count: int) -> None:
        if count:
            ends = [self.fds[index % len(self.fds)] for index in (which, to)]
            real, sim = zip(*ends, strict=True)
            self.same("splice", real, sim, count)

    # --- what it is -------------------------------------------------------------------------------------

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, size=SIZES)
    def resize(self, which: int, size: int) -> None:
        self.on(which, "set_size", size)
        self.on(which, "get_size")

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, on=st.booleans())
    def packets(self, which: int, on: bool) -> None:
        self.on(which, "packets", on)
        self.on(which, "flags")

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, mode=st.sampled_from([0o600, 0o644]))
    def fchmod(self, which: int, mode: int) -> None:
        self.on(which, "fchmod", mode)
        self.on(which, "kind")

    @precondition(lambda self: self.fds)
    @rule(
        which=WHICH,
        call=st.sampled_from(OTHERS),
    )
    def others(self, which: int, call: tuple[Any, ...]) -> None:
        self.on(which, *call)


def outcome(side: Any, name: str, *args: Any) -> Outcome:
    try:
        return ("returned", getattr(side, name)(*args))
    except OSError as error:
        return ("raised", f"{type(error).__name__} {errno.errorcode.get(error.errno or 0, error.errno)}")


PipesMachine.TestCase.settings = settings(
    max_examples=examples(150),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

TestPipes = PipesMachine.TestCase
