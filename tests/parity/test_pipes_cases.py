# ruff: noqa: SIM115
"""Programs with pipes and fifos, run on Linux and inside of a world: all that they see must be the same."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import select
import selectors
import stat
import struct
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simloop

PAGE = 4096
LARGE = 0o100000  # in F_GETFL of files that were opened by a path


def tried(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        return type(error).__name__, errno.errorcode.get(number or 0, str(error))


def filled(fd: int, size: int = PAGE) -> int:
    """How many bytes fit in, by so many at a time."""
    os.set_blocking(fd, False)
    total = 0
    while isinstance(count := tried(os.write, fd, bytes(size)), int):
        total += count
    return total


def masks(*fds: int) -> list[int]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN | select.POLLOUT)
    found = dict(poll.poll(0))
    return [found.get(fd, 0) for fd in fds]


def in_thread(function: Callable[[], Any]) -> Callable[[], Any]:
    """Begin it in a thread; what is returned waits for it, and for its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(tried(function)))
    thread.start()

    def finish() -> Any:
        thread.join()
        return results[0]

    return finish


# --- what it is -------------------------------------------------------------------------------------------


def kind() -> list[Any]:
    r, w = os.pipe()
    facts = os.fstat(r)
    found: list[Any] = [stat.filemode(facts.st_mode), facts.st_nlink, facts.st_size, facts.st_blksize, facts.st_uid]
    other = os.pipe()
    found += [os.path.samestat(facts, os.fstat(w)), os.path.samestat(facts, os.fstat(other[0]))]
    found += [os.stat(r).st_ino == facts.st_ino, facts.st_dev == os.stat("/").st_dev, os.isatty(r)]
    found += [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (r, w)]
    found += [os.get_blocking(r), os.set_blocking(r, False), os.get_blocking(r), os.get_blocking(w)]
    found += [os.get_inheritable(fd) for fd in (*os.pipe2(0), *os.pipe2(os.O_CLOEXEC), r, w)]
    found += [fcntl.fcntl(w, fcntl.F_GETFD), os.fpathconf(r, "PC_PIPE_BUF"), os.fchmod(w, 0o640)]
    found += [stat.filemode(os.fstat(r).st_mode), w > r, tried(os.pipe2, os.O_APPEND)]
    for fd in (r, w):
        found += [
            tried(os.lseek, fd, 0, 0), tried(os.pread, fd, 1, 0), tried(os.pwrite, fd, b"", 0), tried(os.fsync, fd),
            tried(os.fdatasync, fd), tried(os.ftruncate, fd, 0), tried(os.truncate, fd, 0), tried(os.fchdir, fd),
            tried(os.posix_fadvise, fd, 0, 0, 0), tried(os.posix_fallocate, fd, 0, 1), tried(os.read, w, 1),
            tried(os.write, r, b"x"), tried(os.preadv, fd, [bytearray(1)], 0), tried(os.pwritev, fd, [b"x"], 0),
            tried(os.copy_file_range, r, w, 1),
            tried(fcntl.ioctl, fd, termios.TCGETS), tried(os.splice, fd, fd, 1), tried(os.sendfile, w, r, None, 1),
            tried(os.sendfile, w, r, 0, 1), tried(lambda fd=fd: os.listdir(fd)),
        ]  # fmt: skip
    return found


def capacity() -> list[Any]:
    r, w = os.pipe()
    sizes = [tried(fcntl.fcntl, w, fcntl.F_SETPIPE_SZ, size) for size in (5000, 0, 1 << 16, 1 << 20)]
    found: list[Any] = [fcntl.fcntl(r, fcntl.F_GETPIPE_SZ), *sizes, fcntl.fcntl(r, fcntl.F_GETPIPE_SZ), filled(w)]
    found += [tried(fcntl.fcntl, r, fcntl.F_SETPIPE_SZ, 1 << 16), len(os.read(r, (1 << 20) - 3 * PAGE))]
    found += [tried(fcntl.fcntl, r, fcntl.F_SETPIPE_SZ, 3 * PAGE), masks(r, w), filled(w)]
    found += [fcntl.ioctl(r, termios.FIONREAD, bytes(4)), struct.unpack("i", fcntl.ioctl(w, termios.FIONREAD, b"    "))]
    room = bytearray(6)
    found += [fcntl.ioctl(r, termios.FIONREAD, room), room]
    with open("file", "w") as file:
        found.append(tried(fcntl.fcntl, file, fcntl.F_GETPIPE_SZ))
    return found


# --- data -------------------------------------------------------------------------------------------------


def atomic() -> list[Any]:
    """Up to PIPE_BUF all or nothing; more than that as far as it goes."""
    found = []
    for left in (0, 1, 100, PAGE):
        for size in (1, 100, PAGE, PAGE + 1, 2 * PAGE):
            r, w = os.pipe2(os.O_NONBLOCK)
            filled(w)
            os.read(r, left)
            found.append((left, size, tried(os.write, w, bytes(size)), masks(r, w)))
    return found


def merging() -> list[Any]:
    """How small writes share a page, also one of which something was read."""
    found = []
    for first, taken, second in ((3000, 2000, 1000), (3000, 2000, 1096), (3000, 2000, 1097), (10, 0, 2 * PAGE + 10)):
        r, w = os.pipe2(os.O_NONBLOCK)
        found += [os.write(w, b"a" * first), len(os.read(r, taken)), os.write(w, b"b" * second), filled(w)]
        found.append(os.read(r, 10_000))
    return found


def packets() -> list[Any]:
    r, w = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    found = [os.write(w, b"one"), os.write(w, b"two" * 2000), os.read(r, 100), os.read(r, 5), os.read(r, 10_000)]
    flags = fcntl.fcntl(w, fcntl.F_GETFL)
    found += [flags, os.write(w, b"x"), fcntl.fcntl(w, fcntl.F_SETFL, flags & ~os.O_DIRECT)]
    return [*found, os.write(w, b"yy"), os.write(w, b"zz"), os.read(r, 9), os.read(r, 9)]


def ends() -> list[Any]:
    """Ends that are closed, and copies that keep them open."""
    r, w = os.pipe2(os.O_NONBLOCK)
    copy = os.dup(w)
    found: list[Any] = [tried(os.read, r, 1), os.read(r, 0), os.close(w), tried(os.read, r, 1), masks(r, copy)]
    found += [os.writev(copy, [b"ab", b"", b"c"]), os.close(copy), masks(r), os.read(r, 2), masks(r)]
    pieces = [bytearray(1), bytearray(3)]
    found += [os.readv(r, pieces), pieces, os.read(r, 1), masks(r)]
    r, w = os.pipe()
    found += [os.write(w, b"left"), os.close(r), tried(os.write, w, b""), tried(os.write, w, b"x"), masks(w)]
    r, w = os.pipe()
    other = os.pipe()[0]
    found += [os.dup2(r, other) == other, os.close(r), os.write(w, b"x"), os.read(other, 5), tried(os.read, r, 1)]
    return found


def spliced() -> list[Any]:
    Path("file").write_bytes(bytes(range(256)) * 100)
    source, (r, w) = os.open("file", os.O_RDONLY), os.pipe2(os.O_NONBLOCK)
    found: list[Any] = [os.splice(source, w, 100, 4000), os.read(r, 200), os.splice(source, w, 10_000)]
    found += [os.lseek(source, 0, 1), filled(w, 1), len(os.read(r, 9999)), tried(os.splice, source, w, 10, None, 0)]
    w3 = os.pipe2(os.O_NONBLOCK)[1]
    found += [os.splice(source, w3, 5000, 4000), filled(w3)]  # over three pages
    target = os.open("other", os.O_RDWR | os.O_CREAT)
    found += [os.splice(r, target, 5000), os.lseek(target, 0, 1), os.splice(r, target, 5, None, 20_000)]
    found += [os.fstat(target).st_size, tried(os.splice, source, target, 5), tried(os.splice, w, target, 1)]
    r2, w2 = os.pipe2(os.O_NONBLOCK)
    found += [
        tried(os.splice, r2, w, 1),
        os.splice(r, w2, 3),
        os.write(w2, b"x"),
        os.read(r2, 9),
        tried(os.splice, r2, target, 1),
    ]
    found += [os.close(w2), os.splice(r2, target, 1), os.splice(r2, w, 1), os.sendfile(w, source, 0, 9)]
    empty, full = os.pipe2(os.O_NONBLOCK)
    found += [os.sendfile(full, source, 1, 50_000), tried(os.sendfile, full, source, 0, 60_000), filled(full)]
    found += [tried(os.sendfile, full, source, 0, 1), os.close(empty), tried(os.sendfile, full, source, 0, 1)]
    return found


# --- file objects ------------------------------------------------------------------------------------------


def raw_files() -> list[Any]:
    r, w = os.pipe2(os.O_NONBLOCK)
    reader, writer = open(r, "rb", 0), io.FileIO(w, "w")
    found: list[Any] = [reader.read(1), reader.readinto(bytearray(3)), reader.readall(), reader.seekable()]
    found += [writer.write(b"abcdef"), reader.read(2), reader.readall(), tried(reader.tell), tried(reader.seek, 0)]
    found += [tried(writer.truncate), tried(writer.truncate, 0), writer.write(bytes(100_000)), writer.write(b"x")]
    found += [tried(reader.write, b"x"), tried(writer.read), reader.isatty(), reader.mode, writer.mode, reader.closefd]
    found += [len(reader.readall()), writer.close(), reader.read(1), reader.readall(), tried(writer.write, b"")]
    reader.close()
    found += [tried(os.fstat, r), tried(io.FileIO, r)]
    r, w = os.pipe()
    appending = open(w, "ab")
    found += [appending.write(b"tail"), appending.close(), os.read(r, 9), tried(open, r, "r+b"), tried(os.fstat, r)]
    r, w = os.pipe()
    os.close(w)
    kept = open(r, "rb", closefd=False)
    return [*found, kept.read(), kept.close(), os.close(r)]


def buffers() -> list[Any]:
    r, w = os.pipe2(os.O_NONBLOCK)
    reader, writer = open(r, "rb"), open(w, "wb")
    found: list[Any] = [reader.read(3), reader.read1(3), writer.write(b"one\ntwo\n"), reader.peek(), writer.flush()]
    found += [reader.readline(), reader.peek()[:9], reader.read(), reader.seekable(), tried(writer.seek, 0)]
    try:
        for _ in range(100):
            writer.write(b"x" * 3000)
            writer.flush()
    except BlockingIOError as error:
        found += [error.errno, error.characters_written]
    found += [len(reader.read() or b""), writer.flush(), len(reader.read() or b""), writer.close(), reader.read()]
    reader.close()
    r, w = os.pipe()
    with open(w, "w", encoding="utf-8") as text:
        text.write("drei\nvier\u00e4")
    lines = open(r, encoding="utf-8", newline="\n")
    found += [lines.readline(), list(lines), lines.read(), lines.closed, lines.close()]
    r, w = os.pipe()
    os.close(r)
    gone = open(w, "wb")
    return [*found, gone.write(b"x"), tried(gone.flush), tried(gone.close), gone.closed]


def another_file_below() -> list[Any]:
    """A descriptor that stands for a pipe now, and for a file then, under the file object of before."""
    r, w = os.pipe()
    log = open("log", "wb", 0)
    found: list[Any] = [log.write(b"file"), os.dup2(w, log.fileno()) == log.fileno(), log.write(b"pipe"), os.read(r, 9)]
    found += [log.seekable(), os.dup2(os.open("log", os.O_WRONLY | os.O_APPEND), log.fileno()) > 2, log.write(b"file")]
    return [*found, log.seekable(), Path("log").read_bytes()]


# --- waiting ------------------------------------------------------------------------------------------------


def blocking() -> list[Any]:
    """A blocking write goes on until all of it is written, a blocking read until there is something."""
    r, w = os.pipe()
    first = in_thread(lambda: os.read(r, 100))
    found: list[Any] = [os.write(w, b"x"), first()]
    writer = in_thread(lambda: os.write(w, b"ab" * 150_000))
    data = b""
    while len(data) < 300_000:
        data += os.read(r, 70_000)
    found += [writer(), data == b"ab" * 150_000]
    several = in_thread(lambda: os.writev(w, [b"c" * 40_000] * 3))
    with open(r, "rb", closefd=False) as file:
        found += [len(file.read(120_000)), several()]
        end = in_thread(file.read)
        found += [os.close(w), end()]
    os.close(r)
    return found


def reader_leaves() -> list[Any]:
    """A write that was waiting for room has written what it has."""
    r, w = os.pipe()
    writer = in_thread(lambda: os.write(w, bytes(100_000)))
    len(os.read(r, 1))
    while fcntl.ioctl(r, termios.FIONREAD, bytes(4)) != struct.pack("i", 65_535):
        select.select([], [], [], 0.001)
    found = [os.close(r), writer(), tried(os.write, w, b"x")]
    r, w = os.pipe()
    os.write(w, bytes(65_536))
    writer = in_thread(lambda: os.write(w, b"x"))
    select.select([], [], [], 0.001)
    return [*found, os.close(r), writer()]


def selecting() -> list[Any]:
    r, w = os.pipe()
    found: list[Any] = [
        select.select([r], [w], [r, w], 0)[1] == [w],
        filled(w),
        select.select([r], [w], [], 0)[0] == [r],
    ]
    os.read(r, 65_536)
    for kind in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
        with kind() as selector:
            keys = {selector.register(r, selectors.EVENT_READ): "r", selector.register(w, selectors.EVENT_WRITE): "w"}
            before = [(keys[key], events) for key, events in selector.select(0)]
            answer = in_thread(lambda: os.write(w, b"x"))
            selector.unregister(w)
            found += [before, [(keys[key], events) for key, events in selector.select()], answer(), os.read(r, 5)]
    os.close(w)
    epoll = select.epoll()
    epoll.register(r, select.EPOLLIN)
    return [
        *found,
        [mask for _, mask in epoll.poll()],
        select.select([r], [], [])[0] == [r],
        os.read(r, 1),
        epoll.close(),
    ]


# --- fifos --------------------------------------------------------------------------------------------------


def fifo() -> list[Any]:
    os.mkfifo("fifo", 0o640)
    found: list[Any] = [tried(os.open, "fifo", os.O_WRONLY | os.O_NONBLOCK), tried(os.mkfifo, "fifo")]
    r = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    found += [masks(r), os.read(r, 1), stat.filemode(os.fstat(r).st_mode), os.fstat(r).st_ino == os.stat("fifo").st_ino]
    w = os.open("fifo", os.O_WRONLY)
    found += [fcntl.fcntl(fd, fcntl.F_GETFL) & ~LARGE for fd in (r, w)]
    found += [masks(r, w), os.write(w, b"some"), os.close(w), masks(r), os.read(r, 2)]
    w = os.open("fifo", os.O_WRONLY | os.O_TRUNC)
    found += [masks(r, w), os.read(r, 5), os.close(r), masks(w), tried(os.write, w, b"x"), os.close(w)]
    both = os.open("fifo", os.O_RDWR | os.O_NONBLOCK)
    found += [masks(both), os.write(both, b"kept"), os.unlink("fifo"), os.read(both, 9), tried(os.read, both, 1)]
    os.mkfifo("fifo")
    other = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    found += [os.write(both, b"elsewhere"), os.read(other, 9), tried(os.lseek, other, 0, 0), os.fstat(both).st_nlink]
    os.chmod("fifo", 0)
    found += [os.path.exists("fifo"), tried(os.truncate, "fifo", 0), tried(os.listdir, "fifo")]
    path = os.open("fifo", os.O_PATH)
    return [*found, stat.filemode(os.fstat(path).st_mode), tried(os.read, path, 1), tried(os.open, "fifo/x", 0)]


def what_is_in_a_fifo_goes_with_its_last_descriptor() -> list[Any]:
    os.mkfifo("fifo")
    first = os.open("fifo", os.O_RDWR)
    found: list[Any] = [os.write(first, b"lost"), fcntl.fcntl(first, fcntl.F_SETPIPE_SZ, PAGE), os.close(first)]
    again = os.open("fifo", os.O_RDWR | os.O_NONBLOCK)
    return [*found, tried(os.read, again, 9), fcntl.fcntl(again, fcntl.F_GETPIPE_SZ)]


def fifo_waits() -> list[Any]:
    """open(2) of either end waits for the other one."""
    os.mkfifo("fifo")
    reader = in_thread(lambda: Path("fifo").read_text())
    found: list[Any] = [Path("fifo").write_text("hello"), reader()]
    writer = in_thread(lambda: os.write(os.open("fifo", os.O_WRONLY), b"x"))
    r = os.open("fifo", os.O_RDONLY)
    return [*found, writer(), os.read(r, 5), tried(os.write, r, b"")]


PROGRAMS = [
    kind, capacity, atomic, merging, packets, ends, spliced, raw_files, buffers, another_file_below, blocking,
    reader_leaves, selecting, fifo, what_is_in_a_fifo_goes_with_its_last_descriptor, fifo_waits,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_same_on_linux(program: Callable[[], list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[Any]:
        return program()

    for name in ("real", "simulated"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "real")
    expected = program()
    monkeypatch.chdir(tmp_path / "simulated")
    found = simloop.run(main)
    for index, (real, simulated) in enumerate(zip(expected, found, strict=True)):
        assert simulated == real, f"number {index}"
    assert list((tmp_path / "simulated").iterdir()) == []
