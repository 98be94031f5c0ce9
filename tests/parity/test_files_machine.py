"""Random file system calls on Linux and on the simulated kernel, compared call by call, and the trees at the end.

The simulated side lies over a directory with real files in it, which must be the same afterwards: so reading through,
copying on write and hiding what was removed are tested along with everything else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Any

import file_sides
import pytest
from file_sides import Outcome, RealSide, SimSide, outcome
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from sizes import examples

from simloop.kernel.files.inodes import Regular
from simloop.kernel.files.resolve import Credentials

MAX_FILES = 6
LONG = "x" * 255
#: Where files are in memory: that file system allocates by the page, so that blocks and holes can be compared.
MEMORY = Path("/dev/shm")
HARDLINKS_PROTECTED = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"

NAMES = st.sampled_from(["a", "b", "c", "d", "e", "k", "l", "new"])
ODD_NAMES = st.sampled_from([".", "..", "loop", "dangling", "\udcff\u00e4", LONG, LONG + "x", "x" * 4096])
PARTS = st.one_of(NAMES, NAMES, NAMES, ODD_NAMES)


def _path(parts: list[str], end: str) -> str:
    # Two steps up would leave what both sides share.
    ups = [part for part in parts if part == ".."]
    return "/".join(part for part in parts if part != ".." or len(ups) == 1) + end


PATHS = st.one_of(
    NAMES,
    st.builds("{}/{}".format, st.sampled_from(["d", "e", "k", "d/d", "a", "new"]), NAMES),
    st.builds(
        _path, st.lists(PARTS, min_size=0, max_size=3), st.sampled_from(["", "", "", "", "/", "/.", "//"])
    ).filter(lambda path: not path.startswith("/")),
)
TARGETS = st.one_of(NAMES, st.sampled_from(["", "d/b", "../base/a", "k/d", "d/", "loop", ".", "new/", "x" * 4096]))
MODES = st.sampled_from([0o777, 0o644, 0o600, 0o1777, 0o2755, 0o4755, 0o444, 0o000, 0o555, 0o333])
ACCESS = st.sampled_from([os.O_RDONLY, os.O_RDWR, os.O_RDWR, os.O_WRONLY])
EXTRAS = st.sets(
    st.sampled_from(
        [
            os.O_CREAT,
            os.O_EXCL,
            os.O_TRUNC,
            os.O_APPEND,
            os.O_NOFOLLOW,
            os.O_DIRECTORY,
            os.O_PATH,
            os.O_SYNC,
            os.O_CLOEXEC,
        ]
    ),
    max_size=3,
).filter(lambda flags: not {os.O_CREAT, os.O_DIRECTORY} <= flags)  # which Linux before 6.4 did not refuse
OFFSETS = st.one_of(
    st.sampled_from([0, 1, 10, 4095, 4096, 4097, 8192, 10_000, 20_000]), st.integers(0, 30_000), st.just(-1)
)
SIZES = st.sampled_from([0, 1, 3, 100, 4096, 5000, 13_000])
FILLS = st.sampled_from([b"x", b"yz", b"0123456789"])
WHICH = st.integers(0, MAX_FILES - 1)


class FilesMachine(RuleBasedStateMachine):
    """As whoever runs the test."""

    where: Path | None = None
    as_nobody = False

    def __init__(self) -> None:
        super().__init__()
        self.top = file_sides.make(self.where)
        self.rights = contextlib.ExitStack()
        if self.as_nobody:
            file_sides.give_to_nobody(self.top)
            self.rights.enter_context(file_sides.as_nobody())
        self.real = RealSide(self.top / "real")
        uid, gid = os.geteuid(), os.getegid()
        self.sim = SimSide(self.top / "template", Credentials(uid, gid, tuple(os.getgroups())))
        self.fds: list[tuple[int, int]] = []

    def teardown(self) -> None:
        try:
            self.same_tree()
        finally:
            self.real.finish()
            self.sim.finish()
            self.rights.close()
            file_sides.remove(self.top)

    def same_tree(self) -> None:
        real, sim = file_sides.tree(self.real), file_sides.tree(self.sim)
        assert list(sim) == list(real)
        for name, facts in real.items():
            assert self.compared(sim[name]) == self.compared(facts), name

    def compared(self, value: Any) -> Any:
        if isinstance(value, dict) and self.where is not MEMORY:
            # Other file systems need blocks to say where blocks are.
            return {key: item for key, item in value.items() if key != "blocks"}
        return value

    def same(self, name: str, *args: Any) -> Outcome:
        real, sim = (outcome(lambda side=side: getattr(side, name)(*args)) for side in (self.real, self.sim))
        assert self.compared(sim[1]) == self.compared(real[1]), f"{name}{args}: simulated {sim}, real {real}"
        assert sim[0] == real[0] == "returned" or sim == real, f"{name}{args}: simulated {sim}, real {real}"
        return real

    def same_fd(self, which: int, name: str, *args: Any) -> Outcome:
        fds = self.fds[which % len(self.fds)]
        sides = (self.real, fds[0]), (self.sim, fds[1])
        real, sim = (outcome(lambda side=side, fd=fd: getattr(side, name)(fd, *args)) for side, fd in sides)
        assert self.compared(sim[1]) == self.compared(real[1]), f"{name}{args}: simulated {sim}, real {real}"
        assert sim[0] == real[0] == "returned" or sim == real, f"{name}{args}: simulated {sim}, real {real}"
        return real

    def keep(self, name: str, args: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
        """A call that returns a descriptor."""
        made = [
            outcome(lambda side=side, args=args: getattr(side, name)(*args))
            for side, args in zip((self.real, self.sim), args, strict=True)
        ]
        if made[0][0] == made[1][0] == "returned":
            self.fds.append((made[0][1], made[1][1]))
        else:
            assert made[1] == made[0], f"{name}{args}: simulated {made[1]}, real {made[0]}"

    # --- paths ------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.fds) < MAX_FILES)
    @rule(path=PATHS, access=ACCESS, extras=EXTRAS, mode=MODES)
    def open(self, path: str, access: int, extras: set[int], mode: int) -> None:
        flags = access
        for extra in extras:
            flags |= extra
        self.keep("open", ((path, flags, mode), (path, flags, mode)))

    @precondition(lambda self: len(self.fds) < MAX_FILES)
    @rule(path=NAMES, flags=st.sampled_from([0, 0, os.O_TRUNC, os.O_EXCL, os.O_APPEND]))
    def create(self, path: str, flags: int) -> None:
        self.keep("open", ((path, flags | os.O_RDWR | os.O_CREAT, 0o666),) * 2)

    @rule(path=PATHS, follow=st.booleans())
    def stat(self, path: str, follow: bool) -> None:
        self.same("stat", path, follow)

    @rule(old=st.one_of(NAMES, PATHS), new=st.one_of(NAMES, PATHS))
    def rename(self, old: str, new: str) -> None:
        self.same("rename", old, new)

    @rule(old=PATHS, new=PATHS, follow=st.booleans())
    def link(self, old: str, new: str, follow: bool) -> None:
        if self.as_nobody and not HARDLINKS_PROTECTED:
            return
        self.same("link", old, new, follow)

    @rule(text=TARGETS, path=PATHS)
    def symlink(self, text: str, path: str) -> None:
        self.same("symlink", text, path)

    @rule(path=PATHS, mode=MODES)
    def mkdir(self, path: str, mode: int) -> None:
        self.same("mkdir", path, mode)

    @rule(
        path=st.one_of(NAMES, PATHS),
        call=st.sampled_from(["rmdir", "rmdir", "unlink", "unlink", "readlink", "listdir"]),
    )
    def by_path(self, path: str, call: str) -> None:
        self.same(call, path)

    @rule(path=PATHS, mode=MODES)
    def chmod(self, path: str, mode: int) -> None:
        self.same("chmod", path, mode)

    @rule(path=PATHS, times=st.sampled_from([None, (1, 2), (10**14, 5)]), follow=st.booleans())
    def utime(self, path: str, times: tuple[int, int] | None, follow: bool) -> None:
        self.same("utime", path, times, follow)

    @rule(path=PATHS, size=OFFSETS)
    def truncate(self, path: str, size: int) -> None:
        self.same("truncate", path, size)

    @rule(path=PATHS, mode=st.integers(0, 7))
    def access(self, path: str, mode: int) -> None:
        self.same("access", path, mode)

    @rule(mask=st.sampled_from([0o022, 0o077, 0o000, 0o777, 0o7022]))
    def umask(self, mask: int) -> None:
        self.same("umask", mask)

    # --- descriptors ------------------------------------------------------------------------------------

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, count=SIZES)
    def read(self, which: int, count: int) -> None:
        self.same_fd(which, "read", count)

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, count=SIZES, offset=OFFSETS)
    def pread(self, which: int, count: int, offset: int) -> None:
        self.same_fd(which, "pread", count, offset)

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, size=SIZES, fill=FILLS)
    def write(self, which: int, size: int, fill: bytes) -> None:
        self.same_fd(which, "write", (fill * size)[:size])

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, size=SIZES, fill=FILLS, offset=OFFSETS)
    def pwrite(self, which: int, size: int, fill: bytes, offset: int) -> None:
        self.same_fd(which, "pwrite", (fill * size)[:size], offset)

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, offset=OFFSETS, whence=st.sampled_from([0, 1, 2, os.SEEK_DATA, os.SEEK_HOLE, 9]))
    def lseek(self, which: int, offset: int, whence: int) -> None:
        # tmpfs calls a page data that was reserved twice (shmem_fallocate() fills what it finds); ext4 does not.
        if whence in (os.SEEK_DATA, os.SEEK_HOLE) and (self.where is not MEMORY or self.has_reserved(which)):
            whence = os.SEEK_SET
        if whence == os.SEEK_END and self.is_directory(which):
            return  # where a directory ends is the file system's affair
        self.same_fd(which, "lseek", offset, whence)

    def has_reserved(self, which: int) -> bool:
        inode = self.sim.calls.description(self.fds[which % len(self.fds)][1]).inode
        return isinstance(inode, Regular) and bool(inode.contents.reserved)

    def is_directory(self, which: int) -> bool:
        return int(self.same_fd(which, "fstat")[1]["mode"], 8) & 0o170000 == 0o040000

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, size=OFFSETS)
    def ftruncate(self, which: int, size: int) -> None:
        self.same_fd(which, "ftruncate", size)

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, start=OFFSETS, length=SIZES)
    def fallocate(self, which: int, start: int, length: int) -> None:
        self.same_fd(which, "fallocate", start, length)

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, call=st.sampled_from(["fsync", "fdatasync", "fstat", "fstat", "listdir_fd"]))
    def by_descriptor(self, which: int, call: str) -> None:
        self.same_fd(which, call)

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, mode=MODES)
    def fchmod(self, which: int, mode: int) -> None:
        self.same_fd(which, "fchmod", mode)

    @precondition(lambda self: 0 < len(self.fds) < MAX_FILES)
    @rule(which=WHICH)
    def dup(self, which: int) -> None:
        real, sim = self.fds[which % len(self.fds)]
        self.keep("dup", ((real,), (sim,)))

    @precondition(lambda self: self.fds)
    @rule(which=WHICH)
    def close(self, which: int) -> None:
        self.same_fd(which, "close")
        del self.fds[which % len(self.fds)]

    @precondition(lambda self: self.fds)
    @rule(which=WHICH, operation=st.sampled_from([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, 0, 3]))
    def flock(self, which: int, operation: int) -> None:
        self.same_fd(which, "flock", operation | fcntl.LOCK_NB)


class MemoryMachine(FilesMachine):
    """Over tmpfs, with blocks and holes."""

    where = MEMORY


class NobodyMachine(FilesMachine):
    """As a user who may not do everything, among files of root's."""

    as_nobody = True


SETTINGS = settings(
    max_examples=examples(150),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

FilesMachine.TestCase.settings = SETTINGS
MemoryMachine.TestCase.settings = SETTINGS
NobodyMachine.TestCase.settings = SETTINGS

TestFiles = FilesMachine.TestCase
TestFilesInMemory = pytest.mark.skipif(not MEMORY.is_dir(), reason="no tmpfs")(MemoryMachine.TestCase)
TestFilesOfOthers = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")(
    NobodyMachine.TestCase
)
