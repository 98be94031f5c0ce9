"""Nothing that the store has promised to keep is lost, whenever the power is cut and whatever the disk makes of it."""

from __future__ import annotations

import contextlib
import random

import pytest
from mistakes import NoFsyncBeforeRename, NoFsyncOfDirectory, TrustsTheTail
from store import Store

import simloop

DIRECTORY = "/srv/kv"


async def keeps_its_promises(sim: simloop.Sim, kind: type[Store], profile: str = "posix") -> None:
    db = sim.host("db")
    # posix: anything that fsync(2) does not rule out. As ext4 orders things, the directory need not be synced.
    db.fs.profile = profile
    db.fs.write_tree({DIRECTORY: {}})
    promised: dict[str, str] = {}
    attempted: dict[str, str] = {}

    async def fill() -> None:
        store = kind(DIRECTORY)
        for number in range(6):
            key, value = f"key{number % 3}", f"value {number} " * random.randint(1, 1000)
            attempted[key] = value
            store.put(key, value)
            promised[key] = value
            if number == 3:
                store.compact()

    async def read() -> dict[str, str]:
        return kind(DIRECTORY).items()

    db.may_crash()
    with contextlib.suppress(simloop.HostCrashedError):
        await db.run(fill)
    db.crash()
    db.restart()
    found = await db.run(read)
    for key, value in promised.items():
        assert found.get(key) in (value, attempted[key]), f"{key} was promised to be {value[:7]!r}..."
    assert found.keys() <= attempted.keys()


async def test_the_store(sim: simloop.Sim) -> None:
    await keeps_its_promises(sim, Store)


@pytest.mark.parametrize("mistake", [NoFsyncBeforeRename, NoFsyncOfDirectory, TrustsTheTail])
async def test_a_mistake(sim: simloop.Sim, mistake: type[Store]) -> None:
    await keeps_its_promises(sim, mistake)
