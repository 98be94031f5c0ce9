"""Libraries over SQLite, on databases in files of the simulated disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import simloop

for library in ("aiosqlite", "sqlalchemy"):
    pytest.importorskip(library, reason=f"{library} is not installed: pip install pytest-simloop[libraries]")

pytestmark = pytest.mark.filterwarnings("ignore::simloop.BlockingCallWarning")


def test_aiosqlite(tmp_path: Path) -> None:
    import aiosqlite

    async def main() -> Any:
        async def work() -> None:
            async with aiosqlite.connect(tmp_path / "data.db", timeout=60) as database:
                for _ in range(5):
                    await database.execute("begin immediate")
                    async with database.execute("select n from t") as cursor:
                        (n,) = await cursor.fetchone()
                    await database.execute("update t set n = ?", (n + 1,))
                    await database.commit()

        async with aiosqlite.connect(tmp_path / "data.db") as database:
            await database.execute("create table t as select 0 as n")
            await database.commit()
            await asyncio.gather(work(), work(), work())
            assert await (await database.execute("select n from t")).fetchone() == (15,)

    assert simloop.explore(main, runs=20).failure is None
    assert not list(tmp_path.iterdir())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data.db"
    assert not list(tmp_path.iterdir())


def test_sqlalchemy(database: Path) -> None:
    import sqlalchemy
    from sqlalchemy import orm

    async def main() -> None:
        base: Any = orm.declarative_base()

        class User(base):  # type: ignore[misc]
            __tablename__ = "users"
            id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
            name = sqlalchemy.Column(sqlalchemy.String, unique=True)

        engine = sqlalchemy.create_engine(f"sqlite:///{database}")
        base.metadata.create_all(engine)
        with orm.Session(engine) as session:
            session.add_all([User(name=f"user {number}") for number in range(10)])
            session.commit()
        with orm.Session(engine) as session:
            session.add(User(name="user 1"))
            with pytest.raises(sqlalchemy.exc.IntegrityError):
                session.commit()
        with orm.Session(engine) as session:
            assert session.query(User).count() == 10
        engine.dispose()

    simloop.run(main)


def test_sqlalchemy_over_aiosqlite(database: Path) -> None:
    import sqlalchemy
    from sqlalchemy.ext.asyncio import create_async_engine

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
        async with engine.begin() as connection:
            await connection.execute(sqlalchemy.text("create table t (a)"))
            await connection.execute(sqlalchemy.text("insert into t values (1)"))
        async with engine.connect() as connection:
            assert (await connection.execute(sqlalchemy.text("select a from t"))).scalar() == 1
        await engine.dispose()

    simloop.run(main)
