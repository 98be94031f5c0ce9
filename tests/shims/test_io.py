# ruff: noqa: SIM115
"""Unmodified file code inside of a run: what it sees, that the real disk stays as it is, what escapes."""

from __future__ import annotations

import asyncio
import fcntl
import glob
import io
import mmap
import os
import pickle
import posix
import readline
import select
import shutil
import socket
import ssl
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.kernel.clock import Clock
from simloop.kernel.descriptors import FIRST_FD, DescriptorTable
from simloop.kernel.files.calls import FileCalls
from simloop.kernel.files.crash import lose_power
from simloop.kernel.files.filesystem import FileSystem
from simloop.kernel.wall import WallClock
from simloop.world import active


def inside(function: Callable[[], Any], **options: Any) -> Any:
    async def main() -> Any:
        return function()

    return simloop.run(main, **options, blocking="ignore")


def real_tree(root: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A real directory with something in it."""
    (tmp_path / "a").write_bytes(b"alpha")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "b.txt").write_text("one\ntwo\n")
    (tmp_path / "link").symlink_to("d/b.txt")
    return tmp_path


def test_real_files_are_read_and_written_in_memory_only(root: Path) -> None:
    before = real_tree(root)

    def body() -> dict[str, bytes | None]:
        assert (root / "a").read_bytes() == b"alpha"
        (root / "a").write_bytes(b"changed")
        (root / "d" / "new").mkdir()
        (root / "d" / "b.txt").rename(root / "d" / "new" / "c.txt")
        assert not (root / "link").exists()
        (root / "link").unlink()
        return real_tree(root)

    after = inside(body)
    assert real_tree(root) == before
    assert after == {
        str(root / "a"): b"changed", str(root / "d"): None, str(root / "d" / "new"): None,
        str(root / "d" / "new" / "c.txt"): b"one\ntwo\n",
    }  # fmt: skip
    assert inside(lambda: real_tree(root)) == before  # nothing is left for the next run


def test_what_was_seen_stays_though_the_real_file_changes(root: Path) -> None:
    def body() -> None:
        assert (root / "a").read_bytes() == b"alpha"
        assert not (root / "later").exists()
        with active.world_entered(None):
            (root / "a").write_bytes(b"beta")
            (root / "later").write_bytes(b"")
        assert (root / "a").read_bytes() == b"alpha"
        assert not (root / "later").exists()

    inside(body)


def test_hosts_share_nothing_but_the_real_files(root: Path) -> None:
    async def main() -> list[str]:
        async def write(text: str) -> str:
            before = (root / "a").read_text()
            (root / "a").write_text(text)
            return before + (root / "a").read_text()

        sim = simloop.current()
        return [
            await sim.host("db").run(lambda: write("db")),
            await sim.host("web").run(lambda: write("web")),
            await sim.host("db").run(lambda: write("again")),
            (root / "a").read_text(),
        ]

    assert simloop.run(main) == ["alphadb", "alphaweb", "dbagain", "alpha"]


# Each gives what can be compared, and runs in a directory of its own: once for real, once inside.


def _modes() -> list[Any]:
    found: list[Any] = []
    for mode in (
        "w",
        "r",
        "a",
        "x",
        "r+",
        "w+",
        "a+",
        "rb",
        "wb+",
        "ab",
        "xb",
        "rt",
        "rw",
        "",
        "z",
        "rr",
        "tb",
        "b",
        "+",
    ):
        for more in ({}, {"buffering": 0}, {"buffering": 1}, {"encoding": "utf-8"}, {"newline": "x"}, {"errors": 1}):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    with open("m", mode, **more) as file:  # type: ignore[call-overload]
                        found.append((type(file).__name__.replace("Sim", ""), file.mode, file.name, repr(file)))
                        found.append((file.readable(), file.writable(), file.seekable(), file.tell(), file.isatty()))
                        raw = getattr(getattr(file, "buffer", file), "raw", file)
                        found.append((repr(raw), raw.mode, raw.closefd))
            except (OSError, ValueError, TypeError) as error:
                found.append((type(error).__name__, str(error)))
    return found


def _raised(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "filename", None), getattr(error, "filename2", None)


def _errors() -> list[Any]:
    Path("f").write_bytes(b"x")
    Path("d").mkdir()
    calls: list[Callable[[], Any]] = [
        lambda: open("missing"), lambda: open("d"), lambda: open("d", "w"), lambda: open(b"missing"),
        lambda: open(Path("missing/x")), lambda: open("f/x"), lambda: open(None), lambda: open(1.5),  # type: ignore[call-overload]
        lambda: open("f", 5), lambda: open("f", closefd=False), lambda: open("f\0"), lambda: open("f", buffering="1"),  # type: ignore[call-overload]
        lambda: open("f", opener=lambda *_: -1), lambda: open("f", opener=lambda *_: "x"),  # type: ignore[arg-type,return-value]
        lambda: open("f", opener=5), lambda: open(-1),  # type: ignore[arg-type]
        lambda: os.stat("missing"), lambda: os.stat(b"missing"), lambda: os.stat(None), lambda: os.stat("\0"),  # type: ignore[arg-type]
        lambda: os.stat(["f"]), lambda: os.lstat(5), lambda: os.rename("missing", "x"), lambda: os.rename("d", "f"),  # type: ignore[arg-type]
        lambda: os.replace("f", "d"), lambda: os.link("missing", "y"), lambda: os.symlink("x", "f"),
        lambda: os.mkdir("d"), lambda: os.rmdir("f"), lambda: os.unlink("d"), lambda: os.remove("missing"),
        lambda: os.listdir("f"), lambda: os.scandir("missing"), lambda: os.readlink("f"), lambda: os.chdir("f"),
        lambda: os.utime("f", (1, 2, 3)), lambda: os.utime("f", (1, 2), ns=(1, 2)), lambda: os.truncate("d", 1),  # type: ignore[arg-type]
        lambda: os.chmod("missing", 0), lambda: os.access("missing", os.R_OK), lambda: os.access("f", os.R_OK),
        lambda: os.open("missing", os.O_RDONLY), lambda: os.open("x", os.O_RDONLY, dir_fd=10**9),
        lambda: os.getxattr("f", "user.x"), lambda: os.stat("f", dir_fd="x"), lambda: os.mkdir(3),  # type: ignore[arg-type]
        lambda: os.path.getsize("d/../f"), lambda: os.path.samefile("f", "./f"), lambda: Path("missing").read_text(),
        lambda: Path("f").iterdir().__next__(), lambda: shutil.copyfile("f", "f"), lambda: shutil.rmtree("missing"),
        lambda: os.stat(Path("none")), lambda: os.mkdir(Path("d")), lambda: os.rename(Path("none"), Path("x")),
        lambda: os.scandir(Path("f")), lambda: os.symlink(Path("x"), Path("f")), lambda: os.link(b"none", Path("y")),
        lambda: shutil.copytree("d", "d"), lambda: os.makedirs("d"), lambda: os.removedirs("f"),
        lambda: tempfile.mkstemp(dir="missing"[:7] + "/x", prefix="")[0] * 0,
        lambda: fcntl.flock(10**9, fcntl.LOCK_EX),
    ]  # fmt: skip
    return [_raised(call) for call in calls if "tempfile" not in call.__code__.co_names]


def _raw() -> list[Any]:
    found: list[Any] = []
    with open("f", "wb+", buffering=0) as file:
        found += [file.write(b"0123456789"), file.seek(2), file.read(3), file.readall(), file.read(), file.tell()]
        buffer = bytearray(4)
        found += [
            file.seek(-3, 2),
            file.readinto(buffer),
            bytes(buffer),
            file.truncate(4),
            file.truncate(),
            file.tell(),
        ]
        found += [
            _raised(lambda: file.seek(-1)),
            _raised(lambda: file.write("x")),
            _raised(lambda: pickle.dumps(file))[0],
        ]  # type: ignore[arg-type]
        found += [_raised(lambda: file.seek(1.5)), isinstance(file, io.FileIO), isinstance(file, io.RawIOBase)]  # type: ignore[arg-type]
    found += [file.closed, repr(file), _raised(file.read), _raised(file.fileno), _raised(file.readable)]
    with open("f", "rb", buffering=0) as reader:
        found.append(_raised(lambda: reader.write(b"x")))
    with open("f", "ab", buffering=0) as appender:
        found += [appender.tell(), appender.write(b"end"), appender.tell(), _raised(lambda: appender.read(1))]
    with open("f", "rb") as buffered:
        found += [buffered.peek(2)[:2], buffered.read1(3), buffered.readlines()]
    return found


def _descriptors() -> list[Any]:
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o640)
    found: list[Any] = [os.write(fd, b"hello"), os.lseek(fd, 0, os.SEEK_SET), os.read(fd, 3)]
    other = os.dup(fd)
    found += [os.read(other, 9), os.lseek(fd, 0, os.SEEK_CUR), os.pread(fd, 2, 1), os.pwrite(fd, b"J", 0)]
    found += [os.writev(fd, [b"a", bytearray(b"b")]), os.pwritev(fd, [b"c"], 0), os.preadv(fd, [bytearray(2)], 0)]
    buffers = [bytearray(2), bytearray(9)]
    found += [os.lseek(fd, 0, 0), os.readv(fd, buffers), buffers, stat.filemode(os.fstat(fd).st_mode)]
    found += [os.ftruncate(fd, 2), os.fsync(fd), os.fdatasync(other), os.fstat(fd).st_size, os.isatty(fd)]
    found += [os.posix_fallocate(fd, 0, 10), os.stat(fd).st_size, os.get_inheritable(fd), os.get_blocking(fd)]
    third = os.open("g", os.O_RDWR | os.O_CREAT)
    found += [os.sendfile(third, fd, 0, 5), os.copy_file_range(fd, third, 3, 0), os.fstat(third).st_size]
    found += [os.dup2(fd, third) == third, os.fstat(third).st_size, os.lockf(fd, os.F_LOCK, 5)]
    found += [fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE, select.select([fd], [fd], [], 0) == ([fd], [fd], [])]
    for each in (fd, other, third):
        os.close(each)
    found += [_raised(lambda: os.close(fd)), _raised(lambda: os.read(fd, 1)), _raised(lambda: os.fstat(fd))]
    directory = os.open(".", os.O_RDONLY)
    found += [
        sorted(os.listdir(directory)),
        os.stat("f", dir_fd=directory).st_size,
        os.access("g", 4, dir_fd=directory),
    ]
    found += [os.mkdir("sub", dir_fd=directory), os.rename("g", "sub/h", src_dir_fd=directory, dst_dir_fd=directory)]
    found += [sorted(entry.name for entry in os.scandir(directory)), os.fchdir(directory), os.listdir("sub")]
    os.close(directory)
    return found


def _trees() -> list[Any]:
    Path("t/x/y").mkdir(parents=True)
    Path("t/x/f.txt").write_text("f")
    Path("t/x/y/g.txt").write_text("g")
    Path("t/.h").touch()
    Path("t/l").symlink_to("x")
    found: list[Any] = [sorted((a, sorted(b), sorted(c)) for a, b, c in os.walk("t"))]
    found += [sorted((a, sorted(b), sorted(c)) for a, b, c, _ in os.fwalk("t"))]
    found += [sorted(glob.glob("t/**/*", recursive=True)), sorted(glob.glob("*.txt", root_dir="t/x")), glob.glob("no*")]
    found += [sorted(map(str, Path("t").rglob("*.txt"))), sorted(map(str, Path("t").glob("*/*.txt")))]
    entries = sorted(os.scandir("t"), key=lambda entry: entry.name)
    found += [
        (e.name, e.path, e.is_dir(), e.is_file(), e.is_symlink(), e.is_dir(follow_symlinks=False)) for e in entries
    ]
    found += [repr(entries[0]), os.fspath(entries[0]), entries[0].inode() == os.stat("t/.h").st_ino]
    found += [sorted(os.listdir(b"t")), sorted(entry.path for entry in os.scandir(b"t"))]
    shutil.copytree("t", "u", symlinks=True)
    shutil.copy2("t/x/f.txt", "u/copy")
    shutil.move("u/x", "v")
    found += [sorted(str(path) for path in Path("u").rglob("*")), os.readlink("u/l"), os.path.islink("u/l")]
    found += [os.path.exists("u/l"), os.path.lexists("u/l"), os.path.realpath("t/l/y").endswith("t/x/y")]
    os.utime("t/x/f.txt", ns=(5, 1_000_000_001))
    shutil.copystat("t/x/f.txt", "u/copy")
    found += [os.stat("u/copy").st_mtime_ns, os.stat("u/copy").st_mtime, shutil.which("sh", path="t")]
    shutil.rmtree("t")
    found += [os.path.exists("t"), sorted(os.listdir()), Path("v/f.txt").read_text()]
    return found


def _temporary() -> list[Any]:
    tempfile.tempdir = os.getcwd()
    try:
        fd, name = tempfile.mkstemp()
        found: list[Any] = [os.write(fd, b"x"), os.close(fd), os.unlink(name), stat.S_IMODE(os.stat(".").st_mode) & 0]
        with tempfile.TemporaryFile() as file:
            found += [file.write(b"abc"), file.seek(0), file.read()]
        with tempfile.NamedTemporaryFile("w+", suffix=".txt") as named:
            found += [named.write("abc"), named.flush(), os.path.getsize(named.name), named.name.endswith(".txt")]
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "x").mkdir()
            found.append(os.listdir(directory))
        with tempfile.SpooledTemporaryFile(max_size=3) as spooled:
            found += [spooled.write(b"more than that"), spooled.seek(0), spooled.read()]
        return [*found, os.listdir()]
    finally:
        tempfile.tempdir = None


def _openers() -> list[Any]:
    directory = os.open(".", os.O_RDONLY)
    with open("f", "w", opener=lambda name, flags: os.open(name, flags, 0o600, dir_fd=directory)) as file:
        file.write("x")
    found: list[Any] = [stat.filemode(os.stat("f").st_mode)]
    os.close(directory)
    fd = os.open("f", os.O_RDONLY)
    with open(fd, closefd=False) as by_number:
        found += [by_number.read(), isinstance(by_number.name, int)]
    with os.fdopen(fd) as owning:
        found += [owning.read(), owning.seek(0), owning.read()]
    return [*found, _raised(lambda: os.close(fd))]


def _process() -> list[Any]:
    here = os.getcwd()
    before = os.umask(0o077)
    Path("f").touch()
    os.umask(before)
    os.mkdir("d")
    os.chdir("d")
    found: list[Any] = [os.getcwd() == here + "/d", os.getcwdb() == os.fsencode(os.getcwd()), os.path.abspath("x")[-3:]]
    os.rmdir("../d")
    found += [_raised(os.getcwd), os.chdir(".."), os.getcwd() == here, stat.filemode(os.stat("f").st_mode)]
    return [*found, before == 0o022, os.statvfs(".").f_namemax, shutil.disk_usage(".").total > 0, os.sync()]


@pytest.mark.parametrize(
    "program", [_modes, _errors, _raw, _descriptors, _trees, _temporary, _openers, _process], ids=lambda p: p.__name__
)
def test_same_results_as_on_the_real_disk(
    program: Callable[[], list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("real")
    os.mkdir("sim")

    def at(name: str) -> list[Any]:
        os.chdir(tmp_path / name)
        try:
            return program()
        finally:
            os.chdir(tmp_path)

    before = os.umask(0o022)
    try:
        real = at("real")
    finally:
        os.umask(before)
    sim = inside(lambda: at("sim"))
    assert [str(value).replace("/sim", "/real") for value in sim] == [str(value) for value in real]
    assert os.listdir("sim") == []


# --- time ---------------------------------------------------------------------------------------------------


def test_reading_real_files_takes_no_time(root: Path) -> None:
    def body() -> float:
        start = simloop.current().elapsed
        (root / "d" / "b.txt").read_text()
        glob.glob(f"{root}/**/*", recursive=True)
        return simloop.current().elapsed - start

    assert inside(body) == 0


def test_a_sync_blocks_the_loop_but_not_where_an_executor_does_it(tmp_path: Path) -> None:
    def store() -> None:
        with open(tmp_path / "f", "wb", buffering=0) as file:
            file.write(b"x" * 50_000_000)
            os.fsync(file.fileno())

    async def main(threaded: bool) -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        start = simloop.current().elapsed
        if threaded:
            await asyncio.to_thread(store)
        else:
            store()
        assert 0.1 < simloop.current().elapsed - start < 0.2
        ticking.cancel()
        return ticks

    assert simloop.run(lambda: main(False), blocking="ignore") == 0
    assert simloop.run(lambda: main(True)) >= 8


def test_times_of_files_are_virtual(tmp_path: Path) -> None:
    def body() -> None:
        (tmp_path / "f").touch()
        first = os.stat(tmp_path / "f").st_mtime
        assert abs(first - time.time()) < 0.001
        time.sleep(3600)
        (tmp_path / "f").touch()
        assert 3600 < os.stat(tmp_path / "f").st_mtime - first < 3600.01

    inside(body)


# --- waiting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["flock", "lockf"])
def test_a_lock_is_waited_for(tmp_path: Path, name: str) -> None:
    seen: list[str] = []

    def lock(file: Any, operation: int) -> None:
        getattr(fcntl, name)(file, operation)

    async def holder() -> None:
        with open(tmp_path / "lock", "w") as file:
            lock(file, fcntl.LOCK_EX)
            await asyncio.sleep(2)
            seen.append("released")

    async def waiter() -> None:
        await asyncio.sleep(1)
        with open(tmp_path / "lock", "w") as file:
            with pytest.raises(BlockingIOError):
                lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock(file, fcntl.LOCK_EX)
            seen.append("taken")

    async def main() -> None:
        host = simloop.current().host("db")
        await asyncio.gather(host.run(holder), host.run(waiter))

    simloop.run(main, blocking="ignore")
    assert seen == ["released", "taken"]


def test_a_loop_does_not_watch_files_as_epoll_does_not(tmp_path: Path) -> None:
    async def main() -> None:
        with open(tmp_path / "f", "w") as file, pytest.raises(PermissionError):
            asyncio.get_running_loop().add_reader(file.fileno(), print)

    simloop.run(main)


# --- the real world -----------------------------------------------------------------------------------------


def _mapped(root: Path) -> None:
    with open(root / "a", "r+b") as file:
        mmap.mmap(file.fileno(), 0)


@pytest.mark.parametrize(
    ("reach", "what"),
    [
        (lambda root: posix.open(str(root / "a"), os.O_WRONLY), "for writing"),
        (lambda root: posix.unlink(str(root / "a")), "os.remove"),
        (lambda root: posix.mkdir(str(root / "n")), "os.mkdir"),
        (lambda root: posix.rename(str(root / "a"), str(root / "n")), "os.rename"),
        (lambda root: os.chroot(root), "os.chroot"),
        (lambda root: open("/dev/ptmx", "rb"), "/dev/ptmx"),
        (_mapped, "mmap"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_change_the_real_disk_escapes(root: Path, reach: Callable[[Path], Any], what: str) -> None:
    before = real_tree(root)
    with pytest.raises(simloop.EscapedSimulationError, match=what) as caught:
        inside(lambda: reach(root))
    assert __file__ in str(caught.value)
    assert real_tree(root) == before


def test_imports_are_real(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "fresh_module_of_this_test.py").write_text("value = 7")
    monkeypatch.syspath_prepend(str(root))

    def body() -> int:
        import fresh_module_of_this_test  # type: ignore[import-not-found]

        value: int = fresh_module_of_this_test.value
        return value

    assert inside(body) == 7


def test_standard_streams_stay_real(capfd: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        os.write(1, b"to the terminal")
        with open(1, "w", closefd=False) as out:
            out.write("!")

    inside(body)
    assert capfd.readouterr().out == "to the terminal!"


def test_another_thread_has_the_real_disk(root: Path) -> None:
    done = threading.Event()
    entered = threading.Event()

    def outside() -> None:
        entered.wait()
        (root / "real").write_bytes(b"x")
        done.set()

    thread = threading.Thread(target=outside)
    thread.start()

    def body() -> None:
        (root / "sim").write_bytes(b"x")
        entered.set()
        end = time_of_the_machine() + 10
        while not done.is_set() and time_of_the_machine() < end:
            pass

    inside(body)
    thread.join()
    assert (root / "real").exists()
    assert not (root / "sim").exists()


def time_of_the_machine() -> float:
    return posix.times().elapsed


def test_a_file_that_outlives_its_run_is_closed_quietly(tmp_path: Path) -> None:
    file = inside(lambda: open(tmp_path / "f", "wb", buffering=0))
    file.close()
    assert file.closed
    assert file._fd == -1


def test_an_unclosed_file_is_warned_of_and_closed(tmp_path: Path) -> None:
    def body() -> int:
        with pytest.warns(ResourceWarning, match=r"unclosed file <_io\.TextIOWrapper name="):
            open(tmp_path / "f", "w")
        fd = os.open(tmp_path / "g", os.O_CREAT)
        os.close(fd)
        return fd

    assert inside(body) == FIRST_FD


# --- what CPython's own tests do not ask ------------------------------------------------------------------------


def _extended_attributes() -> list[Any]:
    Path("f").write_bytes(b"x")
    os.symlink("f", "l")
    os.mkfifo("p")
    found: list[Any] = [os.setxattr("f", "user.a", b"1"), os.getxattr("l", b"user.a"), os.listxattr("f")]
    calls: list[Callable[[], Any]] = [
        lambda: os.getxattr("f", "user.b"), lambda: os.getxattr("f", ""), lambda: os.getxattr("f", "user."),
        lambda: os.getxattr("f", "a"), lambda: os.setxattr("f", "odd.a", b""), lambda: os.removexattr("f", "user.b"),
        lambda: os.setxattr("f", "user." + "x" * 255, b""), lambda: os.setxattr("f", "user.b", b"x" * 65537),
        lambda: os.setxattr("f", "user.b", b"", 9), lambda: os.setxattr("f", "user.b", b"", os.XATTR_REPLACE),
        lambda: os.setxattr("f", "user.a", b"", os.XATTR_CREATE), lambda: os.setxattr("p", "user.a", b""),
        lambda: os.getxattr("p", "user.a"), lambda: os.getxattr("l", "user.a", follow_symlinks=False),
        lambda: os.getxattr("none", "user.a"), lambda: os.listxattr(1.5), lambda: os.setxattr("f", "user.b", "text"),  # type: ignore[arg-type]
        lambda: os.listxattr(10**6 * 3), lambda: os.getxattr("f", 5),  # type: ignore[arg-type]
    ]  # fmt: skip
    found += [_raised(call) for call in calls]
    # Python has other words for what is missing than C.
    found.append(_raised(lambda: os.setxattr("f", "user.b"))[0])  # type: ignore[call-arg]
    shutil.copy2("f", "g")
    return [*found, os.listxattr("g"), os.removexattr("g", "user.a"), os.listxattr("g"), os.getxattr("f", "user.a")]


def _nodes() -> list[Any]:
    os.mkfifo("p", 0o640)
    found: list[Any] = [stat.filemode(os.stat("p").st_mode), _raised(lambda: os.mkfifo("p")), os.listdir()]
    fd = os.open("p", os.O_RDONLY | os.O_NONBLOCK)
    found += [os.read(fd, 9), _raised(lambda: os.lseek(fd, 0, 0)), stat.S_ISFIFO(os.fstat(fd).st_mode), os.close(fd)]
    found += [_raised(lambda: os.mknod("d", stat.S_IFDIR)), _raised(lambda: os.mknod("d", 0o170000))]
    with os.scandir() as entries:
        entry = next(entries)
        os.unlink("p")
        found += [entry.is_file(), entry.is_dir(), _raised(entry.stat), isinstance(entry, os.DirEntry)]
    return [*found, _raised(lambda: pickle.dumps(entry)), _raised(lambda: os.open("/dev/tty", os.O_RDONLY))[0]]


class Taking:
    """Holds functions as class attributes, since before any run."""

    read_text = open
    status = staticmethod(os.stat)

    class Inner:
        remove = os.unlink


class Upper(io.FileIO):
    """Subclassed before any run: a real file, always."""


def _held_by_classes() -> list[Any]:
    Path("f").write_text("held")
    with Taking().read_text("f") as file:
        found: list[Any] = [file.read(), Taking.status("f").st_size, Taking().status("f").st_size]
    return [*found, Taking.Inner().remove("f"), os.listdir()]


def _subclasses() -> list[Any]:
    class Counting(io.FileIO):
        written = 0

        def write(self, data: Any) -> int:
            self.written += len(data)
            return super().write(data) or 0

    with io.BufferedWriter(Counting("f", "w"), 4) as file:
        file.write(b"0123456789")
    with Counting("f", "a+") as raw:
        found: list[Any] = [raw.write(b"end"), raw.written, raw.tell(), raw.seek(2), raw.read(4), raw.readall()]
        found += [isinstance(raw, io.FileIO), isinstance(raw, io.RawIOBase), issubclass(Counting, io.FileIO)]
        found += [raw.mode, raw.name, raw.closefd]
    return [*found, raw.closed, _raised(raw.read), os.listdir()]


def _memory() -> list[Any]:
    fd = os.memfd_create("scratch")
    found: list[Any] = [os.write(fd, b"0123456789"), os.pread(fd, 3, 2), os.fstat(fd).st_nlink, os.get_inheritable(fd)]
    with open(fd, "rb+") as file:
        found += [file.seek(0, 2), file.truncate(4), file.seek(0), file.read(), stat.filemode(os.fstat(fd).st_mode)]
    return [*found, os.listdir(), _raised(lambda: os.memfd_create("x" * 250)), _raised(lambda: os.fstat(fd))]


def _limits() -> list[Any]:
    Path("f").touch()
    fd = os.open("f", os.O_RDONLY)
    found = [os.pathconf("f", "PC_NAME_MAX"), os.fpathconf(fd, "PC_PATH_MAX"), os.pathconf(fd, 5)]
    os.close(fd)
    calls: list[Callable[[], Any]] = [
        lambda: os.pathconf("none", "PC_NAME_MAX"), lambda: os.pathconf("f", "odd"), lambda: os.fpathconf(fd, 3),
        lambda: os.pathconf("f", 1.5),  # type: ignore[arg-type]
    ]  # fmt: skip
    return [*found, *map(_raised, calls)]


def _inheritance() -> list[Any]:
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    found: list[Any] = [os.get_inheritable(fd), os.set_inheritable(fd, True), fcntl.fcntl(fd, fcntl.F_GETFD)]
    found += [fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC), os.get_inheritable(fd), os.get_blocking(fd)]
    other = os.dup(fd)
    found += [os.get_inheritable(other), os.dup2(fd, other) == other, os.get_inheritable(other), os.close(fd)]
    return [*found, os.get_inheritable(os.dup2(other, fd, False)), os.close(other), os.close(fd)]


@pytest.mark.parametrize(
    "program",
    [_extended_attributes, _nodes, _held_by_classes, _subclasses, _memory, _limits, _inheritance],
    ids=lambda p: p.__name__,
)
def test_same_results_as_on_the_real_disk_for_rarer_things(
    program: Callable[[], list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_same_results_as_on_the_real_disk(program, tmp_path, monkeypatch)


def test_extended_attributes_go_with_a_power_cut() -> None:
    """What was set and never synced may be gone, or there."""

    def left(answer: int) -> bytes:
        fs = FileSystem(WallClock(Clock()))
        calls = FileCalls(fs, DescriptorTable())
        file = calls.open("/f", os.O_RDWR | os.O_CREAT)
        calls.setxattr("/f", "user.a", b"1")
        file.sync()
        calls.setxattr("/f", "user.a", b"2")
        lose_power(fs, Choices(0, lambda *_: answer))
        return calls.getxattr("/f", "user.a")

    assert [left(0), left(1)] == [b"2", b"1"]


def test_a_loop_watches_counters_and_timers() -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        seen: list[Any] = []
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        loop.add_reader(fd, lambda: seen.append(os.eventfd_read(fd)))
        await asyncio.sleep(1)
        os.eventfd_write(fd, 3)
        await asyncio.sleep(0.1)
        loop.remove_reader(fd)
        os.close(fd)
        if hasattr(os, "timerfd_create"):
            timer = os.timerfd_create(time.CLOCK_MONOTONIC)
            os.timerfd_settime(timer, initial=2, interval=1)
            start = time.monotonic()
            loop.add_reader(timer, lambda: seen.append((os.read(timer, 8)[0], round(time.monotonic() - start, 2))))
            await asyncio.sleep(4.5)
            loop.remove_reader(timer)
            os.close(timer)
            assert seen[1:] == [(1, 2.0), (1, 3.0), (1, 4.0)]
        return seen[:1]

    assert simloop.run(main) == [3]


def test_an_eventfd_is_waited_for() -> None:
    async def main() -> int:
        fd = os.eventfd(0)
        asyncio.get_running_loop().call_later(1, lambda: None)
        waiting = asyncio.create_task(asyncio.to_thread(os.eventfd_read, fd))
        await asyncio.sleep(5)
        os.eventfd_write(fd, 7)
        return await waiting

    assert simloop.run(main) == 7


@pytest.mark.parametrize("by_socket", [False, True])
def test_a_loop_sends_a_simulated_file(by_socket: bool) -> None:
    data = bytes(range(256)) * 1000

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        simloop.current().fs.write_tree({"/data": data})
        received: asyncio.Future[bytes] = loop.create_future()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.set_result(await reader.read())
            writer.close()

        async with await asyncio.start_server(take, "127.0.0.1", 7000):
            with open("/data", "rb") as file:
                if by_socket:
                    with socket.socket() as sock:
                        sock.setblocking(False)
                        await loop.sock_connect(sock, ("127.0.0.1", 7000))
                        assert await loop.sock_sendfile(sock, file, 100) == len(data) - 100
                else:
                    transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", 7000)
                    assert await loop.sendfile(transport, file, 100) == len(data) - 100
                    transport.close()
            return await received

    assert simloop.run(main) == data[100:]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: setattr(ssl.create_default_context(), "keylog_filename", str(path)),
        lambda path: readline.write_history_file(path),
        lambda path: shared_memory.SharedMemory(create=True, size=10),
        lambda path: mmap.mmap(os.open(path, os.O_CREAT | os.O_RDWR), 0),
    ],
    ids=["keylog", "readline", "shared memory", "mmap"],
)
def test_c_code_that_writes_files_escapes(write: Callable[[Path], object], tmp_path: Path) -> None:
    async def main() -> None:
        write(tmp_path / "file")

    with pytest.raises(simloop.EscapedSimulationError):
        simloop.run(main)
    assert not list(tmp_path.iterdir())
