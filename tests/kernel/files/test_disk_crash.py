"""What a power cut may leave, rule by rule, for both profiles of the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import pairwise

import pytest

from simloop.choices.choices import KINDS, Answer, Choices
from simloop.errors import ConfigurationError
from simloop.kernel.clock import SECOND, Clock
from simloop.kernel.descriptors import DescriptorTable
from simloop.kernel.files.calls import FileCalls
from simloop.kernel.files.contents import PAGE
from simloop.kernel.files.crash import PAGE_ANSWERS, PAGES_MAX, SECTOR, lose_power, torn
from simloop.kernel.files.description import Description
from simloop.kernel.files.disk import COMMIT_NS, WRITEBACK_NS, Disk
from simloop.kernel.files.faults import Effect, Fault
from simloop.kernel.files.filesystem import FileSystem
from simloop.kernel.wall import WallClock
from simloop.report.losses import tell

EXT4, POSIX = "ext4-ordered", "posix"
KEPT, DROPPED = 0, 1
OLD, NEW = b"o", b"n"


class Machine:
    """A host with a disk, and the answers that its power cut gets, by who asks."""

    def __init__(self, profile: str = EXT4) -> None:
        self.clock = Clock()
        self.fs = FileSystem(WallClock(self.clock), name="db", disk=Disk(profile))
        self.asked: dict[str, int] = {}
        self.boot()

    def boot(self) -> None:
        self.calls = FileCalls(self.fs, DescriptorTable())

    def open(self, path: str, flags: int = os.O_RDWR | os.O_CREAT) -> Description:
        file = self.calls.open(path, flags)
        assert isinstance(file, Description)
        return file

    def write(self, path: str, data: bytes, at: int = 0, *, sync: bool = False) -> Description:
        file = self.open(path)
        assert file.pwrite(memoryview(data), at) == len(data)
        if sync:
            file.sync()
        return file

    def durable(self, path: str, data: bytes) -> Description:
        """A file that is on disk, with its name."""
        file = self.write(path, data, sync=True)
        self.open("/", os.O_RDONLY).sync()
        return file

    def read(self, path: str) -> bytes | None:
        try:
            return self.open(path, os.O_RDONLY).pread(1 << 24, 0)
        except FileNotFoundError:
            return None

    def crash(self, **answers: int) -> dict[str, int]:
        """Cut the power. `answers` are by point, ``disk.journal`` written ``journal``; other points get 0. Returns how
        many answers each point offered."""
        return self.crash_with({"db" if who == "journal" else f"db:/{who}": answer for who, answer in answers.items()})

    def crash_with(self, answers: dict[str, int]) -> dict[str, int]:
        self.asked = {}

        def decide(who: str, kind: str, number: int, n: int) -> int:
            assert kind in ("disk.crash", "disk.journal")
            assert who not in self.asked, f"{who} was asked twice"
            self.asked[who] = n
            return answers.get(who, 0)

        lose_power(self.fs, Choices(0, decide))
        missing = set(answers) - set(self.asked)
        assert not missing, f"{missing} was not asked, but {self.asked}"
        self.boot()
        return self.asked


@pytest.fixture(params=[EXT4, POSIX])
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param)


@pytest.fixture
def ext4() -> Machine:
    return Machine(EXT4)


@pytest.fixture
def posix() -> Machine:
    return Machine(POSIX)


def pages(*fills: bytes) -> bytes:
    return b"".join(fill * PAGE for fill in fills)


# --- both profiles ------------------------------------------------------------------------------------------


def test_kinds_are_known_to_tokens() -> None:
    assert {"disk.crash", "disk.journal"} <= set(KINDS)


def test_zero_loses_nothing(machine: Machine) -> None:
    machine.write("/a", pages(NEW, OLD) + b"tail")
    machine.calls.mkdir("/d")
    machine.calls.rename("/a", "/d/b")
    machine.crash()
    assert machine.read("/d/b") == pages(NEW, OLD) + b"tail"
    assert machine.calls.listdir("/") == ["d"]


def test_what_was_synced_with_its_directory_is_asked_about_by_nobody(machine: Machine) -> None:
    machine.durable("/a", pages(NEW, NEW))
    assert machine.crash() == {}
    assert machine.read("/a") == pages(NEW, NEW)


def test_after_a_crash_everything_is_durable(machine: Machine) -> None:
    machine.write("/a", b"x" * 10_000)
    machine.calls.mkdir("/d")
    machine.crash()
    assert machine.crash() == {}
    assert machine.read("/a") == b"x" * 10_000


def test_a_page_that_was_overwritten_is_kept_dropped_or_torn(machine: Machine) -> None:
    for answer in range(PAGE_ANSWERS):
        machine.durable("/a", pages(OLD, OLD, OLD))
        machine.write("/a", pages(NEW), PAGE)
        assert machine.crash_with({"db:/a:1": answer}) == {"db:/a:1": PAGE_ANSWERS}
        expected = {KEPT: pages(NEW), DROPPED: pages(OLD)}.get(answer) or torn(pages(OLD), pages(NEW), answer)
        assert machine.read("/a") == pages(OLD) + expected + pages(OLD)


def test_pages_are_torn_at_sectors_from_either_side() -> None:
    seen = {torn(pages(OLD), pages(NEW), answer) for answer in range(2, PAGE_ANSWERS)}
    assert len(seen) == PAGE_ANSWERS - 2
    for page in seen:
        assert page not in (pages(OLD), pages(NEW))
        sectors = [page[at : at + SECTOR] for at in range(0, PAGE, SECTOR)]
        assert all(len(set(sector)) == 1 for sector in sectors)
        assert sum(a != b for a, b in pairwise(sectors)) == 1


def test_each_page_goes_its_own_way(machine: Machine) -> None:
    machine.durable("/a", pages(OLD, OLD, OLD, OLD))
    machine.write("/a", pages(NEW, NEW, NEW))
    asked = machine.crash_with({"db:/a:0": DROPPED, "db:/a:2": DROPPED})
    assert list(asked) == ["db:/a:0", "db:/a:1", "db:/a:2"]
    assert machine.read("/a") == pages(OLD, NEW, OLD, OLD)


def test_what_is_dropped_is_what_was_last_synced(machine: Machine) -> None:
    file = machine.durable("/a", b"one")
    file.pwrite(memoryview(b"two"), 0)
    file.pwrite(memoryview(b"six"), 0)
    file.sync()
    file.pwrite(memoryview(b"ten"), 0)
    machine.crash_with({"db:/a:0": DROPPED})
    assert machine.read("/a") == b"six"


def test_a_name_that_was_never_synced_may_vanish(machine: Machine) -> None:
    machine.write("/a", b"data")
    machine.crash_with({"db" if machine.fs.disk.journals else "db:/a": 1})
    assert machine.calls.listdir("/") == []


def test_a_removed_file_may_come_back_as_it_was_on_disk(machine: Machine) -> None:
    machine.durable("/a", b"data").pwrite(memoryview(b"DATA"), 0)
    machine.calls.unlink("/a")
    machine.crash_with({"db" if machine.fs.disk.journals else "db:/a": 1, "db:/a:0": DROPPED})
    assert machine.read("/a") == b"data"
    assert machine.calls.stat("/a").nlink == 1


def test_a_removed_directory_may_come_back_with_what_was_in_it(machine: Machine) -> None:
    machine.calls.mkdir("/d")
    machine.durable("/d/a", b"data")
    machine.calls.open("/d", os.O_RDONLY).sync()
    machine.calls.unlink("/d/a")
    machine.calls.rmdir("/d")
    machine.crash_with({"db": 2} if machine.fs.disk.journals else {"db:/d/a": 1, "db:/d": 1})
    assert machine.read("/d/a") == b"data"
    machine.write("/d/b", b"")  # it is no dead directory


def test_a_change_of_mode_may_be_lost(machine: Machine) -> None:
    machine.durable("/a", b"")
    assert machine.calls.stat("/a").mode & 0o777 == 0o755
    machine.calls.chmod("/a", 0o600)
    machine.crash_with({"db" if machine.fs.disk.journals else "db:/a:mode": 1})
    assert machine.calls.stat("/a").mode & 0o777 == 0o755


def test_a_cut_may_be_lost_and_brings_everything_back(machine: Machine) -> None:
    machine.durable("/a", pages(OLD, OLD, OLD) + b"tail")
    file = machine.open("/a", os.O_RDWR | os.O_TRUNC)
    file.write(memoryview(pages(NEW)))
    machine.crash_with({"db" if machine.fs.disk.journals else "db:/a:cut": 1})
    assert machine.read("/a") == pages(OLD, OLD, OLD) + b"tail"


def test_a_cut_in_the_middle_of_a_page_keeps_what_is_before_it(machine: Machine) -> None:
    machine.durable("/a", pages(OLD, OLD))
    machine.open("/a").truncate(PAGE + 7)
    machine.crash()
    assert machine.read("/a") == pages(OLD) + OLD * 7


def test_a_second_cut_does_not_bring_back_what_the_first_took(machine: Machine) -> None:
    machine.durable("/a", pages(OLD, OLD, OLD))
    machine.open("/a").truncate(2 * PAGE)
    machine.open("/a").sync()
    machine.open("/a").truncate(0)
    machine.crash_with({"db" if machine.fs.disk.journals else "db:/a:cut": 1})
    assert machine.read("/a") == pages(OLD, OLD)


def test_growing_by_a_hole_may_be_lost(machine: Machine) -> None:
    machine.durable("/a", b"data")
    machine.open("/a").truncate(9000)
    machine.crash_with({"db" if machine.fs.disk.journals else "db:/a:cut": 1})
    assert machine.read("/a") == b"data"


def test_sync_of_everything(machine: Machine) -> None:
    machine.write("/a", b"data")
    machine.calls.rename("/a", "/b")
    machine.fs.sync_all()
    assert machine.crash() == {}
    assert machine.read("/b") == b"data"


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_synchronous_writes_are_durable(machine: Machine, flag: int) -> None:
    machine.durable("/a", b"old")
    machine.open("/a", os.O_RDWR | flag).write(memoryview(b"new"))
    assert machine.crash() == {}
    assert machine.read("/a") == b"new"


def test_many_pages_share_answers(machine: Machine) -> None:
    count = 2 * PAGES_MAX
    machine.durable("/a", bytes(count * PAGE))
    machine.write("/a", NEW * (count * PAGE))
    assert len(machine.crash_with({"db:/a:4": DROPPED})) == PAGES_MAX
    data = machine.read("/a")
    assert data is not None
    assert data[: 7 * PAGE] == pages(NEW, NEW, NEW, NEW, b"\0", b"\0", NEW)


# --- a failed fsync -------------------------------------------------------------------------------------------


def failing_fsync(machine: Machine) -> Description:
    file = machine.durable("/a", b"old")
    machine.fs.disk.faults.append(Fault("/a", "fsync", (Effect(errno.EIO),)))
    file.pwrite(memoryview(b"new"), 0)
    with pytest.raises(OSError, match="Input/output") as caught:
        file.sync()
    assert caught.value.errno == errno.EIO
    return file


def test_a_failed_fsync_loses_the_data_whatever_is_tried_next(machine: Machine) -> None:
    file = failing_fsync(machine)
    assert machine.read("/a") == b"new"  # from memory
    file.sync()  # and it says that all is well: nothing is dirty
    machine.crash()
    assert machine.read("/a") == b"old"


def test_writing_again_after_a_failed_fsync_helps(machine: Machine) -> None:
    file = failing_fsync(machine)
    file.pwrite(memoryview(b"new"), 0)
    file.sync()
    assert machine.crash() == {}
    assert machine.read("/a") == b"new"


def test_each_description_is_told_once(machine: Machine) -> None:
    machine.durable("/a", b"old")
    other = machine.open("/a")
    failing_fsync(machine)
    with pytest.raises(OSError, match="Input/output"):
        other.sync()
    other.sync()
    machine.open("/a").sync()  # opened after the failure: errseq_sample()


# --- ext4 with its defaults -----------------------------------------------------------------------------------


def test_ext4_operations_survive_in_their_order(ext4: Machine) -> None:
    for lost in range(4):
        for name in "abc":
            ext4.calls.mkdir(f"/{name}{lost}")
        assert ext4.crash(journal=lost)["db"] == 4
        assert (
            ext4.calls.listdir("/")[-3:]
            == sorted([f"{name}{at}" for at in range(lost + 1) for name in "abc"[: 3 - at]])[-3:]
        )
        assert [name for name in ext4.calls.listdir("/") if name.endswith(str(lost))] == [
            f"{name}{lost}" for name in "abc"[: 3 - lost]
        ]


def test_ext4_any_fsync_commits_all_operations(ext4: Machine) -> None:
    ext4.calls.mkdir("/d")
    ext4.write("/other", b"x", sync=True)
    assert ext4.crash() == {}
    assert ext4.calls.listdir("/") == ["d", "other"]


def test_ext4_a_rename_over_a_file_leaves_one_or_the_other_whole(ext4: Machine) -> None:
    for lost, expected in ((0, b"new" * 5000), (1, b"old")):
        ext4.durable("/a", b"old")
        ext4.open("/a", os.O_RDWR | os.O_TRUNC).write(memoryview(b"old"))
        ext4.fs.sync_all()
        ext4.durable("/new", b"")
        ext4.write("/new", b"new" * 5000)
        ext4.calls.rename("/new", "/a")
        if lost:
            # Nothing of the data need be there if the rename is not.
            assert ext4.crash_with({"db": 1, "db:/new:end": 4}) == {"db": 2, "db:/new:end": 5}
            assert ext4.read("/new") == b""
        else:
            assert ext4.crash(journal=0) == {"db": 2}  # auto_da_alloc: no question about its data
        assert ext4.read("/a") == expected


def test_ext4_a_rename_to_a_new_name_does_not_bring_its_data(ext4: Machine) -> None:
    ext4.write("/new", b"data")
    ext4.calls.rename("/new", "/a")
    ext4.crash_with({"db:/a:end": 1})
    assert ext4.read("/a") == b""


def test_ext4_a_file_ends_early_but_never_in_zeros(ext4: Machine) -> None:
    for lost in range(4):
        ext4.durable("/a", pages(OLD))
        ext4.open("/a").truncate(PAGE)
        ext4.fs.sync_all()
        ext4.write("/a", pages(NEW, NEW) + b"tail", PAGE)
        assert ext4.crash_with({"db:/a:end": lost}) == {"db:/a:end": 4}
        whole = pages(OLD, NEW, NEW) + b"tail"
        assert ext4.read("/a") == (whole[: (4 - lost) * PAGE] if lost else whole)


def test_ext4_growth_inside_of_the_last_page_goes_with_that_page(ext4: Machine) -> None:
    for answer, expected in ((KEPT, b"old and new"), (DROPPED, b"old"), (3, b"old")):
        ext4.durable("/a", b"old")
        ext4.open("/a").truncate(3)
        ext4.fs.sync_all()
        ext4.write("/a", b" and new", 3)
        assert ext4.crash_with({"db:/a:0": answer}) == {"db:/a:0": PAGE_ANSWERS}
        assert ext4.read("/a") == expected


def test_ext4_without_the_page_in_which_it_ended_a_file_does_not_grow(ext4: Machine) -> None:
    ext4.durable("/a", b"old")
    ext4.write("/a", NEW * (3 * PAGE), 3)
    assert ext4.crash_with({"db:/a:0": DROPPED}) == {"db:/a:0": PAGE_ANSWERS}
    assert ext4.read("/a") == b"old"


def test_ext4_with_that_page_it_grows_at_least_to_its_end(ext4: Machine) -> None:
    ext4.durable("/a", b"old")
    ext4.write("/a", NEW * (3 * PAGE), 3)
    ext4.crash_with({"db:/a:end": 3})
    assert ext4.read("/a") == b"old" + NEW * (PAGE - 3)


def test_ext4_a_page_that_the_disk_never_had_is_not_torn(ext4: Machine) -> None:
    ext4.durable("/a", b"")
    ext4.open("/a").truncate(2 * PAGE)
    ext4.fs.sync_all()
    ext4.write("/a", pages(NEW))
    # Within the size, over a hole.
    assert ext4.crash_with({"db:/a:0": DROPPED}) == {"db:/a:0": 2}
    assert ext4.read("/a") == pages(b"\0", b"\0")


def test_ext4_fdatasync_of_overwritten_data_commits_no_names(ext4: Machine) -> None:
    file = ext4.durable("/a", b"old")
    ext4.calls.mkdir("/d")
    file.pwrite(memoryview(b"new"), 0)
    file.sync(data_only=True)
    assert ext4.crash(journal=1) == {"db": 2}
    assert ext4.calls.listdir("/") == ["a"]
    assert ext4.read("/a") == b"new"


@pytest.mark.parametrize("data", [b"longer", b""])
def test_ext4_fdatasync_of_a_new_file_or_size_commits(ext4: Machine, data: bytes) -> None:
    ext4.write("/a", data).sync(data_only=True)
    assert ext4.crash() == {}
    assert ext4.read("/a") == data


def test_ext4_commits_after_a_while_and_writes_back_later(ext4: Machine) -> None:
    ext4.write("/a", b"data")
    ext4.clock.now += COMMIT_NS
    ext4.calls.mkdir("/d")
    assert ext4.crash_with({"db": 1, "db:/a:end": 1}) == {"db": 2, "db:/a:end": 2}
    assert ext4.calls.listdir("/") == ["a"]
    ext4.write("/a", b"data")
    ext4.clock.now += WRITEBACK_NS + SECOND
    assert ext4.crash() == {}
    assert ext4.read("/a") == b"data"


def test_ext4_writeback_leaves_what_was_written_after_it(ext4: Machine) -> None:
    ext4.durable("/a", pages(OLD, OLD))
    file = ext4.write("/a", pages(NEW))
    ext4.clock.now += WRITEBACK_NS + SECOND
    file.pwrite(memoryview(pages(NEW)), PAGE)
    assert list(ext4.crash_with({"db:/a:1": DROPPED})) == ["db:/a:1"]
    assert ext4.read("/a") == pages(NEW, OLD)


# --- whatever POSIX allows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "left"), [((), ["b"]), (("a",), ["a", "b"]), (("b",), []), (("a", "b"), ["a"])], ids=str
)
def test_posix_a_renamed_file_may_have_both_names_or_none(
    posix: Machine, lost: tuple[str, ...], left: list[str]
) -> None:
    posix.durable("/a", b"data")
    posix.calls.rename("/a", "/b")
    posix.crash(**dict.fromkeys(lost, 1))
    assert posix.calls.listdir("/") == left
    assert all(posix.read(f"/{name}") == b"data" and posix.calls.stat(f"/{name}").nlink == len(left) for name in left)


def test_posix_operations_survive_in_any_order(posix: Machine) -> None:
    for name in "abc":
        posix.calls.mkdir(f"/{name}")
    posix.crash(a=1)
    assert posix.calls.listdir("/") == ["b", "c"]


def test_posix_fsync_of_a_file_does_not_bring_its_name(posix: Machine) -> None:
    posix.write("/a", b"data", sync=True)
    posix.crash(a=1)
    assert posix.read("/a") is None


def test_posix_fsync_of_a_directory_does_not_bring_data(posix: Machine) -> None:
    posix.write("/a", b"data")
    posix.open("/", os.O_RDONLY).sync()
    posix.crash_with({"db:/a:size": 1})
    assert posix.read("/a") == b""


def test_posix_a_file_may_end_in_zeros(posix: Machine) -> None:
    posix.durable("/a", b"")
    posix.write("/a", pages(NEW, NEW))
    posix.crash_with({"db:/a:0": DROPPED})
    assert posix.read("/a") == pages(b"\0", NEW)


def test_posix_fsync_of_one_directory_leaves_the_other(posix: Machine) -> None:
    posix.calls.mkdir("/d")
    posix.durable("/a", b"data")
    posix.calls.rename("/a", "/d/a")
    posix.open("/", os.O_RDONLY).sync()
    posix.crash_with({"db:/d/a": 1})
    assert posix.calls.listdir("/") == ["d"]  # gone: this is why both must be synced
    assert posix.calls.listdir("/d") == []


def test_posix_a_directory_is_never_in_two_places(posix: Machine) -> None:
    posix.calls.mkdir("/d")
    posix.open("/", os.O_RDONLY).sync()
    posix.calls.rename("/d", "/e")
    posix.calls.mkdir("/d")
    asked = posix.crash(d=1)
    assert list(asked) == ["db:/d"]
    assert posix.calls.listdir("/") == ["d"]
    assert posix.calls.stat("/").nlink == 3


def test_posix_time_alone_makes_nothing_durable(posix: Machine) -> None:
    posix.write("/a", b"data")
    posix.clock.now += 3600 * SECOND
    assert set(posix.crash()) == {"db:/a", "db:/a:size", "db:/a:0"}


# --- in words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "answers", "told"),
    [
        (EXT4, {"db": 1}, "came before renaming /b to /c was on disk"),
        (EXT4, {"db": 3}, "came before making /d was on disk, nor the 2 after it"),
        (EXT4, {"db:/c:end": 2}, "took the last 2 pages of /c"),
        (EXT4, {"db:/a:0": 1}, "came before page 0 of /a was on disk"),
        (POSIX, {"db:/a:0": 2}, "tore page 0 of /a: only its first 1 sectors were on disk"),
        (POSIX, {"db:/a:0": PAGE_ANSWERS - 1}, "tore page 0 of /a: only its last 1 sectors were on disk"),
        (POSIX, {"db:/c": 1}, "came before the name /c was on disk"),
        (POSIX, {"db:/c:size": 1}, "came before the size of /c was on disk"),
    ],
)
def test_losses_are_told(profile: str, answers: dict[str, int], told: str) -> None:
    machine = Machine(profile)
    machine.durable("/a", pages(OLD))
    machine.write("/a", pages(NEW))
    machine.calls.mkdir("/d")
    machine.write("/b", pages(NEW, NEW))
    machine.calls.rename("/b", "/c")
    sentences: list[str] = []

    class Listener:
        def deviated(self, answer: Answer, subject: object) -> None:
            sentences.append(tell(answer.point.who, answer.point.kind, answer.value, subject))

    choices = Choices(0, lambda who, kind, number, n: answers.get(who, 0))
    choices.observer = Listener()
    lose_power(machine.fs, choices)
    assert sentences == [f"the power cut of db {told}"]


# --- the disk as such -------------------------------------------------------------------------------------------


def test_a_full_disk_writes_what_fits_and_then_nothing() -> None:
    machine = Machine()
    machine.fs.disk.capacity = 3 * PAGE
    file = machine.open("/a")
    assert file.write(memoryview(b"x" * (4 * PAGE))) == 3 * PAGE
    with pytest.raises(OSError, match="No space") as caught:
        file.write(memoryview(b"x"))
    assert caught.value.errno == errno.ENOSPC
    assert file.pwrite(memoryview(b"y"), 5) == 1  # in place
    with pytest.raises(OSError, match="No space"):
        machine.calls.mkdir("/d")
    machine.calls.unlink("/a")
    with pytest.raises(OSError, match="No space"):
        machine.write("/b", b"x")  # it is still open
    file.close()
    machine.write("/b", b"x")
    assert machine.calls.statvfs("/").bfree == 2


def test_a_fault_strikes_after_and_as_often_as_it_says() -> None:
    machine = Machine()
    fault = Fault("/a*", "write", (Effect(errno.EIO),), after=1, times=2)
    machine.fs.disk.faults.append(fault)
    file = machine.open("/ab")
    results = []
    for _ in range(4):
        try:
            results.append(file.write(memoryview(b"x")))
        except OSError as error:
            results.append(-(error.errno or 0))
    assert results == [1, -errno.EIO, -errno.EIO, 1]
    assert fault.struck == 2
    machine.write("/b", b"x")


CALLS: list[tuple[str, Callable[[Machine], object]]] = [
    ("open", lambda m: m.open("/a")),
    ("stat", lambda m: m.calls.stat("/a")),
    ("mkdir", lambda m: m.calls.mkdir("/a")),
    ("rename", lambda m: m.calls.rename("/b", "/a")),
    ("rename", lambda m: m.calls.rename("/a", "/b")),
    ("unlink", lambda m: m.calls.unlink("/a")),
    ("rmdir", lambda m: m.calls.rmdir("/a")),
    ("link", lambda m: m.calls.link("/b", "/a")),
    ("symlink", lambda m: m.calls.symlink("x", "/a")),
    ("truncate", lambda m: m.calls.truncate("/a", 0)),
    ("chmod", lambda m: m.calls.chmod("a", 0o600)),
    ("utime", lambda m: m.calls.utime("./d/../a")),
    ("listdir", lambda m: m.calls.listdir("/a")),
]


@pytest.mark.parametrize(("operation", "call"), CALLS)
def test_every_operation_can_be_made_to_fail(operation: str, call: Callable[[Machine], object]) -> None:
    machine = Machine()
    machine.fs.disk.faults.append(Fault("/a", operation, (Effect(errno.EACCES),)))
    with pytest.raises(PermissionError):
        call(machine)


def test_reads_and_writes_can_fall_short() -> None:
    machine = Machine()
    file = machine.write("/a", b"0123456789")
    machine.fs.disk.faults += [Fault("/a", "write", (Effect(short=3),)), Fault("/a", "read", (Effect(short=2),))]
    assert file.pwrite(memoryview(b"abcdef"), 0) == 3
    assert file.pread(10, 0) == b"ab"
    assert file.pread(10, 0) == b"abc3456789"


@pytest.mark.parametrize(
    ("operation", "effect"),
    [("nonsense", Effect(errno.EIO)), ("stat", Effect(short=1)), ("write", Effect(corrupt=True)), ("read", Effect())],
)
def test_a_fault_that_means_nothing_is_refused(operation: str, effect: Effect) -> None:
    with pytest.raises(ConfigurationError):
        Fault("/a", operation, (effect,))


def test_operations_cost_time() -> None:
    machine = Machine()
    timing = machine.fs.disk.timing
    file = machine.write("/a", b"x" * (1 << 20))
    cheap = machine.fs.disk.take_ns()
    assert 2 * timing.call_ns < cheap < timing.flush_latency_ns
    assert machine.fs.disk.take_ns() == 0
    file.sync()
    assert machine.fs.disk.take_ns() > timing.flush_latency_ns + timing.transfer_ns(1 << 20)
    file.sync()
    assert machine.fs.disk.take_ns() == timing.call_ns  # nothing to do
    machine.crash()
    file = machine.open("/a")
    machine.fs.disk.take_ns()
    file.pread(1, 0)
    assert machine.fs.disk.take_ns() >= timing.read_latency_ns + timing.transfer_ns(1 << 20)
    file.pread(1, 0)
    assert machine.fs.disk.take_ns() < timing.read_latency_ns


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="ext4-ordered, posix"):
        Disk("ntfs")
