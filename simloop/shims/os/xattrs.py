"""Shims of the functions of `os` for extended attributes, over the files of the current simulated process."""

from __future__ import annotations

import os
from typing import Any

from simloop.shims.late import real
from simloop.shims.os.paths import current_world, is_real, named, syscall
from simloop.shims.patch import builtin

_real = real(__name__)


def getxattr(path: Any, attribute: Any, *, follow_symlinks: bool = True) -> bytes:
    world = current_world()
    if (
        world is None
        or is_real(world, name := named(path), None, follow_symlinks)
        or not isinstance(what := named(attribute), str)
    ):
        return _real["getxattr"](path, attribute, follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]
    value: bytes = syscall(world, world.files().getxattr, name, what, follow=follow_symlinks, shown=path)
    return value


def setxattr(path: Any, attribute: Any, value: Any, flags: int = 0, *, follow_symlinks: bool = True) -> None:
    world = current_world()
    if (
        world is None
        or is_real(world, name := named(path), None, follow_symlinks)
        or not isinstance(what := named(attribute), str)
        or isinstance(value, str)
    ):
        return _real["setxattr"](path, attribute, value, flags, follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]
    data = bytes(memoryview(value))
    syscall(world, world.files().setxattr, name, what, data, flags, follow=follow_symlinks, shown=path)
    return None


def removexattr(path: Any, attribute: Any, *, follow_symlinks: bool = True) -> None:
    world = current_world()
    if (
        world is None
        or is_real(world, name := named(path), None, follow_symlinks)
        or not isinstance(what := named(attribute), str)
    ):
        return _real["removexattr"](path, attribute, follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]
    syscall(world, world.files().removexattr, name, what, follow=follow_symlinks, shown=path)
    return None


def listxattr(path: Any = None, *, follow_symlinks: bool = True) -> list[str]:
    world = current_world()
    if world is None or is_real(world, name := named("." if path is None else path), None, follow_symlinks):
        return _real["listxattr"](path, follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]
    found: list[str] = syscall(world, world.files().listxattr, name, follow=follow_symlinks, shown=path)
    return found


REPLACEMENTS: list[tuple[object, str, object]] = [(os, name, builtin(globals()[name])) for name in _real]
