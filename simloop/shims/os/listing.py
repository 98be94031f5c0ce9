"""Shims of `os.listdir` and `os.scandir` over the files of the current simulated process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING, Any

from simloop.shims.late import real
from simloop.shims.os.paths import current_world, is_real, named, plain, stat, syscall
from simloop.shims.patch import builtin

if TYPE_CHECKING:
    from simloop.kernel.files.calls import Entry

_real = real(__name__)


def listdir(path: Any = ".") -> list[Any]:
    world = current_world()
    name = "." if path is None else named(path)
    if world is None or is_real(world, name):
        found: list[Any] = _real["listdir"](path)
        return found
    names: list[str] = syscall(world, world.files().listdir, name, shown=_shown(path))
    return [os.fsencode(name) for name in names] if _wants_bytes(path) else names


def _shown(path: Any) -> Any:
    # list_fd_error() in Modules/posixmodule.c names no descriptor.
    return None if isinstance(path, int) else path


def _wants_bytes(path: Any) -> bool:
    return path is not None and not isinstance(path, int) and isinstance(plain(path), bytes)


class DirEntry:
    """Directory entry that `os.scandir` yields inside a world. It replaces `os.DirEntry`, which Python code cannot
    create."""

    __slots__ = ("_base", "_entry", "_lstat", "_stat", "name", "path")

    def __init__(self, name: Any, path: Any, entry: Entry, base: int | None) -> None:
        self.name = name
        self.path = path
        self._base = base
        # Known without a further look, and true of what was there when the directory was read.
        self._entry = entry
        self._stat: os.stat_result | None = None
        self._lstat: os.stat_result | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # for isinstance(entry, os.DirEntry)
        return os.DirEntry

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        if not follow_symlinks or not self.is_symlink():
            if self._lstat is None:
                self._lstat = self._look(False)
            return self._lstat
        if self._stat is None:
            self._stat = self._look(True)
        return self._stat

    def _look(self, follow: bool) -> os.stat_result:
        if self._base is not None:
            return stat(self.name, dir_fd=self._base, follow_symlinks=follow)
        return stat(self.path, follow_symlinks=follow)

    def _is(self, test: Callable[[int], bool], follow_symlinks: bool) -> bool:
        if not follow_symlinks or not self.is_symlink():
            return test(self._entry.kind)
        try:
            return test(self.stat().st_mode)
        except FileNotFoundError:
            return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(S_ISREG, follow_symlinks)

    def is_symlink(self) -> bool:
        return S_ISLNK(self._entry.kind)

    def is_junction(self) -> bool:
        return False

    def inode(self) -> int:
        return self._entry.ino

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle 'posix.DirEntry' object")


os.PathLike.register(DirEntry)


class _Entries:
    """Iterator and context manager that `os.scandir` returns."""

    _entries: Iterator[DirEntry] | None = None

    def __init__(self, entries: Iterator[DirEntry]) -> None:
        self._entries = entries

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> DirEntry:
        if self._entries is None:
            raise StopIteration
        try:
            return next(self._entries)
        except StopIteration:
            self.close()
            raise

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = None

    def __repr__(self) -> str:
        return f"<posix.ScandirIterator object at {id(self):#x}>"

    def __del__(self) -> None:
        if self._entries is not None:
            self.close()
            warnings.warn(f"unclosed scandir iterator {self!r}", ResourceWarning, stacklevel=2, source=self)


def scandir(path: Any = None) -> Any:
    world = current_world()
    name = "." if path is None else named(path)
    if world is None or is_real(world, name):
        return _real["scandir"](path)
    entries: list[Entry] = syscall(world, world.files().entries, name, shown=_shown(path))
    if isinstance(name, int):
        return _Entries(iter([DirEntry(entry.name, entry.name, entry, name) for entry in entries]))
    top: Any = "." if path is None else plain(path)
    shown: Callable[[str], Any] = os.fsencode if isinstance(top, bytes) else str
    return _Entries(
        iter([DirEntry(inner := shown(entry.name), os.path.join(top, inner), entry, None) for entry in entries])
    )


REPLACEMENTS: list[tuple[object, str, object]] = [(os, "listdir", builtin(listdir)), (os, "scandir", builtin(scandir))]
