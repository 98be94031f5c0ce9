"""File system calls that random programs seldom hit, on Linux and on the simulated kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import file_sides
import pytest
from file_sides import NOBODY, RealSide, SimSide, as_nobody, give_to_nobody, outcome, tree

from simloop.kernel.files.resolve import Credentials

CREATE = os.O_RDWR | os.O_CREAT
Program = Callable[[Any], list[Any]]


def both(top: Path, program: Program) -> None:
    """Run `program` on either side; everything that it returns, and the tree that it leaves, must agree."""
    real = RealSide(top / "real")
    sim = SimSide(top / "template", Credentials(os.geteuid(), os.getegid(), tuple(os.getgroups())))
    try:
        expected = program(real), without_blocks(tree(real))
        assert (program(sim), without_blocks(tree(sim))) == expected
    finally:
        real.finish()
        sim.finish()


def without_blocks(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in facts.items() if key != "blocks"} if isinstance(facts, dict) else facts
        for name, facts in found.items()
    }


@pytest.fixture
def top() -> Iterator[Path]:
    path = file_sides.make()
    yield path
    file_sides.remove(path)


def tried(side: Any, name: str, *args: Any) -> Any:
    return outcome(lambda: getattr(side, name)(*args))


def links(side: Any) -> list[Any]:
    """40 links are followed, and not one more."""
    side.symlink("a", "l1")
    for number in range(2, 42):
        side.symlink(f"l{number - 1}", f"l{number}")
    side.symlink("d", "m1")
    for number in range(2, 42):
        side.symlink(f"m{number - 1}", f"m{number}")
    paths = ("l40", "l41", "m40/b", "m41/b", "m39/../m1/b", "m39/d/../../m2/b", "m40/", "m41/")
    return [tried(side, "stat", path, True)[0::2] for path in paths]


def slashes(side: Any) -> list[Any]:
    side.symlink("fresh/", "to_fresh")
    found = []
    for path in ("new/", "a/", "d/", "k/", "l/", "dangling/", "to_fresh", "./", "d/.", "d/..", "d/../", "//", ""):
        path = path.lstrip("/")
        for flags in (os.O_RDONLY, CREATE, CREATE | os.O_EXCL, os.O_RDONLY | os.O_NOFOLLOW, os.O_WRONLY, os.O_PATH):
            result = tried(side, "open", path, flags, 0o600)
            found.append((path, flags, result[0] if result[0] == "returned" else result))
            if result[0] == "returned":
                side.close(result[1])
        for call, *args in (("mkdir", 0o700), ("rmdir",), ("unlink",), ("stat", False), ("readlink",), ("listdir",)):
            found.append(
                (path, call, tried(side, call, path, *args)[0::2] if call == "stat" else tried(side, call, path, *args))
            )
        for other in ("other", "other/", "a", "d", "d/", "."):
            found += [
                (path, other, tried(side, "rename", path, other)),
                (other, path, tried(side, "rename", other, path)),
            ]
            found += [(path, other, tried(side, "link", path, other, False)), tried(side, "symlink", path, other)]
    return found


def removals(side: Any) -> list[Any]:
    found = [tried(side, "rmdir", path) for path in ("d", "d/d", "e", "a", "l", "k", ".", "..", "d/.", "d/..", "none")]
    found += [tried(side, "unlink", path) for path in ("d", ".", "k", "dangling", "loop", "none", "a", "d/c", "d/c")]
    return found


def directories_that_are_gone(side: Any) -> list[Any]:
    side.mkdir("gone", 0o755)
    side.mkdir("victim", 0o755)
    inside = [side.open(name, os.O_RDONLY | os.O_DIRECTORY, 0) for name in ("gone", "victim", "e")]
    side.rmdir("gone")
    found: list[Any] = [tried(side, "rename", "e", "victim"), tried(side, "rename", "d", "victim")]
    for fd in inside:
        base, side.base = side.base, fd
        try:
            found += [tried(side, "open", "x", CREATE, 0o600)[0], tried(side, "mkdir", "y", 0o700)]
            found += [
                tried(side, "symlink", "z", "z"),
                tried(side, "listdir_fd", fd),
                tried(side, "stat", "..", True)[0],
            ]
            found += [tried(side, "rename", "../a", "a"), tried(side, "link", "../d/b", "b", False)]
        finally:
            side.base = base
        found.append(side.fstat(fd)["nlink"])
    return found


def offsets_of_directories(side: Any) -> list[Any]:
    """Listing an open directory winds it back."""
    fd = side.open("e", os.O_RDONLY | os.O_DIRECTORY, 0)
    found = [tried(side, "lseek", fd, 1, os.SEEK_SET), tried(side, "listdir_fd", fd)]
    found.append(tried(side, "lseek", fd, 0, os.SEEK_CUR))
    side.close(fd)
    return found


def renames(side: Any) -> list[Any]:
    return [tried(side, "rename", old, new) for old, new in (
        ("d", "d/d"), ("d", "d/d/x"), ("d/d", "d"), ("d", "d"), ("a", "d/c"), ("a", "l"), ("a", "d"), ("d", "a"),
        ("k", "e"),
        ("d", "e"), ("e", "d"), ("e/d", "f"), ("f", "f/."), ("f", ".."), (".", "f"), ("..", "f"), ("dangling", "loop"),
        ("x" * 256, "a"), ("a", "x" * 256), ("none", "x" * 256), ("f/d", "f/b"), ("f/b", "f/d"),
    )]  # fmt: skip


def appending(side: Any) -> list[Any]:
    fd, other = side.open("a", os.O_RDWR | os.O_APPEND, 0), side.open("a", os.O_RDWR, 0)
    found = [
        side.write(fd, b"one"),
        side.lseek(fd, 0, os.SEEK_CUR),
        side.lseek(fd, 5, os.SEEK_SET),
        side.write(fd, b"two"),
    ]
    found += [side.lseek(fd, 0, os.SEEK_CUR), side.pwrite(fd, b"three", 0), side.pread(other, 20, 10_000)]
    found += [side.ftruncate(other, 4), side.write(fd, b"end"), side.read(other, 20), side.write(fd, b"")]
    return found


def holes(side: Any) -> list[Any]:
    fd = side.open("sparse", CREATE, 0o600)
    side.pwrite(fd, b"x", 1 << 20)
    side.pwrite(fd, b"y" * 5000, 5 << 20)
    side.ftruncate(fd, 9 << 20)
    seeks = [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20, 5 << 20, (5 << 20) + 4999, (5 << 20) + 9000, (9 << 20) - 1, 9 << 20]
    found = [tried(side, "lseek", fd, at, whence) for at in seeks for whence in (os.SEEK_DATA, os.SEEK_HOLE)]
    found += [side.pread(fd, 3, (1 << 20) - 1), side.pread(fd, 5, (1 << 20) - 3), side.fstat(fd)["size"]]
    # Over the borders of the pieces in which contents are kept.
    side.pwrite(fd, bytes(range(256)) * 8192, (2 << 20) - 77)
    found += [side.pread(fd, 4 << 20, 1 << 20), side.ftruncate(fd, (3 << 20) - 5), side.ftruncate(fd, 4 << 20)]
    return [*found, side.pread(fd, 2 << 20, 2 << 20)]


def locks(side: Any) -> list[Any]:
    nb = fcntl.LOCK_NB
    one, two, three = (side.open("a", os.O_RDWR, 0) for _ in range(3))
    copy = side.dup(one)
    found = []
    for fd, operation in (
        (one, fcntl.LOCK_SH), (two, fcntl.LOCK_SH), (three, fcntl.LOCK_EX), (one, fcntl.LOCK_EX), (two, fcntl.LOCK_UN),
        (copy, fcntl.LOCK_EX), (two, fcntl.LOCK_SH), (two, fcntl.LOCK_EX), (one, fcntl.LOCK_SH), (two, fcntl.LOCK_SH),
        (two, fcntl.LOCK_EX), (one, fcntl.LOCK_SH), (three, fcntl.LOCK_EX), (three, 0), (three, 7),
    ):  # fmt: skip
        found.append(tried(side, "flock", fd, operation | nb))
    side.close(one)
    found += [tried(side, "flock", three, fcntl.LOCK_EX | nb)]
    for fd in (copy, two):
        side.close(fd)
    return [*found, tried(side, "flock", three, fcntl.LOCK_EX | nb)]


def modes(side: Any) -> list[Any]:
    """Special bits: who gets them, who loses them."""
    side.mkdir("s", 0o7777)
    side.chmod("s", 0o2777)
    side.mkdir("s/inner", 0o755)
    fd = side.open("s/file", CREATE, 0o7777)
    found: list[Any] = [side.stat(path, True) for path in ("s", "s/inner", "s/file")]
    for mode in (0o6777, 0o2767, 0o4711, 0o1777):
        found += [tried(side, "fchmod", fd, mode), side.fstat(fd), side.write(fd, b"x"), side.fstat(fd)]
        found += [tried(side, "fchmod", fd, mode), side.ftruncate(fd, 7), side.fstat(fd)]
    return [*found, tried(side, "chmod", "l", 0o600), tried(side, "chmod", "e/b", 0o777)]


def of_others(side: Any) -> list[Any]:
    """What belongs to root, where the caller is not."""
    side.chmod("d", 0o2775)
    found: list[Any] = []
    for path in ("a", "e/b", "e", "e/own", "d/c", "e/foreign"):
        found += [tried(side, "open", path, flags, 0o644)[0::2] for flags in (os.O_RDONLY, os.O_WRONLY, os.O_TRUNC)]
        found += [tried(side, "utime", path, None, True), tried(side, "utime", path, (1, 2), True)]
        found += [tried(side, "chmod", path, 0o2755), tried(side, "truncate", path, 3)]
        found += [tried(side, "access", path, mode) for mode in range(8)]
        found += [tried(side, "rename", path, "d/moved"), tried(side, "unlink", path), tried(side, "rmdir", path)]
    side.chmod("d", 0o000)
    found += [
        tried(side, "stat", "d/b", True)[0::2],
        tried(side, "open", "d", os.O_RDONLY, 0),
        tried(side, "listdir", "d"),
    ]
    found += [tried(side, "mkdir", "d/x", 0o755), tried(side, "rename", "a", "d/x"), tried(side, "stat", "d", True)]
    side.chmod("d", 0o444)
    found += [
        tried(side, "stat", "d/b", True)[0::2],
        tried(side, "listdir", "d"),
        tried(side, "stat", "k/.", True)[0::2],
    ]
    side.chmod("d", 0o555)
    return [*found, tried(side, "unlink", "d/b"), tried(side, "mkdir", "d/x", 0o755), tried(side, "rename", "d", "e/x")]


ANYBODY = [
    links, slashes, removals, directories_that_are_gone, offsets_of_directories, renames, appending, holes, locks,
    modes,
]  # fmt: skip

# They use a file of root's.
WITH_ROOTS = [appending, locks]


@pytest.mark.parametrize("program", ANYBODY, ids=lambda program: program.__name__)
def test_the_same(top: Path, program: Program) -> None:
    both(top, program)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(
    "program",
    [*(program for program in ANYBODY if program not in WITH_ROOTS), of_others],
    ids=lambda program: program.__name__,
)
def test_the_same_for_nobody(top: Path, program: Program) -> None:
    give_to_nobody(top)
    with as_nobody():
        both(top, program)


def test_another_device_is_another_device(tmp_path: Path) -> None:
    """EXDEV where the real one gives it."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    (tmp_path / "base").mkdir()
    sim = SimSide(tmp_path, Credentials(os.geteuid(), os.getegid()))
    sim.calls.open(str(tmp_path / "f"), CREATE).close()
    for call in (sim.calls.rename, sim.calls.link):
        with pytest.raises(OSError, match="cross-device") as caught:
            call(str(tmp_path / "f"), str(memory / "f-of-no-test"))
        assert caught.value.errno == errno.EXDEV
    assert NOBODY
    shutil.rmtree(tmp_path / "base")
