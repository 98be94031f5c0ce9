"""Choice of the disk on which SQLite opens a database: the simulated one inside of a world, else the real one."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any

from simloop.shims import static_types
from simloop.world import active

if TYPE_CHECKING:
    from simloop.world.world import World

# The most that SQLite asks for: the state of RC4 in older versions, the key and nonce of ChaCha in newer ones.
_SEED_SIZE = 256
_REMEDY = "use ':memory:', or replace it in the test"


def _is_linked() -> bool:
    """Return True if the SQLite library that simloop calls is the one that `_sqlite3` uses, which may have one built
    in."""
    try:
        from simloop.shims.sqlite3 import vfs

        with active.world_entered(None):
            sqlite3.connect(f"file::memory:?vfs={vfs.NAME.decode()}", uri=True).close()
    except (AttributeError, OSError, sqlite3.OperationalError):
        return False
    return static_types.has_flags(sqlite3.Connection)


def install() -> None:
    """Register the simulated VFS (SQLite's file system layer) and replace the methods of `sqlite3`, if that is
    possible."""
    global _vfs
    if _is_linked():
        from simloop.shims.sqlite3 import calls, vfs

        calls.install()
        _vfs = vfs


_vfs: Any = None
# The world whose databases have been opened.
_world: World | None = None


class _End:
    """Hook for the end of a world: closes its files in the SQLite library, and makes the real VFS the default again."""

    def forget(self) -> None:
        global _world
        _world = None
        _vfs.release()
        _vfs.make_default(simulated=False)
        _vfs.seed()


def _check(database: Any) -> None:
    name = os.fsdecode(database) if isinstance(database, (str, bytes, os.PathLike)) else ""
    if not name.startswith("file:") or ":memory:" in name or "mode=memory" in name:
        return
    if "vfs=" in name and "vfs=memdb" not in name:
        raise active.escape("an sqlite3 database with a VFS of its own", _REMEDY)
    if "cache=shared" in name:
        # It goes by paths alone: all hosts would share it.
        raise active.escape("an sqlite3 database in a shared cache", "open it without cache=shared")


def opening(database: Any) -> None:
    """Make the simulated VFS (SQLite's file system layer) or the real one the default, for `database`, which is about
    to be opened."""
    global _world
    world = active.here()
    simulated = world is not None and not world.reaching_out
    if _vfs is None:
        if simulated and database != ":memory:":
            raise active.escape("an sqlite3 database", _REMEDY)
        return
    if world is not None and simulated:
        _check(database)
        if _world is not world:
            # Whoever draws may be preempted: nothing may come in between afterwards.
            entropy = world.choices.entropy.randbytes(_SEED_SIZE)
            _world = world
            world.root.kept.append(_End())
            _vfs.make_default(simulated=True)
            _vfs.seed(entropy)
            return
    _vfs.make_default(simulated=simulated)
