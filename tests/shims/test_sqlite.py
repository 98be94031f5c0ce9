"""SQLite's databases in files, on the simulated disk: the same results as outside, and what a power cut leaves."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sizes import examples

import simloop
from simloop.kernel import stacks
from simloop.shims import late
from simloop.shims.sqlite3 import opening
from simloop.world import active

pytestmark = [
    pytest.mark.filterwarnings("ignore::simloop.BlockingCallWarning"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]

Program = Callable[[str], object]


@pytest.fixture(autouse=True)
def _finalized() -> Iterator[None]:
    """Connections are finalized while the filters of warnings are in force."""
    yield
    gc.collect()


def error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except sqlite3.Error as error:
        return f"{type(error).__name__}: {error} ({getattr(error, 'sqlite_errorname', None)})"
    return "no error"


def filled(path: str, rows: int = 100, **options: Any) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(path, **options)
    with connection:
        connection.execute("create table t (k integer primary key, v text)")
        connection.executemany("insert into t values (?, ?)", [(row, "old" * 100) for row in range(rows)])
    return connection


# --- programs that give the same in the real world ------------------------------------------------------


def transactions(path: str) -> object:
    connection = filled(path)
    with contextlib.suppress(ZeroDivisionError), connection:
        connection.execute("delete from t")
        raise ZeroDivisionError
    with connection:
        connection.execute("update t set v = 'new' where k < 10")
    found = connection.execute("select v, count(*) from t group by v order by v").fetchall()
    connection.close()
    return found, os.path.getsize(path), sorted(os.listdir(os.path.dirname(path)))


def journals(path: str) -> object:
    connection = filled(path)
    found: list[object] = []
    for mode in ("truncate", "persist", "memory", "off", "delete"):
        found += connection.execute(f"pragma journal_mode = {mode}").fetchall()
        with connection:
            connection.execute("update t set v = ?", (mode,))
            found.append(sorted(os.listdir(os.path.dirname(path))))
        found.append(sorted(os.listdir(os.path.dirname(path))))
    return found


def two_connections(path: str) -> object:
    first = filled(path, timeout=0.1)
    second = sqlite3.connect(path, timeout=0.1)
    first.execute("begin immediate")
    first.execute("update t set v = 'new'")
    before = second.execute("select distinct v from t").fetchall()
    found = [before, error_of(lambda: second.execute("begin immediate"))]
    reading = second.execute("select * from t")
    reading.fetchone()
    found.append(error_of(first.commit))
    reading.close()
    first.commit()
    return [*found, second.execute("select distinct v from t").fetchall()]


def exclusive(path: str) -> object:
    first = filled(path)
    second = sqlite3.connect(path, timeout=0)
    first.execute("begin exclusive")
    found = [error_of(lambda: second.execute("select * from t"))]
    first.close()
    return [*found, second.execute("select count(*) from t").fetchall()]


def names(path: str) -> object:
    filled(path).close()
    os.symlink(path, path + ".link")
    os.chdir(os.path.dirname(path))
    name = os.path.basename(path)
    opened = [
        sqlite3.connect(path.encode()),
        sqlite3.connect(Path(path)),
        sqlite3.connect(name),
        sqlite3.connect(f"file:{path}?mode=ro", uri=True),
        sqlite3.connect(f"file:{name}", uri=True),
        sqlite3.connect(path + ".link"),
    ]
    found = [[row[2] for row in connection.execute("pragma database_list")] for connection in opened]
    counts = [connection.execute("select count(*) from t").fetchone() for connection in opened]
    with sqlite3.connect(path + ".link") as connection:
        connection.execute("delete from t")
        there = sorted(os.listdir("."))
    return [[file == path for file in row] for row in found], counts, there


def not_opened(path: str) -> object:
    missing = os.path.join(path, "missing", "file")
    Path(path + ".text").write_text("no database" * 100)
    return [
        error_of(lambda: sqlite3.connect(missing)),
        error_of(lambda: sqlite3.connect(os.path.dirname(path))),
        error_of(lambda: sqlite3.connect(f"file:{path}?mode=rw", uri=True)),
        error_of(lambda: sqlite3.connect(f"file:{path}?mode=wrong", uri=True)),
        error_of(lambda: sqlite3.connect(path + ".text").execute("select * from t")),
        error_of(lambda: filled(path).execute(f"attach '{missing}' as other")).replace(missing, "missing"),
    ]


def read_only(path: str) -> object:
    filled(path).close()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    error = error_of(lambda: connection.execute("delete from t"))
    return error, connection.execute("select count(*) from t").fetchall()


def attached(path: str) -> object:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"attach '{path}' as other")
    with connection:
        connection.execute("create table other.t (a)")
        connection.execute("create table main.t (a)")
        connection.execute("insert into other.t values (1)")
    connection.close()
    return sqlite3.connect(path).execute("select * from t").fetchall()


def copied(path: str) -> object:
    connection = filled(path)
    other = sqlite3.connect(path + ".copy")
    steps: list[tuple[int, ...]] = []
    connection.backup(other, pages=3, progress=lambda *step: steps.append(step))
    text = list(connection.iterdump())
    with connection:
        connection.execute("delete from t where k > 10")
    connection.execute("vacuum")
    return steps, len(text), other.execute("select count(*) from t").fetchall(), os.path.getsize(path)


def temporary(path: str) -> object:
    connection = sqlite3.connect("")
    connection.execute("pragma cache_size = 1")
    with connection:
        connection.execute("create table t (a)")
        connection.executemany("insert into t values (?)", [("x" * 1000,) for _ in range(500)])
    shared = [sqlite3.connect("file::memory:?cache=shared", uri=True) for _ in range(2)]
    with shared[0]:
        shared[0].execute("create table t as select 1 as a")
    found = shared[1].execute("select * from t").fetchall()
    for each in shared:
        each.close()
    return connection.execute("select count(*), sum(length(a)) from t").fetchall(), found


def factories(path: str) -> object:
    class Derived(sqlite3.Connection):
        pass

    class Initialized(sqlite3.Connection):
        def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(name + ".derived", *args, **kwargs)

    filled(path, factory=Derived).close()
    filled(path, factory=Initialized).close()
    Derived(path).execute("select * from t").close()
    return sorted(os.listdir(os.path.dirname(path)))


def many_rows(path: str) -> object:
    connection = filled(path, 3000, detect_types=sqlite3.PARSE_DECLTYPES)
    connection.row_factory = sqlite3.Row
    connection.create_function("twice", 1, lambda value: value * 2)
    with connection:
        connection.execute("create index i on t (v, k)")
        connection.execute("insert into t select k + 10000, 'x' from t")
    cursor = connection.execute("select twice(k) from t order by v, k")
    blob = connection.blobopen("t", "v", 7, readonly=True)
    return sum(row[0] for row in cursor), blob.read(10), connection.execute("pragma integrity_check").fetchone()[0]


def in_threads(path: str) -> object:
    filled(path).close()

    def work() -> None:
        connection = sqlite3.connect(path, timeout=60)
        for _ in range(10):
            with connection:
                connection.execute("begin immediate")
                (value,) = connection.execute("select max(k) from t").fetchone()
                connection.execute("insert into t values (?, '')", (value + 1,))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sqlite3.connect(path).execute("select count(*), max(k) from t").fetchall()


PROGRAMS = [
    transactions, journals, two_connections, exclusive, names, not_opened, read_only, attached, copied, temporary,
    factories, many_rows, in_threads,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_same_as_outside(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "simulated").mkdir()
    expected = program(str(tmp_path / "real/data.db"))

    async def main() -> object:
        return program(str(tmp_path / "simulated/data.db"))

    assert simloop.run(main) == expected
    assert not list((tmp_path / "simulated").iterdir())


def test_permissions() -> None:
    async def main() -> None:
        os.mkdir("/tmp/mine")
        filled("/tmp/mine/data.db").close()
        os.chmod("/tmp/mine/data.db", 0o444)
        os.chmod("/tmp/mine", 0o555)
        world = active.here()
        assert world is not None
        credentials = world.files().credentials
        world.files().credentials = credentials._replace(uid=1000, gid=1000)
        connection = sqlite3.connect("/tmp/mine/data.db")
        assert connection.execute("select count(*) from t").fetchone() == (100,)
        with pytest.raises(sqlite3.OperationalError, match="attempt to write a readonly database"):
            connection.execute("delete from t")
        with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
            sqlite3.connect("/tmp/mine/other.db")

    simloop.run(main)


# --- time and randomness --------------------------------------------------------------------------------


def test_waits_for_locks_in_virtual_time() -> None:
    async def main() -> tuple[float, str]:
        first = filled("/tmp/data.db")
        first.execute("begin immediate")
        second = sqlite3.connect("/tmp/data.db", timeout=5)
        began = time.monotonic()
        error = error_of(lambda: second.execute("begin immediate"))
        return time.monotonic() - began, error

    took, error = simloop.run(main)
    assert error == "OperationalError: database is locked (SQLITE_BUSY)"
    assert 5 <= took < 5.1


def test_what_is_random_follows_from_the_seed() -> None:
    async def main() -> list[Any]:
        found = sqlite3.connect(":memory:").execute("select random(), hex(randomblob(8)), datetime('now')").fetchall()
        filled("/tmp/data.db").execute("begin immediate").execute("delete from t")
        return [*found, Path("/tmp/data.db-journal").read_bytes()]

    first = simloop.run(main, seed=1)
    assert simloop.run(main, seed=1) == first
    assert simloop.run(main, seed=2) != first
    assert first[0][2].startswith("2026-01-01 00:00:0")
    real = [sqlite3.connect(":memory:").execute("select random(), datetime('now')").fetchone() for _ in range(2)]
    assert real[0][0] != real[1][0]
    assert not real[0][1].startswith("2026-01-01 00:00:0")


def test_a_backup_waits_in_virtual_time() -> None:
    async def main() -> float:
        connection = filled("/tmp/data.db")
        other = sqlite3.connect("/tmp/data.db", check_same_thread=False)
        other.execute("begin exclusive")
        threading.Timer(3000, other.rollback).start()
        connection.backup(sqlite3.connect("/tmp/copy.db"))
        return simloop.current().elapsed

    assert 3000 <= simloop.run(main) < 3001


# --- threads and processes ------------------------------------------------------------------------------


def test_threads_share_a_connection() -> None:
    """While one waits for the database, in the middle of the library, others wait for the connection."""

    async def main() -> list[tuple[int, ...]]:
        shared = filled("/tmp/data.db", 0, check_same_thread=False, timeout=60)
        other = sqlite3.connect("/tmp/data.db")
        other.execute("begin immediate")
        work = [asyncio.to_thread(shared.execute, "insert into t values (?, '')", (n,)) for n in range(3)]
        going_on = asyncio.gather(*work)
        await asyncio.sleep(1)
        other.rollback()
        await going_on
        shared.commit()
        return other.execute("select k from t order by k").fetchall()

    report = simloop.explore(main, runs=30)
    assert report.failure is None
    assert simloop.run(main) == [(0,), (1,), (2,)]


def lost_update(begin: str) -> Callable[[], Any]:
    async def main() -> None:
        sim = simloop.current()
        host = sim.host("db")

        async def prepare() -> None:
            with sqlite3.connect("/data.db") as connection:
                connection.execute("create table t as select 0 as n")

        async def work() -> None:
            connection = sqlite3.connect("/data.db", timeout=60, isolation_level=None)
            for _ in range(3):
                connection.execute(begin)
                (n,) = connection.execute("select n from t").fetchone()
                connection.execute("update t set n = ?", (n + 1,))
                connection.execute("commit" if begin != "select 1" else "select 1")

        await host.run(prepare)
        await asyncio.gather(host.run(work), host.run(work))

        async def check() -> None:
            assert sqlite3.connect("/data.db").execute("select n from t").fetchone() == (6,)

        await host.run(check)

    return main


def test_two_processes_and_one_database() -> None:
    assert simloop.explore(lost_update("begin immediate"), runs=50).failure is None
    found = simloop.explore(lost_update("select 1"), runs=50).failure
    assert found is not None
    assert isinstance(found.exception, AssertionError)


def test_a_killed_process_leaves_its_locks() -> None:
    async def main() -> None:
        sim = simloop.current()
        host = sim.host("db")

        async def holder() -> None:
            connection = filled("/data.db")
            connection.execute("begin exclusive")
            connection.execute("delete from t")
            await asyncio.sleep(100)

        async def reader() -> tuple[int]:
            found: tuple[int] = sqlite3.connect("/data.db", timeout=1).execute("select count(*) from t").fetchone()
            return found

        holding = asyncio.ensure_future(host.run(holder))
        await asyncio.sleep(1)
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            await host.run(reader)
        host.crash()
        with contextlib.suppress(BaseException):
            await holding
        host.restart()
        assert await host.run(reader) in [(100,), (0,)]

    simloop.run(main)


def test_processes_may_go_on_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        host = simloop.current().host("db")

        async def work(number: int) -> None:
            connection = sqlite3.connect("/data.db", timeout=60)
            connection.execute("create table if not exists t (a)")
            for step in range(5):
                time.sleep(0.01 * ((7 * step + 3 * number) % 4) + 0.001)
                connection.execute("select * from t").fetchall()
                await asyncio.sleep(0.01)

        await asyncio.gather(*(host.run(functools.partial(work, number)) for number in range(3)))

    monkeypatch.setattr(stacks, "_greenlet", lambda: None)
    assert simloop.explore(main, runs=10).failure is None


# --- faults ---------------------------------------------------------------------------------------------


def power_cut(synchronous: str, model: str) -> Callable[[], Any]:
    async def main() -> None:
        host = simloop.current().host("db")
        host.fs.profile = model
        seen: list[sqlite3.Error] = []

        async def work() -> None:
            connection = filled("/data.db")
            connection.execute(f"pragma synchronous = {synchronous}")
            os.sync()
            host.may_crash()
            try:
                with connection:
                    connection.execute("update t set v = ?", ("new" * 100,))
                with connection:
                    connection.execute("delete from t where k % 2")
            except sqlite3.Error as error:
                seen.append(error)

        try:
            await host.run(work)
        except simloop.HostCrashedError:
            host.restart()

        async def check() -> None:
            connection = sqlite3.connect("/data.db")
            assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
            found = connection.execute("select count(*), min(v), max(v) from t").fetchone()
            old, new = "old" * 100, "new" * 100
            assert found in [(100, old, old), (100, new, new), (50, new, new)]

        await host.run(check)
        # Code that has lost its power sees nothing any more.
        assert not seen

    return main


@pytest.mark.parametrize("model", ["ext4-ordered", "posix"])
@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_a_power_cut_leaves_a_transaction_whole(synchronous: str, model: str) -> None:
    report = simloop.explore(power_cut(synchronous, model), runs=examples(200))
    assert report.failure is None


@pytest.mark.parametrize("model", ["ext4-ordered", "posix"])
def test_a_power_cut_tears_what_is_not_synced(model: str) -> None:
    found = simloop.explore(power_cut("off", model), runs=200).failure
    assert found is not None
    assert isinstance(found.exception, (AssertionError, sqlite3.DatabaseError))


def test_full_disk() -> None:
    async def main() -> None:
        connection = filled("/tmp/data.db")
        fs = simloop.current().fs
        fs.capacity = 24 * 4096
        with pytest.raises(sqlite3.OperationalError, match="database or disk is full"), connection:
            connection.executemany("insert into t values (?, ?)", [(row, "x" * 1000) for row in range(1000, 2000)])
        assert connection.execute("select count(*) from t").fetchone() == (100,)

    simloop.run(main)


def test_injected_faults() -> None:
    async def main() -> list[str]:
        connection = filled("/tmp/data.db")
        fs = simloop.current().fs
        found: list[str] = []
        for operation in ("write", "fsync"):
            with fs.fault(operation, errno.EIO, path="data.db"):
                found.append(error_of(lambda: connection.execute("delete from t").connection.commit()))
            connection.rollback()
        return [*found, connection.execute("pragma integrity_check").fetchone()[0]]

    assert simloop.run(main) == [
        "OperationalError: disk I/O error (SQLITE_IOERR_WRITE)",
        "OperationalError: disk I/O error (SQLITE_IOERR_FSYNC)",
        "ok",
    ]


# --- the edges of the simulation ------------------------------------------------------------------------


def test_databases_of_the_real_world_stay_real(tmp_path: Path) -> None:
    real = filled(str(tmp_path / "data.db"))

    async def main() -> tuple[int, ...]:
        simulated = sqlite3.connect(tmp_path / "data.db")
        with simulated:
            simulated.execute("delete from t")
        found: tuple[int, ...] = real.execute("select count(*) from t").fetchone()
        return (*found, *simulated.execute("select count(*) from t").fetchone())

    assert simloop.run(main) == (100, 0)
    assert real.execute("select count(*) from t").fetchone() == (100,)
    with sqlite3.connect(tmp_path / "data.db") as again:
        assert again.execute("select count(*) from t").fetchone() == (100,)


def test_a_connection_ends_with_its_run(tmp_path: Path) -> None:
    async def main() -> sqlite3.Connection:
        connection = filled(str(tmp_path / "data.db"))
        connection.execute("begin immediate").execute("delete from t")
        return connection

    connection = simloop.run(main)
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        connection.commit()
    connection.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["vfs=unix", "cache=shared"])
def test_what_goes_past_the_simulated_disk_escapes(option: str, tmp_path: Path) -> None:
    async def main() -> None:
        sqlite3.connect(f"file:{tmp_path}/data.db?{option}", uri=True)

    with pytest.raises(simloop.EscapedSimulationError, match="an sqlite3 database"):
        simloop.run(main)
    assert not list(tmp_path.iterdir())


def test_a_library_that_is_built_in_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
        sqlite3.connect(tmp_path / "data.db")

    late.load(opening.__name__)  # so that it is not installed by the run, and taken back with the patch
    monkeypatch.setattr(opening, "_vfs", None)
    with pytest.raises(simloop.EscapedSimulationError, match="an sqlite3 database"):
        simloop.run(main)
    assert not list(tmp_path.iterdir())


def test_write_ahead_log_falls_back() -> None:
    async def main() -> Any:
        return filled("/tmp/data.db").execute("pragma journal_mode = wal").fetchone()

    assert simloop.run(main) == ("delete",)
