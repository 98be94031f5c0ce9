"""`os.listdir` and `os.scandir` over the files of the current simulated process."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from typing import Any

from simloop.shims.paths import declare_support, do, inside, is_real, lstat, named, stat

_real_listdir = os.listdir
_real_scandir = os.scandir


def listdir(path: Any = ".") -> list[Any]:
    world = inside()
    name = "." if path is None else named(path)
    if world is None or is_real(world, name):
        found: list[Any] = _real_listdir(path)
        return found
    names: list[str] = do(world, world.files().listdir, name, shown=path)
    return [os.fsencode(name) for name in names] if _wants_bytes(path) else names


def _wants_bytes(path: Any) -> bool:
    return path is not None and not isinstance(path, int) and isinstance(os.fspath(path), bytes)


class DirEntry:
    """What `os.scandir` yields inside a world: `os.DirEntry` cannot be made by hand."""

    __slots__ = ("_base", "_inode", "_lstat", "_stat", "name", "path")

    def __init__(self, name: Any, path: Any, base: int | None) -> None:
        self.name = name
        self.path = path
        self._base = base
        self._stat: os.stat_result | None = None
        self._lstat: os.stat_result | None = None
        # Known without a further look, as from readdir(3).
        self._inode: int | None = None

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        if self._lstat is None:
            self._lstat = self._look(False)
        if not follow_symlinks or not self.is_symlink():
            return self._lstat
        if self._stat is None:
            self._stat = self._look(True)
        return self._stat

    def _look(self, follow: bool) -> os.stat_result:
        if self._base is not None:
            return stat(self.name, dir_fd=self._base, follow_symlinks=follow)
        return stat(self.path, follow_symlinks=follow)

    def _is(self, kind: int, follow_symlinks: bool) -> bool:
        try:
            return self.stat(follow_symlinks=follow_symlinks).st_mode & 0o170000 == kind
        except FileNotFoundError:
            return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(0o040000, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(0o100000, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._is(0o120000, False)

    def is_junction(self) -> bool:
        return False

    def inode(self) -> int:
        return self.stat(follow_symlinks=False).st_ino

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


os.PathLike.register(DirEntry)


class _Entries:
    """The iterator and context manager that `os.scandir` returns."""

    def __init__(self, entries: Iterator[DirEntry]) -> None:
        self._entries = entries

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> DirEntry:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


def scandir(path: Any = None) -> Any:
    world = inside()
    name = "." if path is None else named(path)
    if world is None or is_real(world, name):
        return _real_scandir(path)
    names: list[str] = do(world, world.files().listdir, name, shown=path)
    if isinstance(name, int):
        return _Entries(iter([DirEntry(inner, inner, name) for inner in names]))
    top: Any = "." if path is None else os.fspath(path)
    shown: list[Any] = [os.fsencode(inner) for inner in names] if isinstance(top, bytes) else list(names)
    return _Entries(iter([DirEntry(inner, os.path.join(top, inner), None) for inner in shown]))


def install() -> None:
    """What no replacement of an attribute can do."""
    declare_support({"listdir": listdir, "scandir": scandir}, {"listdir": _real_listdir, "scandir": _real_scandir})


# Classes of the module glob that take functions of os when they are made, from 3.13 on.
_GLOBBERS = [owner for name, owner in vars(glob).items() if name.endswith("Globber")]
_TAKEN: dict[str, tuple[object, Callable[..., Any]]] = {"lstat": (os.lstat, lstat), "scandir": (os.scandir, scandir)}

REPLACEMENTS: list[tuple[object, str, object]] = [
    (os, "listdir", listdir),
    (os, "scandir", scandir),
    *(
        (owner, name, staticmethod(shim))
        for owner in _GLOBBERS
        for name, (real, shim) in _TAKEN.items()
        if name in vars(owner) and getattr(owner, name) is real
    ),
]
