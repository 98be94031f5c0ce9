"""The handle on a host's files, and the faults of their disk."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import simloop
from simloop.choices.choices import Choices
from simloop.simulation.limits import Limits
from simloop.simulation.run import execute

Main = Callable[[], Coroutine[Any, Any, Any]]


def run(body: Callable[[simloop.SimFiles], Any]) -> Any:
    async def test() -> Any:
        return body(simloop.current().fs)

    return simloop.run(test)


# --- files ----------------------------------------------------------------------------------------------


def test_a_tree_that_is_written_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("there before")

    def body(fs: simloop.SimFiles) -> dict[str, bytes]:
        fs.write_tree({"a": "text\u00e4", "b/c": b"\0\xff", "d": {"e": {"f": "deep"}, "empty": {}}}, tmp_path)
        assert fs.read_text(tmp_path / "a") == (tmp_path / "a").read_text("utf-8") == "text\u00e4"
        assert fs.read_bytes(str(tmp_path / "b/c")) == b"\0\xff"
        os.symlink("a", tmp_path / "link")
        os.symlink("gone", tmp_path / "dangling")
        assert sorted(fs.tree()) == [str(tmp_path / name) for name in ("a", "b/c", "d/e/f")]
        return fs.tree(tmp_path)

    assert run(body) == {
        "a": "text\u00e4".encode(), "b/c": b"\0\xff", "d/e/f": b"deep", "d/empty/": b"", "link": "text\u00e4".encode(),
        "real": b"there before",
    }  # fmt: skip
    assert os.listdir(tmp_path) == ["real"]


def test_relative_paths_begin_where_the_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def body(fs: simloop.SimFiles) -> tuple[str, list[str]]:
        fs.write_tree({"x": "1"})
        with open("x") as file:
            return file.read(), list(fs.tree())

    assert run(body) == ("1", [str(tmp_path / "x")])


def test_what_is_not_there_is_an_error_that_names_it() -> None:
    def body(fs: simloop.SimFiles) -> None:
        with pytest.raises(FileNotFoundError, match="/nothing"):
            fs.read_text("/nothing")

    run(body)


def test_the_handle_takes_no_time_meets_no_fault_and_asks_nobody() -> None:
    async def test() -> None:
        sim = simloop.current()
        fs = sim.host("db").fs
        began = sim.elapsed
        fs.fault("*", errno.EIO, times=None)
        fs.capacity = 0
        sim.host("db").may_crash()
        fs.write_tree({"/d/a": "x" * 100_000})
        assert fs.read_text("/d/a") == "x" * 100_000
        assert sim.elapsed == began

    outcome = execute(test, Choices(0), Limits())
    assert outcome.exception is None
    assert not outcome.choices.recorded


def test_what_it_wrote_is_on_disk() -> None:
    async def test() -> dict[str, bytes]:
        host = simloop.current().host("db")
        host.fs.write_tree({"/d/a": "1"})
        host.crash()
        return host.fs.tree("/d")

    worst = execute(test, Choices(0, lambda who, kind, number, n: n - 1), Limits())
    assert worst.value == {"a": b"1"}
    assert not worst.choices.recorded


# --- the disk -------------------------------------------------------------------------------------------


def test_a_full_disk() -> None:
    def body(fs: simloop.SimFiles) -> None:
        fs.capacity = 8192
        with open("/a", "wb", buffering=0) as file:
            assert file.write(b"x" * 10_000) == 8192
            with pytest.raises(OSError, match="No space left") as caught:
                file.write(b"x")
            assert not simloop.is_injected(caught.value)
            fs.capacity = None
            assert file.write(b"x") == 1

    run(body)


def test_a_slow_disk_stops_the_loop_unless_a_thread_waits_for_it() -> None:
    slow = simloop.DiskTiming(flush_latency_ns=10**9)

    async def test() -> tuple[int, int]:
        sim = simloop.current()
        sim.fs.timing = slow
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.1)
                ticks += 1

        def write() -> None:
            with open("/a", "w") as file:
                file.write("x")
                file.flush()
                os.fsync(file.fileno())

        ticking = asyncio.create_task(tick())
        await asyncio.to_thread(write)
        in_thread, ticks = ticks, 0
        write()
        await asyncio.sleep(0)
        ticking.cancel()
        return in_thread, ticks

    in_thread, blocked = simloop.run(test, blocking="ignore")
    assert in_thread >= 9
    assert blocked <= 1


@pytest.mark.parametrize("value", [-1, 1.5, True, "1"])
def test_a_capacity_that_means_nothing(value: Any) -> None:
    def body(fs: simloop.SimFiles) -> None:
        with pytest.raises(simloop.ConfigurationError, match="capacity must be"):
            fs.capacity = value

    run(body)


# --- faults ---------------------------------------------------------------------------------------------


def test_a_fault_strikes_by_name_number_and_path() -> None:
    def body(fs: simloop.SimFiles) -> list[tuple[str, str, bool]]:
        seen = []
        fault = fs.fault("write", errno.EIO, path="*.log", after=1, times=2)
        for name in ("/a.log", "/a.txt", "/b.log", "/c.log", "/d.log"):
            fd = os.open(name, os.O_CREAT | os.O_WRONLY)
            try:
                os.write(fd, b"x")
            except OSError as error:
                seen.append((name, errno.errorcode[error.errno], simloop.is_injected(error)))
            os.close(fd)
        assert fault.struck == 2
        return seen

    assert run(body) == [("/b.log", "EIO", True), ("/c.log", "EIO", True)]


def test_a_fault_lasts_as_long_as_its_block() -> None:
    def body(fs: simloop.SimFiles) -> None:
        with fs.fault("open", errno.EMFILE, times=None) as fault:
            for _ in range(2):
                with pytest.raises(OSError, match="Too many open files"):
                    os.open("/a", os.O_CREAT)
        os.close(os.open("/a", os.O_CREAT))
        assert fault.struck == 2

    run(body)


def test_a_relative_pattern_is_one_of_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def body(fs: simloop.SimFiles) -> None:
        fs.write_tree({"d/a": "1", "e/a": "2"})
        fs.fault("open", errno.EACCES, path="d/*")
        assert Path("e/a").read_text() == "2"
        with pytest.raises(PermissionError):
            Path("d/a").read_text()

    run(body)


def test_a_short_write_and_a_slow_one() -> None:
    async def test() -> tuple[int, float]:
        sim = simloop.current()
        sim.fs.fault("write", short=3)
        fd = os.open("/a", os.O_CREAT | os.O_WRONLY)
        written = os.write(fd, b"0123456789")
        sim.fs.fault("write", delay=2.5)
        began = sim.elapsed
        assert os.write(fd, b"0123456789") == 10
        return written, sim.elapsed - began

    written, took = simloop.run(test, blocking="ignore")
    assert written == 3
    assert 2.5 < took < 2.6


def test_a_bit_goes_bad_for_good_and_nobody_is_told() -> None:
    def body(fs: simloop.SimFiles) -> tuple[bytes, bytes]:
        fs.write_tree({"/a": b"hello"})
        fs.fault("read", corrupt=True)
        return Path("/a").read_bytes(), Path("/a").read_bytes()

    assert run(body) == (b"iello", b"iello")


def test_a_read_that_fails_leaves_the_next_one_whole() -> None:
    def body(fs: simloop.SimFiles) -> bytes:
        fs.write_tree({"/a": b"hello"})
        fs.fault("read", corrupt=True)
        fs.fault("read", errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            Path("/a").read_bytes()
        return Path("/a").read_bytes()

    assert run(body) == b"hello"


def test_a_failed_fsync_has_lost_what_it_was_to_keep() -> None:
    async def test() -> bytes | None:
        host = simloop.current().host("db")
        host.fs.write_tree({"/a": "old"})

        async def write() -> None:
            fd = os.open("/a", os.O_WRONLY)
            os.write(fd, b"new")
            with pytest.raises(OSError, match="Input/output"):
                os.fsync(fd)
            os.fsync(fd)  # tells of success, and keeps nothing

        host.fs.fault("fsync", errno.EIO)
        await host.run(write)
        host.crash()
        return host.fs.read_bytes("/a")

    assert simloop.run(test) == b"old"


async def copies() -> None:
    """Takes for granted that a write is whole and that files can be opened."""
    fs = simloop.current().fs
    fs.may_fault(path="/copy")
    fd = os.open("/copy", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"0123456789")
    assert fs.read_bytes("/copy") == b"0123456789"


def test_where_and_how_a_disk_fails_can_be_left_to_the_environment() -> None:
    assert execute(copies, Choices(0), Limits()).exception is None
    failure = simloop.explore(copies).failure
    assert failure is not None
    assert [point.kind for point in failure.schedule.deviations] == ["disk.fault"]
    (sentence,) = failure.story
    assert sentence.startswith("open of /copy (")
    assert isinstance(failure.exception, OSError)
    assert failure.exception.errno is not None
    assert sentence.endswith(f"failed with {errno.errorcode[failure.exception.errno]}, which was injected")
    with pytest.raises(OSError, match=failure.exception.strerror):
        simloop.replay(copies, failure.token)


def test_every_usual_fault_is_tried() -> None:
    seen = set()

    async def test() -> None:
        try:
            await copies()
        except AssertionError:
            seen.add("short")
        except OSError as error:
            seen.add(errno.errorcode[error.errno])

    simloop.explore(test)
    assert seen == {"EMFILE", "EACCES", "EIO", "ENOSPC", "short"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operation": "fly", "error": errno.EIO}, "no operation 'fly'"),
        ({"operation": "write"}, "needs one of error, short, delay and corrupt"),
        ({"operation": "write", "error": 99_999}, "error must be an errno"),
        ({"operation": "write", "error": "EIO"}, "error must be an errno"),
        ({"operation": "open", "short": 1}, "only read and write can fall short"),
        ({"operation": "write", "corrupt": True}, "only what is read can be corrupt"),
        ({"operation": "*", "corrupt": True}, "only what is read can be corrupt"),
        ({"operation": "*", "short": 1}, "only read and write can fall short"),
        ({"operation": "write", "delay": -1}, "delay must be"),
        ({"operation": "write", "error": errno.EIO, "times": 0}, "times must be"),
        ({"operation": "write", "error": errno.EIO, "after": -1}, "after must be"),
    ],
)
def test_a_fault_that_means_nothing_is_refused(arguments: dict[str, Any], message: str) -> None:
    def body(fs: simloop.SimFiles) -> None:
        with pytest.raises(simloop.ConfigurationError, match=message):
            fs.fault(**arguments)

    run(body)


def test_a_profile_that_is_none_is_refused() -> None:
    def body(fs: simloop.SimFiles) -> None:
        assert fs.profile == "ext4-ordered"
        fs.profile = "posix"
        with pytest.raises(simloop.ConfigurationError, match="unknown profile 'fat'"):
            fs.profile = "fat"

    run(body)
